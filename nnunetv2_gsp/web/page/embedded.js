// What the scripts in assets/ bring along, as a page from file:// can not read other files.

/** Return a file that a script in assets/ holds, gzip in base64, as a Response. */
function unpacked(name) {
  const stream = Uint8Array.from(atob(EMBEDDED[name]), letter => letter.charCodeAt(0));
  return new Response(new Blob([stream]).stream().pipeThrough(new DecompressionStream("gzip")));
}

const brought = {};  // promises of scripts

/** Run a script of the folder, once. */
function bring(file) {
  return (brought[file] ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), {src: file});
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${file} is missing beside this page; copy the whole folder`));
    document.head.append(script);
  }));
}

/** Return the script, the glue and the binary of ONNX Runtime, of one kind. */
async function runtime(kind) {
  await bring(`assets/onnxruntime_${kind}.js`);
  const [ort, glue, network] = await Promise.all(
    [`${kind}.script`, `${kind}.glue`, "network.js"].map(name => unpacked(name).text()));
  return {script: `${ort}\n${network}`, glue, binary: await unpacked(`${kind}.binary`).arrayBuffer()};
}

/** Return the runtimes that this browser can use; WebGPU's is large, and read only where there is an adapter. */
async function runtimes() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return {wasm: await runtime("wasm"), ...(adapter ? {webgpu: await runtime("webgpu")} : {})};
}
