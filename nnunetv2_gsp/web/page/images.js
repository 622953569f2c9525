// From dropped files to the channels of one case, or a sentence that says what is wrong with them.

const MEMORY = 2e9;  // bytes that images and logits may take
const MOST_LABELS = 32;  // whole numbers in a label file, fewer than in any image
const VALUES = [2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280];  // NIfTI's codes of types with one value a voxel

/** A user's mistake, in a sentence. */
class Wrong extends Error {}

/** Return {name, dims, file} of a file from its header alone. */
async function headerOf(file) {
  const bytes = await firstBytes(file), view = new DataView(bytes.buffer);
  const size = bytes.length < 544 ? 0 : view.getInt32(0, true), bigEndian = [348, 540].includes(view.getInt32(0));
  if (!bigEndian && ![348, 540].includes(size))
    throw new Wrong(`${file.name}: expected an image in NIfTI (.nii or .nii.gz), got another kind of file.`);
  const isFirst = (bigEndian ? view.getInt32(0) : size) === 348, little = !bigEndian;
  const dim = k => (isFirst ? view.getInt16(40 + 2 * k, little) : Number(view.getBigInt64(16 + 8 * k, little)));
  const dims = Array.from({length: dim(0)}, (_, k) => dim(k + 1));
  while (dims.length > 3 && dims.at(-1) === 1) dims.pop();
  if (![3, 4].includes(dims.length) || dims.some(each => each < 1))
    throw new Wrong(`${file.name}: expected 3 axes, or 4 with the channels, got ${dims.join(" × ")} voxels.`);
  if (!VALUES.includes(view.getInt16(isFirst ? 70 : 12, little)))
    throw new Wrong(`${file.name}: expected one number a voxel, got colours or complex numbers.`);
  return {name: file.name, dims, file};
}

/** Return the first bytes of a file, unpacked if it is compressed. */
async function firstBytes(file) {
  const start = file.slice(0, 1 << 16), magic = new Uint8Array(await start.slice(0, 2).arrayBuffer());
  if (magic[0] !== 0x1f || magic[1] !== 0x8b) return padTo544(new Uint8Array(await start.arrayBuffer()));
  const reader = start.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  try {
    return padTo544((await reader.read()).value ?? new Uint8Array());
  } catch {
    return padTo544(new Uint8Array());
  } finally {
    reader.cancel().catch(() => {});
  }
}

function padTo544(bytes) {
  const made = new Uint8Array(Math.max(bytes.length, 8));
  made.set(bytes);
  return made;
}

/** Return for each channel which of the files it is, by nnU-Net's endings, else by names, else in order. */
function assigned(files, channels) {
  const bySuffix = channels.map(channel => files.findIndex(({name}) => stem(name).endsWith(channel.file_suffix)));
  if (new Set(bySuffix).size === channels.length && !bySuffix.includes(-1)) return bySuffix;
  const words = files.map(({name}) => stem(name).toLowerCase().split(/[^a-z0-9]+/));
  const byName = channels.map(channel => words.findIndex(of => of.includes(channel.name.toLowerCase())));
  if (new Set(byName).size === channels.length && !byName.includes(-1)) return byName;
  return channels.map((_, number) => number);
}

const stem = name => name.replace(/\.nii(\.gz)?$/i, "");

/** Refuse files that are no case of this model, by their headers. */
function checkHeaders(headers, {channels, outputs}) {
  const expected = channels.length === 1 ? "one file" : `${channels.length} files, one a channel (${names(channels)})`;
  const [first] = headers, is4D = headers.length === 1 && first.dims.length === 4 && channels.length > 1;
  if (is4D && first.dims[3] !== channels.length)
    throw new Wrong(`${first.name}: expected ${channels.length} channels (${names(channels)}), got ${first.dims[3]}.`);
  if (!is4D && headers.length !== channels.length)
    throw new Wrong(`Expected ${expected}${channels.length > 1 ? " or one 4D file" : ""}, got ${headers.length}.`);
  const deep = is4D ? undefined : headers.find(({dims}) => dims.length === 4);
  if (deep) throw new Wrong(`${deep.name}: expected an image of 3 axes, got ${deep.dims.join(" × ")} voxels.`);
  const other = headers.find(({dims}) => dims.join() !== first.dims.join());
  if (other)
    throw new Wrong(`${other.name}: expected ${first.dims.join(" × ")} voxels as in ${first.name}, ` +
      `got ${other.dims.join(" × ")}.`);
  const needed = product3(first.dims) * (12 * channels.length + 4 * outputs.length + 14);
  if (needed > MEMORY)
    throw new Wrong(`${first.name}: expected an image that fits into a browser's memory, got ` +
      `${first.dims.slice(0, 3).join(" × ")} voxels (${(needed / 1e9).toFixed(1)} GB); ` +
      "crop it, or run nnUNetv2_predict.");
}

const names = channels => channels.map(({name}) => name).join(", ");
const product3 = ([x, y, z]) => x * y * z;

/** Read a file with NiiVue, which shows it later. */
async function read({file, dims}) {
  let image;
  try {
    image = await niivue.NVImage.loadFromFile({file, name: file.name});
  } catch {
    throw new Wrong(`${file.name}: expected a whole file, got one that cannot be read to its end.`);
  }
  if (image.img.length < dims.reduce((made, size) => made * size, 1))
    throw new Wrong(`${file.name}: expected a whole file, got one that ends too early.`);
  return image;
}

/** Refuse images that lie elsewhere than the first, and label files. */
function checkImages(images) {
  const [first] = images, corners = image => image.hdr.affine.flat();
  for (const image of images) {
    const far = corners(image).some((number, k) => Math.abs(number - corners(first)[k]) > 1e-2);
    if (far) throw new Wrong(`${image.name}: expected the place and the voxels of ${first.name}, got others.`);
    if (holdsLabels(image))
      throw new Wrong(`${image.name}: expected an image, got a few whole numbers, as labels are.`);
  }
}

function holdsLabels({img, hdr}) {
  if (hdr.intent_code === 1002) return true;
  const seen = new Set();
  for (const value of img) {
    if (!Number.isInteger(value)) return false;
    if (seen.add(value).size > MOST_LABELS) return false;
  }
  return true;
}

/** Return the values of each channel, of one 4D image or of an image each, scaled as the header says. */
function valuesOf(images, nChannels) {
  const nVoxels = product3(images[0].hdr.dims.slice(1));
  return Array.from({length: nChannels}, (_, channel) => {
    const {img, hdr} = images.length === 1 ? images[0] : images[channel];
    const first = images.length === 1 ? channel * nVoxels : 0;
    const slope = hdr.scl_slope || 1, inter = hdr.scl_inter || 0;
    // what is not finite is 0, as ITK reads it
    return Float32Array.from(
      img.subarray(first, first + nVoxels), value => (Number.isFinite(value) ? value : 0) * slope + inter);
  });
}
