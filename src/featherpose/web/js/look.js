// One pass of the network over a square of a picture: featherpose.runtime.predictor and `look_several` in JavaScript.
//
// A pose is {xy: [[x, y], ...] pixels of the picture, score: [...], poseScore, box: the square that was looked at}.
import { cropMap, toInput, toPhoto } from "./geometry.js";
import { decode, decodeSeveral } from "./movenet.js";
import { withoutDoubles } from "./several.js";
import { middleOf, smartCrop, wholeFrame } from "./smart_crop.js";
import { warp } from "./warp.js";

/** Looks at pictures with a model, and counts in `spent` the milliseconds of each stage. */
export class Looker {
  /** model: {spec, run} as loadModel gives it. clock: milliseconds. */
  constructor(model, clock = () => performance.now()) {
    this.model = model;
    this.spec = model.spec;
    this.clock = clock;
    this.restart();
  }

  /** Begins to count anew. */
  restart() {
    this.spent = { crop: 0, network: 0, decode: 0, filter: 0 };
  }

  /** Runs a function that takes no time of others, and counts its time. */
  timed(stage, action) {
    const start = this.clock();
    const result = action();
    this.spent[stage] += this.clock() - start;
    return result;
  }

  /** The person nearest `focus`, a point of the picture; without one, whom the square is about. There is always a pose. */
  async look(picture, region, focus = null) {
    const { map, outputs } = await this.pass(picture, region);
    return this.timed("decode", () => {
      const found =
        this.spec.outputs === "raw"
          ? decode(outputs, { ...this.grid(), focus: focus && toInput(map, focus) })
          : fromJoints(outputs);
      return inPicture(found, map, region);
    });
  }

  /** Up to `limit` people from one pass, surest first, nobody twice; the one nearest `focus` before all. */
  async several(picture, region, limit, { threshold, focus = null }) {
    if (this.spec.outputs !== "raw") return [await this.look(picture, region)];
    const { map, outputs } = await this.pass(picture, region);
    return this.timed("decode", () => {
      const found = decodeSeveral(outputs, { ...this.grid(), limit, threshold, focus: focus && toInput(map, focus) });
      return withoutDoubles(found.map((pose) => inPicture(pose, map, region)), this.spec.sigmas);
    });
  }

  /** Two looks: at the whole picture, then at the square that the first one gives. point: the person nearest it. */
  async twice(picture, point = null) {
    const size = [picture.width, picture.height];
    const whole = wholeFrame(size);
    let region = whole;
    if (point !== null && this.spec.outputs === "decoded") {
      const half = (whole[2] - whole[0]) / 2; // such a model takes whoever is nearest the middle of what it sees
      region = [point[0] - half, point[1] - half, point[0] + half, point[1] + half];
    }
    const pose = await this.look(picture, region, point);
    const closer = smartCrop(pose, this.spec.joints, size, this.spec.jointThreshold);
    if (closer.every((value, i) => value === whole[i])) return pose;
    return this.look(picture, closer, point && middleOf(closer));
  }

  async pass(picture, region) {
    const map = cropMap(region, this.spec.inputSize);
    const image = this.timed("crop", () => warp(picture, map, this.spec.inputSize));
    const start = this.clock();
    const outputs = await this.model.run(image);
    this.spent.network += this.clock() - start;
    return { map, outputs };
  }

  grid() {
    const { inputSize, joints, stride, softening, centerSoftening, voteRadius, refine } = this.spec;
    const grid = inputSize.map((side) => side / stride);
    return { grid, joints: joints.length, stride, softening, centerSoftening, voteRadius, refine };
  }
}

/** Brings one who follows a video to its next frame; a time that goes back, or a frame of another size, begins anew. */
export function advance(who, { width, height }, timestamp) {
  const other = who.size !== null && (width !== who.size[0] || height !== who.size[1]);
  if ((who.time !== null && timestamp < who.time) || other) who.reset();
  who.looker.restart();
  who.before = who.time;
  who.time = timestamp;
  who.size = [width, height];
}

const inPicture = (pose, map, box) => ({ ...pose, xy: pose.xy.map((point) => toPhoto(map, point)), box });

/** What a model with its decoding inside gives: joints (1, K, 3), pose_score (1,). */
function fromJoints({ joints, pose_score: poseScore }) {
  const k = [...Array(joints.length / 3).keys()];
  return {
    xy: k.map((i) => [joints[3 * i], joints[3 * i + 1]]),
    score: k.map((i) => joints[3 * i + 2]),
    poseScore: poseScore[0],
  };
}
