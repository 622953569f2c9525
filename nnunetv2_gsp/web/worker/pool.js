// The workers that compute the network: which kind, and how many.

const MEMORY = 1.5e9;  // bytes that their runtimes may take together
const WORTH_A_WORKER = 10;  // seconds of work, for less of which to start another takes longer

/** Runs patches in workers of their own, by WebGPU where that computes the same sooner, else by WebAssembly. */
class Pool {
  /** runtimes: kind -> {script, glue, binary} of "wasm", and of "webgpu" where there is an adapter. */
  constructor(runtimes, model, patchSize) {
    Object.assign(this, {runtimes, model, patchSize, idle: [], size: 0});
  }

  /** Choose and start the workers for so many passes, after a trial of each kind with a patch. */
  async open(patch, passes) {
    const isolated = self.crossOriginIsolated, cores = navigator.hardwareConcurrency || 1;
    this.threads = isolated ? cores : 1;  // without isolation a runtime has one thread, so there are more of them
    const wasm = await this.#start("wasm"), trial = await wasm.trial(patch);
    const faster = await this.#fasterOnGpu(patch, trial);
    if (faster) wasm.end();
    const worth = Math.ceil((passes * trial.seconds) / WORTH_A_WORKER);
    const most = Math.min(cores, worth, Math.floor(MEMORY / trial.memory));
    this.idle = [faster ?? wasm];
    while (!faster && !isolated && this.idle.length < most) this.idle.push(await this.#start("wasm"));
    this.size = this.idle.length;
    this.kind = faster ? "WebGPU" : "WebAssembly";
    this.memory = trial.memory * this.size;
  }

  /** Compute the logits of a patch, flipped along some axes. */
  async run(patch, axes) {
    const network = this.idle.pop();
    const {logits} = await network.call({patch, axes}, [patch.buffer]);
    this.idle.push(network);
    return logits;
  }

  async #start(kind) {
    const {script, glue, binary} = this.runtimes[kind], {model, patchSize, threads} = this;
    const network = new Network(script);
    try {
      await network.call({kind, glue, binary, model, patchSize, threads});
    } catch (error) {
      network.end();
      throw error;
    }
    return network;
  }

  /** Return a network on the GPU if it works there, computes the same, and is faster; else null, and note why. */
  async #fasterOnGpu(patch, onCpu) {
    if (!this.runtimes.webgpu) return null;
    let network = null;
    try {
      network = await this.#start("webgpu");
      await network.trial(patch);  // compiles
      const onGpu = await network.trial(patch);
      if (!areAlike(onGpu.logits, onCpu.logits)) this.refusedGpu = "its logits differ";
      else if (onGpu.seconds > onCpu.seconds) this.refusedGpu = "it is slower";
    } catch (error) {
      this.refusedGpu = error.message;
    }
    if (!this.refusedGpu) return network;
    network?.end();
    return null;
  }
}

/** A worker with a network, which answers a message at a time. */
class Network {
  constructor(script) {
    this.worker = new Worker(URL.createObjectURL(new Blob([script], {type: "text/javascript"})));
  }

  call(message, transfer = []) {
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({data}) => (data.error ? reject(new Error(data.error)) : resolve(data));
      this.worker.onerror = event => reject(new Error(event.message || "a worker did not start"));
      this.worker.postMessage(message, transfer);
    });
  }

  async trial(patch) {
    const began = performance.now(), answer = await this.call({patch, axes: []});
    return {...answer, seconds: (performance.now() - began) / 1000};
  }

  end() {
    this.worker.terminate();
  }
}

/** Whether two sets of logits differ by less than a hundredth of the largest. */
function areAlike(one, other) {
  let largestLogit = 0, difference = 0;
  for (let i = 0; i < one.length; ++i) {
    largestLogit = Math.max(largestLogit, Math.abs(other[i]));
    difference = Math.max(difference, Math.abs(one[i] - other[i]));
  }
  return difference <= 0.01 * largestLogit;
}
