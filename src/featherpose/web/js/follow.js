// One person followed through pictures: a photo is looked at twice (featherpose.runtime.predictor), a video once a frame,
// at the square that the last pose gives (featherpose.runtime.tracker with lock=None, the rule of the official demos).
import { cropMap, toInput, toPhoto } from "./geometry.js";
import { decode } from "./movenet.js";
import { OneEuro } from "./one_euro.js";
import { smartCrop, wholeFrame } from "./smart_crop.js";
import { warp } from "./warp.js";

const LEAST_SCORE = 0.25; // tfjs: below this mean score of the joints that count, the person is lost
const SIZE_SECONDS = 0.15; // time constant of the body's size
const SIZE_IN_DEVIATIONS = 3;

/** About the longer side of the body in pixels, at least one: 3 standard deviations of its joints, weighted by score. */
export function sizeOf({ xy, score }) {
  const weight = score.map((value) => value + 1e-3);
  const total = weight.reduce((sum, value) => sum + value, 0);
  const middle = [0, 1].map((axis) => xy.reduce((sum, point, k) => sum + weight[k] * point[axis], 0) / total);
  const variance = [0, 1].map(
    (axis) => xy.reduce((sum, point, k) => sum + weight[k] * (point[axis] - middle[axis]) ** 2, 0) / total,
  );
  return Math.max(SIZE_IN_DEVIATIONS * Math.sqrt(variance[0] + variance[1]), 1);
}

/** The joints of the person nearest the middle, or nearest `target`, over one photo or the frames of a video. */
export class Follower {
  /** model: {spec, run} as loadModel gives it. clock: milliseconds. */
  constructor(model, { smoothing = true, clock = () => performance.now() } = {}) {
    this.model = model;
    this.spec = model.spec;
    this.smoothing = smoothing;
    this.clock = clock;
    this.filter = new OneEuro();
    this.target = null;
    this.reset();
  }

  /** Forgets the person and the time; a target that was asked for stays. */
  reset() {
    this.state = "lost";
    this.pose = null;
    this.crop = null;
    this.size = null;
    this.time = null;
    this.frameSize = null;
    this.filter.reset();
    this.spent = { crop: 0, network: 0, decode: 0, filter: 0 };
  }

  /** Names the person to follow from the next frame on: the one nearest a point of it. */
  start(point) {
    this.target = point;
  }

  /** The pose in a photo, never smoothed: {xy, score, poseScore, box}, photo pixels. Always one: compare its scores. */
  async photo(picture, point = this.target) {
    this.reset();
    this.pose = await this.twoLooks(picture, point);
    this.state = this.pose.poseScore >= this.spec.poseThreshold ? "found" : "lost";
    return this.pose;
  }

  /** The pose in a frame of a video, or null while nobody is there. timestamp: seconds. */
  async next(picture, timestamp) {
    const size = [picture.width, picture.height];
    if (this.time !== null && timestamp === this.time && this.target === null) return this.pose;
    const other = this.frameSize !== null && (size[0] !== this.frameSize[0] || size[1] !== this.frameSize[1]);
    if ((this.time !== null && timestamp < this.time) || other) this.reset();
    this.spent = { crop: 0, network: 0, decode: 0, filter: 0 };
    const elapsed = this.time === null ? 0 : timestamp - this.time;
    this.time = timestamp;
    this.frameSize = size;

    let pose;
    if (this.target !== null) {
      this.forget();
      pose = await this.twoLooks(picture, this.target);
      this.target = null;
    } else {
      pose = await this.look(picture, this.crop ?? wholeFrame(size));
    }
    const counted = pose.score.filter((value) => value > this.spec.jointThreshold);
    const mean = counted.reduce((sum, value) => sum + value, 0) / counted.length;
    if (!(mean >= LEAST_SCORE)) {
      this.forget();
      this.state = "lost";
      this.pose = null;
      return null;
    }
    const start = this.clock();
    const share = elapsed / (elapsed + SIZE_SECONDS);
    this.size = this.size === null ? sizeOf(pose) : this.size + share * (sizeOf(pose) - this.size);
    this.state = "found";
    this.pose = this.smoothing ? { ...pose, xy: this.filtered(pose, timestamp) } : pose;
    this.crop = smartCrop(this.pose, this.spec.joints, size, this.spec.jointThreshold);
    this.spent.filter += this.clock() - start;
    return this.pose;
  }

  forget() {
    this.crop = null;
    this.size = null;
    this.filter.reset();
  }

  filtered(pose, timestamp) {
    const seen = pose.score.map((value) => value > this.spec.jointThreshold);
    return this.filter.smooth(pose.xy, timestamp, this.size, { score: pose.score, seen });
  }

  async twoLooks(picture, point) {
    const size = [picture.width, picture.height];
    const whole = wholeFrame(size);
    let region = whole;
    if (point !== null && this.spec.outputs === "decoded") {
      const half = (whole[2] - whole[0]) / 2; // such a model takes whoever is nearest the middle of what it sees
      region = [point[0] - half, point[1] - half, point[0] + half, point[1] + half];
    }
    const pose = await this.look(picture, region, point);
    const closer = smartCrop(pose, this.spec.joints, size, this.spec.jointThreshold);
    return closer.every((value, i) => value === whole[i]) ? pose : this.look(picture, closer);
  }

  /** One look at a square of the picture: the person nearest `focus`, a point of the picture, or the square's middle. */
  async look(picture, region, focus = null) {
    const { spec, clock, spent } = this;
    const map = cropMap(region, spec.inputSize);
    let start = clock();
    const lap = (stage) => {
      const now = clock();
      spent[stage] += now - start;
      start = now;
    };
    const image = warp(picture, map, spec.inputSize);
    lap("crop");
    const outputs = await this.model.run(image);
    lap("network");
    const found = spec.outputs === "raw" ? this.fromMaps(outputs, focus && toInput(map, focus)) : fromJoints(outputs);
    lap("decode");
    return { ...found, xy: found.xy.map((point) => toPhoto(map, point)), box: region };
  }

  fromMaps(maps, focus) {
    const { spec } = this;
    const grid = spec.inputSize.map((side) => side / spec.stride);
    return decode(maps, { grid, joints: spec.joints.length, stride: spec.stride, softening: spec.softening, focus });
  }
}

/** What a model with its decoding inside gives: joints (1, K, 3), pose_score (1,). */
function fromJoints(outputs) {
  const joints = outputs.joints;
  const k = [...Array(joints.length / 3).keys()];
  return {
    xy: k.map((i) => [joints[3 * i], joints[3 * i + 1]]),
    score: k.map((i) => joints[3 * i + 2]),
    poseScore: outputs.pose_score[0],
  };
}
