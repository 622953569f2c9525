// Volumes are {values, shape}: a typed array in C order, the last axis fastest, with axes (Z, Y, X) or as said.

const product = numbers => numbers.reduce((made, number) => made * number, 1);

/** Return a volume whose axis k is axis order[k] of the given one, reversed where flips[k]. */
function reoriented({values, shape}, order, flips = [false, false, false]) {
  const newShape = order.map(axis => shape[axis]);
  if (order.every((axis, k) => axis === k && !flips[k])) return {values, shape: newShape};
  const strides = [shape[1] * shape[2], shape[2], 1];
  const steps = order.map((axis, k) => (flips[k] ? -strides[axis] : strides[axis]));
  const first = dot(flips.map((flip, k) => (flip ? newShape[k] - 1 : 0)), order.map(axis => strides[axis]));
  const made = new values.constructor(values.length);
  let at = 0;
  for (let i = 0; i < newShape[0]; ++i)
    for (let j = 0; j < newShape[1]; ++j) {
      let from = first + i * steps[0] + j * steps[1];
      for (let k = 0; k < newShape[2]; ++k, from += steps[2]) made[at++] = values[from];
    }
  return {values: made, shape: newShape};
}

/** Undo `reoriented` with the same order and flips. */
function restored(volume, order, flips) {
  const back = [0, 1, 2].map(axis => order.indexOf(axis));
  return reoriented(volume, back, back.map(axis => flips[axis]));
}

const dot = (one, other) => one.reduce((sum, number, k) => sum + number * other[k], 0);

/** Return the part of a volume from box.low on, of box.shape. */
function cropped({values, shape}, box) {
  const made = new values.constructor(product(box.shape));
  eachRow(box, shape, (from, to, length) => made.set(values.subarray(from, from + length), to));
  return {values: made, shape: box.shape};
}

/** Return a volume of another shape, 0 apart from the given one, which begins at low. */
function padded({values, shape}, low, newShape) {
  const made = new values.constructor(product(newShape));
  eachRow({low, shape}, newShape, (to, from, length) => made.set(values.subarray(from, from + length), to));
  return {values: made, shape: newShape};
}

/** Call a function with each row of a box: its place in the whole volume, its place in the box, its length. */
function eachRow({low, shape}, wholeShape, call) {
  for (let i = 0, inside = 0; i < shape[0]; ++i)
    for (let j = 0; j < shape[1]; ++j, inside += shape[2])
      call(((low[0] + i) * wholeShape[1] + low[1] + j) * wholeShape[2] + low[2], inside, shape[2]);
}
