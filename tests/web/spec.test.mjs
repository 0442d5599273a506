// The spec is read out of the ONNX file itself, and what is no such file is told in one sentence.
import assert from "node:assert/strict";
import { test } from "node:test";
import { readMetadata, readSpec, SPEC_KEY } from "../../src/featherpose/web/js/spec.js";

const text = (string) => [...new TextEncoder().encode(string)];
const varint = (value) => (value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]);
const bytes = (field, content) => [...varint(field * 8 + 2), ...varint(content.length), ...content];
const entry = (key, value) => bytes(14, [...bytes(1, text(key)), ...bytes(2, text(value))]);
/** An ONNX file as protobuf writes it: the version, a producer, a graph to skip, then the metadata. */
const file = (...entries) => Uint8Array.from([8, 9, ...bytes(2, text("pytorch")), ...bytes(7, Array(300).fill(0xff)), ...entries.flat()]);

const facts = {
  task: "pose", spec_version: 1, name: "tiny", version: "7", input_size: [64, 96], outputs: "raw",
  codec: { name: "movenet", stride: 8, softening: 2.5 }, joint_threshold: 0.3, pose_threshold: 0.1,
  skeleton: { name: "s", joints: ["a", "b", "c"], bones: [["a", "c"]] }, provenance: { licence: "CC0" },
};
const withFacts = (changes) => file(entry(SPEC_KEY, JSON.stringify({ ...facts, ...changes })));

test("the metadata is found behind the graph", () => {
  assert.deepEqual([...readMetadata(file(entry("a", "1"), entry("é", "")))], [["a", "1"], ["é", ""]]);
});

test("a spec says all that the page needs", () => {
  const spec = readSpec(withFacts({}));
  assert.deepEqual(spec.inputSize, [64, 96]);
  assert.deepEqual(spec.bones, [[0, 2]]);
  assert.deepEqual([spec.stride, spec.softening, spec.jointThreshold], [8, 2.5, 0.3]);
  assert.deepEqual(spec.sigmas, [0.08, 0.08, 0.08]);
});

test("a skeleton's own sigmas are taken", () => {
  assert.deepEqual(readSpec(withFacts({ skeleton: { ...facts.skeleton, sigmas: [0.1, 0.2, 0.3] } })).sigmas, [0.1, 0.2, 0.3]);
});

test("a codec that says nothing of stride and softening has the defaults of Python's", () => {
  const spec = readSpec(withFacts({ codec: { name: "movenet" } }));
  assert.deepEqual([spec.stride, spec.softening, spec.centerSoftening], [4, 1.8, 0]);
});

const wrong = {
  "an ONNX file of others": [file(entry("author", "x")), /m\.onnx is no featherpose pose model.*featherpose export/],
  "an empty file": [new Uint8Array(0), /not a readable ONNX file.*empty/],
  "a truncated file": [withFacts({}).slice(0, 100), /not a readable ONNX file, or a truncated one/],
  "a photo": [Uint8Array.from([0xff, 0xd8, 0xff, 0xe0, 0, 16, 74, 70, 73, 70]), /not a readable ONNX file/],
  "a spec that is not JSON": [file(entry(SPEC_KEY, "{")), /spec is not JSON/],
  "another task": [withFacts({ task: "face" }), /for the task 'face'/],
  "a newer spec": [withFacts({ spec_version: 2 }), /version 2, this page reads 1/],
  "another codec": [withFacts({ codec: { name: "simcc" } }), /unknown codec 'simcc'/],
  "other outputs": [withFacts({ outputs: "boxes" }), /unknown outputs 'boxes'/],
  "no skeleton": [withFacts({ skeleton: {} }), /lacks its input_size or its skeleton/],
};
for (const [name, [content, message]] of Object.entries(wrong)) {
  test(`refused: ${name}`, () => assert.throws(() => readSpec(content, "m.onnx"), message));
}
