// One person over frames, with a model whose answers are set by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Follower } from "../../src/featherpose/web/js/follow.js";
import { cropMap, toInput, toPhoto } from "../../src/featherpose/web/js/geometry.js";
import { Looker } from "../../src/featherpose/web/js/look.js";
import { sizeOf } from "../../src/featherpose/web/js/motion.js";
import { Recording } from "../../src/featherpose/web/js/recording.js";
import { canonicalJointName } from "../../src/featherpose/web/js/smart_crop.js";
import { arrayPicture } from "../../src/featherpose/web/js/warp.js";
import { farthest } from "./golden.mjs";

const JOINTS = ["left_shoulder", "right_shoulder", "left_hip", "right_hip"];
const BODY = [[120, 60], [100, 60], [118, 100], [102, 100]];
const picture = arrayPicture(new Uint8ClampedArray(4 * 320 * 240), 320, 240);

const SIGMAS = JOINTS.map(() => 0.08);
const WHOLE = [0, -40, 320, 280];

/** A model with its decoding inside that sees `world.body` (photo pixels) wherever it is made to look. */
function seer(world) {
  const spec = {
    inputSize: [64, 64], joints: JOINTS, sigmas: SIGMAS, outputs: "decoded", jointThreshold: 0.2, poseThreshold: 0.1,
  };
  const model = { spec, run: null };
  const looker = new Looker(model, () => 0);
  const regions = [];
  const look = looker.look.bind(looker);
  looker.look = (seen, region, focus) => {
    regions.push(region);
    const map = cropMap(region, spec.inputSize);
    const score = world.score ?? 0.9;
    model.run = async () => ({ joints: world.body.flatMap((p) => [...toInput(map, p), score]), pose_score: [score] });
    return look(seen, region, focus);
  };
  return { follower: new Follower(looker), regions };
}

test("a crop keeps the aspect ratio and goes there and back", () => {
  const map = cropMap([10, 20, 110, 70], [64, 64]);
  assert.ok(farthest(toInput(map, [10, 45]), [0, 32]) < 1e-9);
  assert.ok(farthest(toPhoto(map, toInput(map, [33, 44])), [33, 44]) < 1e-9);
});

test("the first frame is seen whole and then closer, the next one around the person", async () => {
  const { follower, regions } = seer({ body: BODY });
  await follower.next(picture, 0);
  const pose = await follower.next(picture, 0.03);
  const around = [110 - 76, 100 - 76, 110 + 76, 100 + 76]; // 1.9 x 40
  assert.ok(farthest(regions, [WHOLE, around, around]) < 1e-9);
  assert.ok(farthest(pose.xy, BODY) < 1e-9);
  assert.equal(follower.state, "found");
});

test("nobody: uncertain for half a second, then lost and looked for in the whole frame", async () => {
  const world = { body: BODY };
  const { follower, regions } = seer(world);
  await follower.next(picture, 0);
  world.score = 0.19;
  assert.ok(Math.abs((await follower.next(picture, 0.1)).score[0] - 0.45) < 1e-6);
  assert.equal(follower.state, "uncertain");
  await follower.next(picture, 0.4);
  assert.equal(await follower.next(picture, 0.6), null);
  assert.equal(follower.state, "lost");
  assert.deepEqual(regions.at(-1), WHOLE);
});

test("smoothing holds a jump back, none does not", async () => {
  for (const smoothing of [true, false]) {
    const world = { body: BODY };
    const { follower } = seer(world);
    follower.smoothing = smoothing;
    await follower.next(picture, 0);
    world.body = BODY.map(([x, y]) => [x + 4, y]);
    const pose = await follower.next(picture, 1 / 30);
    const moved = pose.xy[0][0] - BODY[0][0];
    assert.ok(smoothing ? moved > 0.5 && moved < 3.9 : Math.abs(moved - 4) < 1e-9, `${smoothing} ${moved}`);
  }
});

test("a time that goes back and a frame of another size begin anew, one that stands still answers again", async () => {
  const { follower, regions } = seer({ body: BODY });
  const first = await follower.next(picture, 1);
  assert.equal(await follower.next(picture, 1), first);
  assert.equal(regions.length, 2);
  await follower.next(picture, 0.5);
  assert.deepEqual(regions[2], WHOLE);
  await follower.next(arrayPicture(new Uint8ClampedArray(4 * 100 * 300), 100, 300), 0.6);
  assert.deepEqual(regions[4], [-100, 0, 200, 300]);
});

test("a target that was clicked is looked for around the click", async () => {
  const { follower, regions } = seer({ body: BODY });
  follower.start([110, 80]);
  await follower.next(picture, 0);
  assert.deepEqual(regions[0], [110 - 160, 80 - 160, 110 + 160, 80 + 160]);
  assert.equal(follower.target, null);
});

test("a photo is looked at twice and not smoothed", async () => {
  const { follower, regions } = seer({ body: BODY });
  const pose = await follower.photo(picture);
  assert.equal(regions.length, 2);
  assert.ok(farthest(pose.xy, BODY) < 1e-9);
});

test("the size of a body is three standard deviations of its joints", () => {
  assert.ok(Math.abs(sizeOf({ xy: [[0, 0], [0, 20]], score: [0.5, 0.5] }) - 30) < 1e-9);
  assert.equal(sizeOf({ xy: [[5, 5], [5, 5]], score: [0.5, 0.5] }), 1);
});

test("joints in other spellings are the same", () => {
  for (const name of ["Left Shoulder", "leftShoulder", "LShoulder", "l_shoulder", "shoulder.L", "left-shoulder"]) {
    assert.equal(canonicalJointName(name), "left_shoulder");
  }
});

test("a recording has the rows of featherpose video", () => {
  const recording = new Recording();
  recording.add(0.1234567, "found", { xy: [[1.234, 5.678]], score: [0.98765], poseScore: 0.5, box: [0, 0, 1, 1] }, ["nose"]);
  recording.add(0.2, "lost", null, ["nose"]);
  assert.deepEqual(JSON.parse(recording.text({ model: "m" })), {
    model: "m",
    frames: [
      { frame: 0, time: 0.123457, state: "found", pose_score: 0.5, box_xyxy: [0, 0, 1, 1], joints: { nose: { x: 1.23, y: 5.68, score: 0.988 } } },
      { frame: 1, time: 0.2, state: "lost", pose_score: null, box_xyxy: null, joints: null },
    ],
  });
});

test("a recording of everybody has the rows of featherpose video --people", () => {
  const recording = new Recording();
  const one = { xy: [[1, 2]], score: [0.9], poseScore: 0.5, box: [0, 0, 4, 4] };
  recording.addPeople(0, "found", new Map([[3, one], [5, { ...one, xy: [[3, 4]] }]]), ["nose"]);
  recording.addPeople(0.1, "lost", new Map(), ["nose"]);
  const told = (x, y) => ({ pose_score: 0.5, box_xyxy: [0, 0, 4, 4], joints: { nose: { x, y, score: 0.9 } } });
  assert.deepEqual(JSON.parse(recording.text({})).frames, [
    { frame: 0, time: 0, state: "found", people: [{ person: 3, ...told(1, 2) }, { person: 5, ...told(3, 4) }] },
    { frame: 1, time: 0.1, state: "lost", people: [] },
  ]);
});

test("a recording keeps the last frames and says which they were", () => {
  const recording = new Recording();
  for (let i = 0; i < 20_001; i++) recording.add(i, "lost", null, []);
  const { frames } = JSON.parse(recording.text({}));
  assert.ok(frames.length <= 20_000);
  assert.deepEqual([frames[0].frame, frames.at(-1).frame], [20_001 - frames.length, 20_000]);
});
