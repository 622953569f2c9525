// Resampling by splines of order 0, 1 or 3, as pipeline.json's `resampling` says and SciPy's ndimage computes them.

const EDGE = 12;  // voxels that repeat the border's value, so that a cubic spline does not see the border
const POLE = Math.sqrt(3) - 2;  // of the cubic B-spline's prefilter

/** Return a volume in another shape; axes along which voxels are long are resampled after the planes across them. */
function resampled(volume, newShape, spacing, newSpacing, how) {
  if (newShape.every((size, axis) => size === volume.shape[axis])) return volume;
  const apart = axisApart(spacing, newSpacing, how.force_separate_z, how.separate_z_anisotropy_threshold);
  if (apart === null) return clippedZoom(volume, newShape, how.order);
  return alongAxis(zoomedPlanes(volume, newShape, apart, how.order), apart, newShape[apart], how.order_z);
}

/** Return the axis that is resampled apart, or null if none is. */
function axisApart(spacing, newSpacing, forced, threshold) {
  if (forced === false) return null;
  for (const each of [spacing, newSpacing])
    if (forced || Math.max(...each) / Math.min(...each) > threshold) {
      const longest = [0, 1, 2].filter(axis => each[axis] === Math.max(...each));
      return longest.length === 1 ? longest[0] : null;
    }
  return null;
}

/** Resample each plane across an axis by itself. */
function zoomedPlanes(volume, newShape, apart, order) {
  const axes = [apart, ...[0, 1, 2].filter(axis => axis !== apart)];
  const stack = reoriented(volume, axes);
  const plane = axes.slice(1).map(axis => newShape[axis]);
  const size = stack.shape[1] * stack.shape[2], made = new Float32Array(stack.shape[0] * product(plane));
  for (let i = 0; i < stack.shape[0]; ++i) {
    const one = {values: stack.values.subarray(i * size, (i + 1) * size), shape: [1, ...stack.shape.slice(1)]};
    made.set(clippedZoom(one, [1, ...plane], order).values, i * product(plane));
  }
  return restored({values: made, shape: [stack.shape[0], ...plane]}, axes, [false, false, false]);
}

/** Resample along all axes, within the range of the volume's values. */
function clippedZoom(volume, newShape, order) {
  let low = Infinity, high = -Infinity;
  for (const value of volume.values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const made = newShape.reduce((each, size, axis) => alongAxis(each, axis, size, order), volume);
  const values = made.values === volume.values ? made.values.slice() : made.values;
  for (let i = 0; i < values.length; ++i) values[i] = Math.min(Math.max(values[i], low), high);
  return {values, shape: made.shape};
}

/** Resample along one axis to a new size. */
function alongAxis(volume, axis, newSize, order) {
  const {values, shape} = volume, size = shape[axis];
  if (size === newSize) return volume;
  const inner = product(shape.slice(axis + 1)), outer = product(shape.slice(0, axis));
  const taps = tapsOf(size, newSize, order), made = new Float32Array(outer * newSize * inner);
  const row = new Float64Array(inner);
  for (let o = 0; o < outer; ++o) {
    const slab = values.subarray(o * size * inner, (o + 1) * size * inner);
    const source = order === 3 ? splineCoefficients(slab, size, inner) : slab;
    for (let i = 0; i < newSize; ++i) {
      row.fill(0);
      for (const [from, weight] of taps[i])
        for (let k = 0, at = from * inner; k < inner; ++k, ++at) row[k] += weight * source[at];
      made.set(row, (o * newSize + i) * inner);
    }
  }
  return {values: made, shape: shape.with(axis, newSize)};
}

/** Return for each new voxel the old ones that it is made of, [index, weight]; of a cubic spline, its coefficients. */
function tapsOf(size, newSize, order) {
  return Array.from({length: newSize}, (_, i) => {
    const place = (i + 0.5) * (size / newSize) - 0.5;
    if (order === 3) return cubicTaps(place + EDGE);
    const inside = Math.min(Math.max(place, 0), size - 1), low = Math.floor(order ? inside : inside + 0.5);
    return order && inside > low ? [[low, low + 1 - inside], [low + 1, inside - low]] : [[low, 1]];
  });
}

function cubicTaps(place) {
  const low = Math.floor(place), t = place - low, rest = 1 - t;
  const weights = [rest ** 3, 4 - 6 * t ** 2 + 3 * t ** 3, 4 - 6 * rest ** 2 + 3 * rest ** 3, t ** 3];
  return weights.map((weight, k) => [low - 1 + k, weight / 6]);
}

/** Return the coefficients of cubic B-splines through values (size, inner), along the first axis, edges repeated. */
function splineCoefficients(values, size, inner) {
  const length = size + 2 * EDGE, made = new Float64Array(length * inner);
  for (let i = 0; i < length; ++i) {
    const from = Math.min(Math.max(i - EDGE, 0), size - 1) * inner;
    for (let k = 0; k < inner; ++k) made[i * inner + k] = 6 * values[from + k];
  }
  for (let k = 0; k < inner; ++k) made[k] /= 1 - POLE;  // as if the edge went on without end
  for (let at = inner; at < made.length; ++at) made[at] += POLE * made[at - inner];
  for (let at = made.length - inner; at < made.length; ++at) made[at] *= -POLE / (1 - POLE);
  for (let at = made.length - inner - 1; at >= 0; --at) made[at] = POLE * (made[at + inner] - made[at]);
  return made;
}
