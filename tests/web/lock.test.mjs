// The person who is followed is the one whom Python follows: tests/golden/lock.json.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Crowd } from "../../src/featherpose/web/js/crowd.js";
import { Follower } from "../../src/featherpose/web/js/follow.js";
import { decodeSeveral } from "../../src/featherpose/web/js/movenet.js";
import { assign } from "../../src/featherpose/web/js/several.js";
import { wholeFrame } from "../../src/featherpose/web/js/smart_crop.js";
import { arrayPicture } from "../../src/featherpose/web/js/warp.js";
import { farthest, golden } from "./golden.mjs";

const lock = golden("lock.json");
const [width, height] = lock.size_wh;
const { joints, sigmas } = lock.skeleton;
const mean = (xy) => [0, 1].map((axis) => xy.reduce((sum, point) => sum + point[axis], 0) / xy.length);

/** A looker that gives the people who are told to it: the class `Crowd` of tests/golden/make_lock.py. */
class Told {
  spec = { joints, sigmas, jointThreshold: 0.2, poseThreshold: 0.2, inputSize: [192, 192] };
  people = [];

  async several(picture, [x1, y1, x2, y2], limit, { threshold = 0.1, focus = null } = {}) {
    const inside = ([x, y]) => x1 <= x && x <= x2 && y1 <= y && y <= y2;
    let found = this.people.filter(({ xy, score }) => inside(mean(xy)) && score >= threshold);
    found.sort((a, b) => b.score - a.score);
    if (focus !== null && found.length) {
      const away = ({ xy }) => Math.hypot(mean(xy)[0] - focus[0], mean(xy)[1] - focus[1]);
      const first = found.reduce((best, one) => (away(one) < away(best) ? one : best));
      found = [first, ...found.filter((one) => one !== first)];
    }
    return found.slice(0, limit).map(({ xy, score }) => pose(xy, score, [x1, y1, x2, y2]));
  }

  async look(picture, region, focus = null) {
    const middle = [(region[0] + region[2]) / 2, (region[1] + region[3]) / 2];
    const poses = await this.several(picture, region, 1, { focus: focus ?? middle });
    return poses[0] ?? pose(joints.map(() => middle), 0.01, region);
  }

  twice = (picture, point) => this.look(picture, wholeFrame(lock.size_wh), point);
  timed = (stage, action) => action();
  restart() {}
}

const pose = (xy, score, box) => ({ xy, score: joints.map(() => score), poseScore: score, box });

/** Everybody's box filled with their colour, the last one in front. */
function painted(people) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (const { xy, colour } of people) {
    const [xs, ys] = [0, 1].map((axis) => xy.map((point) => point[axis]));
    for (let y = Math.max(Math.floor(Math.min(...ys)), 0); y <= Math.min(Math.floor(Math.max(...ys)), height - 1); y++) {
      for (let x = Math.max(Math.floor(Math.min(...xs)), 0); x <= Math.min(Math.floor(Math.max(...xs)), width - 1); x++) {
        data.set(colour, 4 * (y * width + x));
      }
    }
  }
  return arrayPicture(data, width, height);
}

for (const { name, smoothing, frames, expected } of lock.tracks) {
  test(`lock: ${name}`, async () => {
    const told = new Told();
    const follower = new Follower(told, { smoothing });
    for (const [i, { t, start, people }] of frames.entries()) {
      told.people = people;
      if (start !== null) follower.start(start);
      const found = await follower.next(painted(people), t);
      assert.equal(follower.state, expected[i].state, `frame ${i}`);
      assert.equal(found === null, expected[i].xy === null, `frame ${i}`);
      if (found === null) continue;
      assert.ok(farthest(found.xy, expected[i].xy) < lock.tolerance, `frame ${i}: ${JSON.stringify(found.xy)}`);
      assert.ok(Math.abs(found.score[0] - expected[i].score) < 1e-3, `frame ${i}`);
    }
  });
}

for (const { name, smoothing, frames, expected } of lock.crowds) {
  test(`crowd: ${name}`, async () => {
    const told = new Told();
    const crowd = new Crowd(told, { smoothing });
    for (const [i, { t, people }] of frames.entries()) {
      told.people = people;
      const found = await crowd.next(painted(people), t);
      assert.deepEqual([...found.keys()], expected[i].map(({ person }) => person), `frame ${i}`);
      assert.ok(farthest([...found.values()].map(({ xy }) => xy), expected[i].map(({ xy }) => xy)) < lock.tolerance, `frame ${i}`);
      assert.equal(crowd.state, people.length > 0 ? "found" : "lost", `frame ${i}`);
    }
  });
}

test("crowd: a photo has everybody from 1 on, each looked at closely", async () => {
  const told = new Told();
  const crowd = new Crowd(told);
  const two = lock.crowds.find(({ name }) => name === "two nearly in one place").frames[0].people;
  told.people = two;
  const first = await crowd.photo(painted(two));
  assert.deepEqual([...first.keys()], [1, 2]);
  assert.ok([...first.values()].every(({ box }) => box[2] - box[0] < width)); // not the whole frame
  told.people = [];
  assert.equal((await crowd.photo(painted([]))).size, 0);
  assert.equal(crowd.state, "lost");
});

for (const [i, { value, least, expected }] of lock.assign.entries()) {
  test(`assign: ${i}, ${value.length} x ${value[0].length}`, () => {
    assert.deepEqual([...assign(value, least)].sort((a, b) => a[0] - b[0]), expected);
  });
}

test("assign: nobody", () => assert.equal(assign([], 0.2).size + assign([[]], 0.2).size, 0));

const maps = new Map(golden("movenet_decode.json").cases.map((entry) => [entry.name, entry]));
for (const { case: name, focus_xy: focus, limit, threshold, expected } of lock.several) {
  test(`several: ${name}, ${focus === null ? "no focus" : "a focus"}`, () => {
    const { grid_wh: grid, joints: count, stride, softening, vote_radius: voteRadius, refine, maps: values } = maps.get(name);
    const typed = Object.fromEntries(Object.entries(values).map(([key, flat]) => [key, Float32Array.from(flat)]));
    const found = decodeSeveral(typed, { grid, joints: count, limit, stride, softening, voteRadius, refine, threshold, focus });
    assert.ok(farthest(found.map(({ xy }) => xy), expected.xy) < lock.tolerance);
    assert.ok(farthest(found.map(({ poseScore }) => poseScore), expected.pose_score) < 1e-4);
  });
}
