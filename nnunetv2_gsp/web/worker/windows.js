// Windows over an image, and the average of their logits.

/** Return where windows begin along an axis, evenly spread and overlapping by at least 1 - step of a patch. */
function startsOf(size, patch, step) {
  const gaps = Math.ceil((size - patch) / (patch * step));
  return Array.from({length: gaps + 1}, (_, i) => (gaps ? roundHalfEven((i * (size - patch)) / gaps) : 0));
}

/** Return the first voxel [z, y, x] of each window. */
function windowsOf(shape, patch, step) {
  const [first, second, third] = shape.map((size, axis) => startsOf(size, patch[axis], step));
  return first.flatMap(i => second.flatMap(j => third.map(k => [i, j, k])));
}

/** Return the weights of a window's voxels, a Gaussian around its middle; 1 along axes of one voxel. */
function gaussianWeights(patch, {sigma, peak}) {
  const factors = patch.map(size => {
    if (size === 1) return [1];
    const radius = Math.floor(4 * sigma * size + 0.5), middle = Math.floor(size / 2);
    const distances = Array.from({length: size}, (_, i) => Math.abs(i - middle));
    return distances.map(far => (far > radius ? 0 : Math.exp(-0.5 * (far / (sigma * size)) ** 2)));
  });
  const weights = new Float32Array(product(patch));
  let at = 0, least = Infinity;
  for (const one of factors[0])
    for (const two of factors[1])
      for (const three of factors[2]) {
        const weight = peak * one * two * three;
        weights[at++] = weight;
        if (weight >= SMALLEST_HALF) least = Math.min(least, weight);
      }
  return weights.map(weight => Math.max(weight, least));
}

const SMALLEST_HALF = 2 ** -24;  // nnU-Net's weights have half precision

/** Return the subsets of axes along which patches are flipped, none of them first. */
function flipsOf(axes) {
  return axes.reduce((flips, axis) => [...flips, ...flips.map(flip => [...flip, axis])], [[]]);
}

/** Return the logits of images, one volume for each output, averaged over windows and flips.
 *
 * pool.run(patch, axes) resolves to the logits (outputs, *patch) of a patch (channels, *patch) flipped along some axes,
 * flipped back; as many are computed at a time as pool.size says. */
async function slide(images, pool, report, {patch_size, step, gaussian, mirroring_axes}) {
  const missing = 3 - patch_size.length, patch = [...Array(missing).fill(1), ...patch_size];  // 2D lies in each slice
  const shape = images[0].shape, whole = shape.map((size, axis) => Math.max(size, patch[axis]));
  const low = whole.map((size, axis) => Math.floor((size - shape[axis]) / 2));
  const sources = images.map(image => padded(image, low, whole));
  const flips = flipsOf(mirroring_axes.map(axis => axis + missing));
  const passes = windowsOf(whole, patch, step).flatMap(start => flips.map(axes => ({start, axes})));
  const average = weightedAverage(whole, patch, gaussianWeights(patch, gaussian));
  await pool.open(patchOf(sources, passes[0].start, patch), passes.length);

  const total = passes.length, began = performance.now();
  let done = 0;
  const compute = async () => {
    for (let pass; (pass = passes.shift()); ) {
      average.add(pass.start, await pool.run(patchOf(sources, pass.start, patch), pass.axes));
      ++done;
      const secondsLeft = ((performance.now() - began) / 1000 / done) * (total - done);
      report({window: Math.ceil(done / flips.length), windows: total / flips.length, part: done / total, secondsLeft});
    }
  };
  await Promise.all(Array.from({length: pool.size}, compute));
  return average.volumes().map(volume => cropped(volume, {low, shape}));
}

/** Return what adds up the logits of windows, and divides them by the sum of their weights. */
function weightedAverage(whole, patch, weights) {
  const weightSum = new Float32Array(product(whole)), nVoxels = weights.length;
  let sums = null;
  return {
    add(start, logits) {
      sums ??= Array.from({length: logits.length / nVoxels}, () => new Float32Array(weightSum.length));
      eachRow({low: start, shape: patch}, whole, (to, from, length) => {
        for (let i = 0; i < length; ++i) weightSum[to + i] += weights[from + i];
        sums.forEach((sum, output) => {
          const of = output * nVoxels + from;
          for (let i = 0; i < length; ++i) sum[to + i] += weights[from + i] * logits[of + i];
        });
      });
    },
    volumes() {
      for (const sum of sums) for (let i = 0; i < sum.length; ++i) sum[i] /= weightSum[i];
      return sums.map(values => ({values, shape: whole}));
    },
  };
}

/** Cut the patch (channels, *patch) that begins at a voxel. */
function patchOf(volumes, start, patch) {
  const nVoxels = product(patch), made = new Float32Array(volumes.length * nVoxels);
  volumes.forEach((volume, channel) =>
    made.set(cropped(volume, {low: start, shape: patch}).values, channel * nVoxels));
  return made;
}
