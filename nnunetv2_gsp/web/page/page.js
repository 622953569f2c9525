// What happens when somebody uses the page.

const element = id => document.getElementById(id);
const {channels: CHANNELS, sliding_window: WINDOW} = PIPELINE;
let files = [], images = [], view = null, result = null, busy = false, cancel = null;

/** Take the files of one case, and show them; a mistake is one sentence, and changes nothing else. */
async function take(dropped) {
  if (dropped.length) await attempt(async () => {
    say("Reading the images …");
    const headers = await Promise.all(dropped.map(headerOf));
    checkHeaders(headers, PIPELINE);
    headers.sort((one, other) => one.name.localeCompare(other.name));
    const whole = await Promise.all(headers.map(read));
    checkImages(whole);
    const is4D = headers.length < CHANNELS.length;
    files = headers;
    images = is4D ? whole : assigned(headers, CHANNELS).map(number => whole[number]);
    result = null;
    listChannels(is4D);
    await look();
    const mm = spacing().map(edge => Number(edge.toFixed(2)));
    say(`${images[0].hdr.dims.slice(1, 4).join(" × ")} voxels of ${mm.join(" × ")} mm.`);
  });
  element("files").value = "";
}

/** Run something, and say in one sentence what goes wrong. */
async function attempt(work) {
  if (busy) return;
  busy = true;
  element("wrong").textContent = "";
  refresh();
  try {
    await work();
  } catch (error) {
    say("");
    element("wrong").textContent =
      error instanceof Wrong ? error.message : `This did not work: ${error.message}; reload the page to try again.`;
  } finally {
    busy = false;
    refresh();
  }
}

const say = text => (element("state").textContent = text);
const caseName = () => stem(images[0].name).replace(/_\d{4}$/, "");
const spacing = () => images[0].hdr.pixDims.slice(1, 4).map(Math.abs);

/** Show which file each channel is, to be changed where it is wrong. */
function listChannels(is4D) {
  element("channels").replaceChildren(...CHANNELS.map((channel, number) => {
    const row = document.createElement("label"), choice = document.createElement("select");
    row.append(`${channel.name} `, choice);
    if (is4D) choice.append(new Option(`${images[0].name}, volume ${number + 1}`));
    else choice.append(...files.map(({name}) => new Option(name, name, false, name === images[number].name)));
    choice.disabled = CHANNELS.length === 1 || is4D;
    choice.onchange = () => attempt(() => swap(number, choice.value));
    return row;
  }));
  element("shown").replaceChildren(...CHANNELS.map(({name}, number) => new Option(name, number)));
}

/** Make a file this channel; the channel that had it gets the other one. */
async function swap(number, name) {
  const other = images.findIndex(image => image.name === name);
  [images[number], images[other]] = [images[other], images[number]];
  result = null;
  listChannels(false);
  await look();
}

/** Show the chosen channel, and the labels if there are any. */
async function look() {
  const number = Number(element("shown").value), is4D = images.length < CHANNELS.length;
  element("result").hidden = false;
  refresh();
  try {
    view ??= await View.on(element("canvas"));
  } catch (error) {
    element("canvas").hidden = true;
    element("blind").hidden = false;
    return;
  }
  const labels = [...new Set(PIPELINE.outputs.flatMap(output => output.labels))].filter(label => label);
  await view.overlay(result?.bytes, labels.sort((one, other) => one - other), Number(element("opacity").value));
  view.show(images[is4D ? 0 : number], is4D ? number : 0);
}

/** Segment the images in a worker. */
function segment() {
  attempt(async () => {
    say("Starting …");
    const affine = images[0].hdr.affine.map(row => [...row]), shape = images[0].hdr.dims.slice(1, 4).reverse();
    const channels = valuesOf(images, CHANNELS.length), script = await unpacked("segmenting.js").text();
    const window_ = element("mirror").checked ? WINDOW : {...WINDOW, mirroring_axes: []};
    const message = {
      channels, shape, affine, spacing: spacing().reverse(), pipeline: {...PIPELINE, sliding_window: window_},
      runtimes: await runtimes(), model: await unpacked("model").arrayBuffer(),
    };
    const answer = await answerOf(script, message, channels.map(values => values.buffer));
    if (!answer) return say("Cancelled.");
    result = {...answer, bytes: niftiOf(images[0], answer.labels)};
    listVolumes(answer.labels);
    await look();
    say(`Done in ${duration(answer.run.seconds)}. ${computedBy(answer.run)}`);
  });
}

/** Resolve to what a worker answers, or to null if it is cancelled. */
function answerOf(script, message, transfer) {
  const worker = new Worker(URL.createObjectURL(new Blob([script], {type: "text/javascript"})));
  return new Promise((resolve, reject) => {
    cancel = () => resolve(null);
    refresh();
    worker.onmessage = ({data}) => {
      if (data.progress) follow(data.progress);
      else if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    worker.onerror = event => reject(new Error(event.message || "the worker did not start"));
    worker.postMessage(message, transfer);
  }).finally(() => {
    worker.terminate();
    cancel = null;
  });
}

function follow({step, window, windows, part, secondsLeft}) {
  if (step) element("progress").removeAttribute("value");
  else element("progress").value = part;
  say(step ? `${step} …` : `Window ${window} of ${windows}, about ${duration(secondsLeft)} left.`);
}

const duration = seconds =>
  seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.ceil(seconds % 60)} s`;

/** Say what computed the network, and why not something faster. */
function computedBy({kind, size, threads, refusedGpu}) {
  if (kind === "WebGPU") return "Computed by WebGPU.";
  const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
  const how = crossOriginIsolated ? count(threads, "thread") : count(size, "worker") + " of one thread";
  const whyNotGpu = refusedGpu ? `WebGPU was tried: ${refusedGpu}` : "this browser offers no WebGPU";
  return `Computed by WebAssembly, ${how}; ${whyNotGpu}.`;
}

/** List the volume of each region in ml. */
function listVolumes(labels) {
  const counts = new Map();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  const voxelMl = spacing().reduce((made, mm) => made * mm, 1) / 1000;
  const numbered = PIPELINE.outputs.map((output, number) => ({...output, number}));
  const regions = numbered.filter(({labels: of}) => of.some(label => label));
  element("volumes").replaceChildren(...regions.map(({name, labels: of, number}) => {
    const ml = of.reduce((sum, label) => sum + (counts.get(label) ?? 0), 0) * voxelMl;
    const row = document.createElement("tr"), colour = document.createElement("span");
    const own = PIPELINE.regions_class_order?.[number] ?? of[0];
    colour.className = "colour";
    colour.style.background = `rgb(${colourOf(own)})`;
    row.insertCell().append(colour, name);
    row.insertCell().textContent = ml.toFixed(2);
    return row;
  }));
}

/** Enable what can be done now. */
function refresh() {
  element("segment").disabled = busy || !images.length;
  element("cancel").hidden = element("progress").hidden = !cancel;
  element("mirror").disabled = element("files").disabled = busy;
  element("segmented").hidden = !result;
  element("channels").inert = busy;
}

function begin() {
  const flips = 2 ** WINDOW.mirroring_axes.length;
  element("mirror").checked = flips > 1;
  element("mirroring").hidden = flips === 1;
  element("flips").textContent = flips;
  element("files").onchange = event => take([...event.target.files]);
  element("segment").onclick = segment;
  element("cancel").onclick = () => cancel?.();
  element("shown").onchange = () => attempt(look);
  element("opacity").oninput = event => view?.setOpacity(Number(event.target.value));
  element("save").onclick = () => save(result.bytes, `${caseName()}_segmentation.nii.gz`);
  document.ondragover = event => event.preventDefault();
  document.ondrop = event => {
    event.preventDefault();
    take([...event.dataTransfer.files]);
  };
}

begin();
