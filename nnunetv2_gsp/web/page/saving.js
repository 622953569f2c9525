// Labels as a NIfTI file in the geometry of an image.

/** Return the bytes of a NIfTI file with labels, in the geometry of an image that NiiVue read. */
function niftiOf(image, labels) {
  const isLarge = labels.some(label => label > 255), img = isLarge ? labels : Uint8Array.from(labels);
  const hdr = {
    ...image.hdr, dims: [3, ...image.hdr.dims.slice(1, 4), 1, 1, 1, 1],
    datatypeCode: isLarge ? 512 : 2, numBitsPerVoxel: isLarge ? 16 : 8,
    scl_slope: 1, scl_inter: 0, cal_min: 0, cal_max: 0, intent_code: 0, description: "", aux_file: "",
  };
  return Object.assign(Object.create(image), {hdr, img, extensions: []}).toUint8Array();
}

/** Let the browser save bytes as a compressed file. */
async function save(bytes, name) {
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  const url = URL.createObjectURL(await new Response(packed).blob());
  Object.assign(document.createElement("a"), {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
