// A model in onnxruntime-web: bytes in, maps or joints out, and every tensor given back.
import { readSpec } from "./spec.js";

const MAPS = ["center", "heatmap", "regression", "offset"];
let runtime = null;

/** onnxruntime-web, from the folder `vendor` beside the page; Error with the way out when it was not fetched. */
export async function loadRuntime(folder = new URL("../vendor/", import.meta.url)) {
  if (runtime === null) {
    const file = new URL("ort.wasm.min.mjs", folder).href;
    try {
      runtime = await import(file);
    } catch (error) {
      throw new Error(
        "The runtime onnxruntime-web is missing beside this page: stop the server and start it with " +
          `'featherpose web --fetch' (${error.message})`,
      );
    }
    runtime.env.logLevel = "error";
    runtime.env.wasm.wasmPaths = folder.href;
    // Threads need SharedArrayBuffer, that is the two headers that `featherpose web` sends; without them one is used.
    runtime.env.wasm.numThreads = globalThis.crossOriginIsolated
      ? Math.max(1, Math.min(4, Math.floor((globalThis.navigator?.hardwareConcurrency ?? 2) / 2)))
      : 1;
  }
  return runtime;
}

/** A model ready to run: {spec, threads, run, release}. bytes: of an ONNX file. Error for a file that is none of ours. */
export async function loadModel(bytes, name) {
  const spec = readSpec(bytes, name);
  const ort = await loadRuntime();
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  } catch (error) {
    throw new Error(`${name}: onnxruntime-web cannot load this model (${error.message})`);
  }
  const wanted = spec.outputs === "raw" ? MAPS : ["joints", "pose_score"];
  const missing = wanted.filter((output) => !session.outputNames.includes(output));
  if (missing.length || session.inputNames.length !== 1) {
    await session.release();
    throw new Error(`${name}: the graph does not give what its spec promises (${missing.join(", ") || "one input"})`);
  }
  const [width, height] = spec.inputSize;
  return {
    spec,
    threads: ort.env.wasm.numThreads,

    /** Flat arrays by output name. image: RGB bytes, height x width x 3. */
    async run(image) {
      const input = new ort.Tensor("uint8", image, [1, height, width, 3]);
      let outputs;
      try {
        outputs = await session.run({ [session.inputNames[0]]: input }, wanted);
        return Object.fromEntries(wanted.map((output) => [output, outputs[output].data]));
      } finally {
        input.dispose();
        for (const output of Object.values(outputs ?? {})) output.dispose();
      }
    },

    release: () => session.release(),
  };
}
