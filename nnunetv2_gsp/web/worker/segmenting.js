// Segments one case in a worker, so that the page stays alive; ending the worker cancels.

self.onmessage = async ({data: {channels, shape, spacing, affine, pipeline, runtimes, model}}) => {
  try {
    const began = performance.now();
    const report = progress => self.postMessage({progress});
    report({step: "Preparing the images"});
    const way = preprocessed(channels, shape, spacing, affine, pipeline);
    channels.length = 0;
    report({step: "Starting the network"});
    const pool = new Pool(runtimes, model, pipeline.sliding_window.patch_size);
    const logits = await slide(way.images, pool, report, pipeline.sliding_window);
    report({step: "Deciding on labels"});
    const labels = labelsOf(logits, way, pipeline);
    pipeline.postprocessing.forEach(step => keepLargestComponent(labels, step));
    const {kind, size, threads, memory, refusedGpu} = pool, seconds = (performance.now() - began) / 1000;
    self.postMessage({labels: labels.values, run: {kind, size, threads, memory, refusedGpu, seconds}});
  } catch (error) {
    self.postMessage({error: error instanceof RangeError ? "this browser's memory does not suffice" : error.message});
  }
};
