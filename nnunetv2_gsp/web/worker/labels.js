// From logits to labels in the geometry of the stored image.

/** Return the labels (Z, Y, X) of the stored image. */
function labelsOf(logits, {box, shape, order, flips, spacing, newSpacing}, pipeline) {
  const resample = volume =>
    resampled(volume, box.shape, newSpacing, spacing, pipeline.resampling.probabilities).values;
  const decided = pipeline.regions_class_order
    ? labelsOfRegions(logits, resample, pipeline.regions_class_order)
    : largest(logits, resample);
  return restored(padded({values: decided, shape: box.shape}, box.low, shape), order, flips);
}

/** Return the number of the largest logit; only two volumes at a time are resampled, which saves memory. */
function largest(logits, resample) {
  const highest = resample(logits[0]).slice(), labels = new Uint16Array(highest.length);
  logits.slice(1).forEach((volume, number) => {
    const values = resample(volume);
    for (let i = 0; i < labels.length; ++i)
      if (values[i] > highest[i]) {
        highest[i] = values[i];
        labels[i] = number + 1;
      }
  });
  return labels;
}

/** Return labels of regions that lie over each other, later ones on top. */
function labelsOfRegions(logits, resample, order) {
  const labels = new Uint16Array(resample(logits[0]).length);
  logits.forEach((volume, region) => {
    const values = resample(volume);
    for (let i = 0; i < labels.length; ++i) if (values[i] > 0) labels[i] = order[region];  // its sigmoid exceeds 1/2
  });
  return labels;
}

/** Remove, in place, all but the largest component of some labels taken together; equally large ones all stay. */
function keepLargestComponent({values, shape}, {keep_largest_component_of, background_label}) {
  const belongs = new Set(keep_largest_component_of), component = new Int32Array(values.length), sizes = [0];
  for (let at = 0; at < values.length; ++at)
    if (!component[at] && belongs.has(values[at])) sizes.push(floodComponent(at, sizes.length));
  const largestSize = sizes.reduce((most, size) => Math.max(most, size), 0);
  for (let at = 0; at < values.length; ++at)
    if (component[at] && sizes[component[at]] < largestSize) values[at] = background_label;

  function floodComponent(first, number) {
    const stack = [first];
    let size = 0;
    component[first] = number;
    while (stack.length) {
      ++size;
      for (const next of neighbours(stack.pop(), shape))
        if (!component[next] && belongs.has(values[next])) {
          component[next] = number;
          stack.push(next);
        }
    }
    return size;
  }
}

/** Return the up to 27 voxels that touch a voxel, itself among them. */
function neighbours(at, shape) {
  const place = placeOf(at, shape), near = [];
  const [from, to] = [place.map(i => Math.max(i - 1, 0)), place.map((i, axis) => Math.min(i + 1, shape[axis] - 1))];
  for (let i = from[0]; i <= to[0]; ++i)
    for (let j = from[1]; j <= to[1]; ++j)
      for (let k = from[2]; k <= to[2]; ++k) near.push((i * shape[1] + j) * shape[2] + k);
  return near;
}
