// From images as they are stored to what windows are cut from: turned, cropped, normalised, resampled.

/** Return normalised images, and {box, shape, order, flips, spacing, newSpacing}, which undo the way to them. */
function preprocessed(channels, shape, spacing, affine, pipeline) {
  const {order, flips} = orientation(affine, pipeline);
  const turned = channels.map(values => reoriented({values, shape}, order, flips));
  const inside = nonzero(turned), box = boundingBox(inside);
  const cropped_inside = cropped(inside, box);
  if (pipeline.channels.some(({normalization}) => normalization.use_mask)) fillHoles(cropped_inside);
  const turnedSpacing = order.map(axis => spacing[axis]);
  const newSpacing = [...turnedSpacing.slice(0, 3 - pipeline.spacing.length), ...pipeline.spacing];
  const newShape = box.shape.map((size, axis) => roundHalfEven((turnedSpacing[axis] / newSpacing[axis]) * size));
  const images = turned.map((volume, channel) => {
    const image = cropped(volume, box);
    normalize(image.values, cropped_inside.values, pipeline.channels[channel].normalization);
    return resampled(image, newShape, turnedSpacing, newSpacing, pipeline.resampling.data);
  });
  return {images, box, shape: turned[0].shape, order, flips, spacing: turnedSpacing, newSpacing};
}

/** Return which stored axis (Z, Y, X) each axis of the network is, and whether it is reversed. */
function orientation(affine, {orientation, transpose_forward}) {
  const stored = [{axis: 0, flip: false}, {axis: 1, flip: false}, {axis: 2, flip: false}];
  const turned = orientation === "RAS" ? canonicalAxes(affine) : stored;
  return {
    order: transpose_forward.map(k => turned[k].axis),
    flips: transpose_forward.map(k => turned[k].flip),
  };
}

/** Return for each axis (S, A, R) the stored axis (Z, Y, X) that is closest to it, and whether that one is reversed. */
function canonicalAxes(affine) {
  const columns = [0, 1, 2].map(axis => {
    const column = [0, 1, 2].map(row => affine[row][axis]), length = Math.hypot(...column);
    return {axis, cosines: column.map(value => value / length)};
  });
  const largest = ({cosines}) => Math.max(...cosines.map(Math.abs));
  const found = [];
  for (const {axis, cosines} of columns.sort((one, other) => largest(other) - largest(one))) {
    const free = [0, 1, 2].filter(world => !found[2 - world]);
    const world = free.reduce((best, each) => (Math.abs(cosines[each]) > Math.abs(cosines[best]) ? each : best));
    found[2 - world] = {axis: 2 - axis, flip: cosines[world] < 0};
  }
  return found;
}

/** Return where any channel is not 0, as a volume of 0 and 1. */
function nonzero(volumes) {
  const values = new Uint8Array(volumes[0].values.length);
  for (const volume of volumes) for (let i = 0; i < values.length; ++i) if (volume.values[i] !== 0) values[i] = 1;
  return {values, shape: volumes[0].shape};
}

/** Return the smallest box around all 1, the whole volume if there is none. */
function boundingBox({values, shape}) {
  const low = [...shape], high = [-1, -1, -1];
  for (let i = 0, at = 0; i < shape[0]; ++i)
    for (let j = 0; j < shape[1]; ++j)
      for (let k = 0; k < shape[2]; ++k, ++at)
        if (values[at])
          [i, j, k].forEach((place, axis) => {
            low[axis] = Math.min(low[axis], place);
            high[axis] = Math.max(high[axis], place);
          });
  return high[0] < 0 ? {low: [0, 0, 0], shape} : {low, shape: high.map((place, axis) => place + 1 - low[axis])};
}

/** Set to 1 what the border can not be reached from without crossing 1, in place. */
function fillHoles({values, shape}) {
  const [, rows, columns] = shape, plane = rows * columns, reached = new Uint8Array(values.length);
  const stack = [];
  const visit = at => {
    if (values[at] || reached[at]) return;
    reached[at] = 1;
    stack.push(at);
  };
  const isBorder = (place, axis) => place === 0 || place === shape[axis] - 1;
  for (let at = 0; at < values.length; ++at)
    if (placeOf(at, shape).some(isBorder)) visit(at);
  while (stack.length) {
    const at = stack.pop(), [i, j, k] = placeOf(at, shape);
    if (i > 0) visit(at - plane);
    if (i < shape[0] - 1) visit(at + plane);
    if (j > 0) visit(at - columns);
    if (j < rows - 1) visit(at + columns);
    if (k > 0) visit(at - 1);
    if (k < columns - 1) visit(at + 1);
  }
  for (let at = 0; at < values.length; ++at) values[at] = reached[at] ? 0 : 1;
}

const placeOf = (at, shape) => [
  Math.floor(at / (shape[1] * shape[2])),
  Math.floor(at / shape[2]) % shape[1],
  at % shape[2],
];

/** Normalise one channel in place; `inside` is 1 where the image is not background. */
function normalize(values, inside, {scheme, use_mask, mean, std, percentile_00_5, percentile_99_5}) {
  if (scheme === "ZScoreNormalization") {
    const counts = use_mask ? at => inside[at] : () => true;
    const of = momentsWhere(values, counts);
    shiftAndScale(values, of.mean, of.std, counts);
  } else if (scheme === "CTNormalization") {
    for (let i = 0; i < values.length; ++i) values[i] = Math.min(Math.max(values[i], percentile_00_5), percentile_99_5);
    shiftAndScale(values, mean, std, () => true);
  } else if (scheme === "RescaleTo01Normalization") {
    const low = values.reduce((one, other) => Math.min(one, other), Infinity);
    const high = values.reduce((one, other) => Math.max(one, other), -Infinity);
    shiftAndScale(values, low, high - low, () => true);
  } else if (scheme === "RGBTo01Normalization") {
    shiftAndScale(values, 0, 255, () => true);
  }
}

function momentsWhere(values, counts) {
  let n = 0, sum = 0, squares = 0;
  for (let i = 0; i < values.length; ++i) if (counts(i)) ++n, (sum += values[i]);
  const mean = sum / n;
  for (let i = 0; i < values.length; ++i) if (counts(i)) squares += (values[i] - mean) ** 2;
  return {mean, std: Math.sqrt(squares / n)};
}

function shiftAndScale(values, mean, std, counts) {
  const divisor = Math.max(std, 1e-8);
  for (let i = 0; i < values.length; ++i) if (counts(i)) values[i] = (values[i] - mean) / divisor;
}

/** Round as Python does, halves to the even number. */
function roundHalfEven(number) {
  const low = Math.floor(number);
  if (number - low === 0.5) return low + (low % 2);
  return Math.round(number);
}
