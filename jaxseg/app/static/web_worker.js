/** Runs the model beside the page, so that the page never waits. The first message sets it up, others are pictures. */

import * as ort from "../onnxruntime/ort.js";
import { levelsOf, resizeMap, resizePicture } from "./resample.js";

/** @type {{session: any, size: number, stops: number[]} | null} */
let model = null;

/** @param {{size: number, stops: number[]}} message */
async function load({ size, stops }) {
  ort.env.wasm.wasmPaths = { wasm: new URL("../onnxruntime/ort.wasm", import.meta.url).href };
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  const address = new URL("../model.onnx", import.meta.url).href;
  const session = await ort.InferenceSession.create(address, { executionProviders: ["wasm"] });
  model = { session, size, stops };
  return {};
}

/** @param {{pixels: Uint8ClampedArray, width: number, height: number}} message */
async function segment({ pixels, width, height }) {
  if (!model) throw new Error("The model is not loaded.");
  const { session, size, stops } = model;
  const images = new ort.Tensor("uint8", resizePicture(pixels, width, height, size), [1, size, size, 3]);
  const { probability } = await session.run({ images });
  return { levels: levelsOf(resizeMap(probability.data, size, width, height), stops) };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(await (model ? segment(data) : load(data)));
  } catch (error) {
    self.postMessage({ error: `The model fails: ${error.message}` });
  }
};
