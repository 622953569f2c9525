// Computes the network in a worker of its own, behind ONNX Runtime's script.

let session, patchSize, memory;

WebAssembly.Memory = new Proxy(WebAssembly.Memory, {  // the runtime does not tell how much it takes
  construct: (target, args) => (memory = new target(...args)),
});

self.onmessage = async ({data}) => {
  try {
    if (data.model) await open(data);
    else return await run(data);
    self.postMessage({});
  } catch (error) {
    self.postMessage({error: String(error?.message ?? error)});
  }
};

async function open({kind, glue, binary, model, patchSize: size, threads}) {
  patchSize = size;
  const mjs = URL.createObjectURL(new Blob([glue], {type: "text/javascript"}));
  Object.assign(ort.env.wasm, {numThreads: threads, wasmBinary: binary, wasmPaths: {mjs}});
  ort.env.logLevel = "error";
  const executionProviders = [kind];
  session = await ort.InferenceSession.create(new Uint8Array(model), {executionProviders});
}

/** Answer with the logits of a patch (channels, *patch) that is flipped along axes of three, flipped back. */
async function run({patch, axes}) {
  const nVoxels = patchSize.reduce((made, size) => made * size, 1), channels = patch.length / nVoxels;
  const image = new ort.Tensor("float32", flipped(patch, axes), [1, channels, ...patchSize]);
  const {logits} = await session.run({image});
  const answer = flipped(await logits.getData(), axes);
  logits.dispose();
  self.postMessage({logits: answer, memory: memory?.buffer.byteLength ?? 0}, [answer.buffer]);
}

/** Return a copy of maps (channels, *patch), reversed along some axes of (Z, Y, X). */
function flipped(maps, axes) {
  if (!axes.length) return maps.slice();
  const [depth, height, width] = [...Array(3 - patchSize.length).fill(1), ...patchSize];
  const made = new Float32Array(maps.length), planes = maps.length / (depth * height * width);
  for (let c = 0, at = 0; c < planes; ++c)
    for (let i = 0; i < depth; ++i)
      for (let j = 0; j < height; ++j, at += width) {
        const row = (c * depth + (axes.includes(0) ? depth - 1 - i : i)) * height;
        const from = (row + (axes.includes(1) ? height - 1 - j : j)) * width;
        const copy = maps.slice(from, from + width);
        made.set(axes.includes(2) ? copy.reverse() : copy, at);
      }
  return made;
}
