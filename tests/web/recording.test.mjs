// What is written down of a video, and how large a photo may be.
import assert from "node:assert/strict";
import test from "node:test";
import { Recording } from "../../src/featherpose/web/js/recording.js";
import { reducedSize } from "../../src/featherpose/web/js/sources.js";

const POSE = { poseScore: 0.5, box: [0, 0, 4, 4], xy: [[1, 2]], score: [0.75] };

function recorded(...times) {
  const recording = new Recording();
  recording.size = [4, 4];
  for (const time of times) recording.add(time, "found", POSE, ["nose"]);
  return recording;
}
const rowsOf = (recording) => JSON.parse(recording.text({})).frames;

test("a frame that is looked at again keeps its row", () => {
  const recording = recorded(0, 0.04, 0.08);
  recording.add(0.08, "lost", null, ["nose"]);
  recording.add(0.12, "found", POSE, ["nose"]);
  assert.deepEqual(rowsOf(recording).map(({ frame, state }) => [frame, state]), [
    [0, "found"], [1, "found"], [2, "lost"], [3, "found"],
  ]);
});

test("a video that has come to its end is recorded no more, but for frames after the last", () => {
  const recording = recorded(0, 0.04, 0.08);
  recording.complete = true;
  for (const time of [0, 0.04, 0.06, 0.12]) recording.add(time, "lost", null, ["nose"]);
  assert.deepEqual(rowsOf(recording).map(({ time }) => time), [0, 0.04, 0.08, 0.12]);
  recording.clear();
  recording.add(0.04, "found", POSE, ["nose"]);
  assert.deepEqual(rowsOf(recording).map(({ frame, time }) => [frame, time]), [[0, 0.04]]);
});

test("rows from before a change of size tell theirs", () => {
  const recording = recorded(0);
  recording.size = [2, 8];
  recording.add(0.04, "found", POSE, ["nose"]);
  assert.deepEqual(rowsOf(recording).map((row) => row.size_wh ?? null), [[4, 4], null]);
});

test("only very large photos are reduced, both sides alike", () => {
  assert.equal(reducedSize([4000, 4000]), null);
  assert.equal(reducedSize([16_000, 900]), null);
  assert.deepEqual(reducedSize([20_000, 15_000]), { resizeWidth: 4618, resizeHeight: 3464 });
  assert.deepEqual(reducedSize([100_000, 10]), { resizeWidth: 16_384, resizeHeight: 1 });
});
