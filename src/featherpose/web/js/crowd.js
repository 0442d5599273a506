// Everybody in a video, each under a number that stays: featherpose.runtime.several.SeveralTracker in JavaScript.
import { advance } from "./look.js";
import { alike, begin, evidence, matches, movedOn, seenWithin } from "./motion.js";
import { OneEuro, smoothed } from "./one_euro.js";
import { assign, clothesOf, DOUBLE, withoutDoubles } from "./several.js";
import { middleOf, smartCrop, wholeFrame } from "./smart_crop.js";

/** When somebody is new, known and gone: the defaults of Python's SeveralTracker. */
export const RULES = Object.freeze({
  limit: 6, // most people in a frame
  found: 0.33, // least evidence of a new person
  same: 0.2, // least match value of a known one
  memory: 1.0, // seconds for which a number waits for its person
  clothes: 0.6, // what different clothes take off that value
  center: 0.1, // least value of the centre map
});

const SPARE = 3; // so many more than asked for are decoded: some come out twice, and some are nobody

/** Follows everybody by one look at each whole frame, so people must be large enough in it. */
export class Crowd {
  /** looker: a Looker of a model with raw outputs, or what has its `spec`, `look`, `several`, `timed` and `restart`. */
  constructor(looker, { smoothing = true, rules = RULES } = {}) {
    this.looker = looker;
    this.spec = looker.spec;
    this.smoothing = smoothing;
    this.rules = { ...RULES, ...rules };
    this.reset();
  }

  /** Forgets everybody; numbers start again from 1. */
  reset() {
    this.poses = new Map(); // number -> pose of the last frame
    this.people = new Map(); // number -> {motion, filter}
    this.following = 1;
    this.time = null;
    this.before = null; // time of the frame before
    this.size = null;
  }

  /** found or lost: whether anybody was seen in the last frame. */
  get state() {
    return this.poses.size > 0 ? "found" : "lost";
  }

  /** Everybody in a photo, surest first, numbers from 1: a second look at each, never smoothed. */
  async photo(picture) {
    this.reset();
    this.looker.restart();
    this.size = [picture.width, picture.height];
    const { spec, size } = this;
    const closer = [];
    for (const pose of await this.look(picture)) {
      const region = smartCrop(pose, spec.joints, size, spec.jointThreshold);
      const again = await this.looker.look(picture, region, middleOf(region));
      closer.push(alike(pose, again, spec.sigmas) >= DOUBLE ? again : pose);
    }
    this.poses = new Map(withoutDoubles(closer, spec.sigmas).map((pose, index) => [index + 1, pose]));
    return this.poses;
  }

  /** A Map from number to pose of everybody in a frame of a video. timestamp: seconds. */
  async next(picture, timestamp) {
    if (timestamp === this.time) return this.poses;
    advance(this, picture, timestamp);
    const poses = await this.look(picture);
    this.poses = this.looker.timed("filter", () => this.numbered(picture, poses));
    return this.poses;
  }

  async look(picture) {
    const { limit, center, found } = this.rules;
    const poses = await this.looker.several(picture, wholeFrame(this.size), limit + SPARE, { threshold: center });
    return poses.filter((pose) => evidence(pose) >= found).slice(0, limit);
  }

  numbered(picture, poses) {
    const { rules, spec, time } = this;
    const { seen, learned } = clothesOf(picture, poses, spec.joints);
    const people = new Map([...this.people].filter(([, { motion }]) => seenWithin(motion, rules.memory, this)));
    const numbers = [...people.keys()];
    const motions = numbers.map((number) => people.get(number).motion);
    const value = matches(motions, poses, seen, time, rules.clothes, spec.sigmas);
    const numberOf = new Map([...assign(value, rules.same)].map(([row, index]) => [index, numbers[row]]));
    const answer = new Map();
    poses.forEach((pose, index) => {
      const number = numberOf.get(index) ?? this.following++;
      const known = people.get(number);
      const motion = known ? movedOn(known.motion, pose, time, learned[index]) : begin(pose, time, learned[index]);
      const filter = this.smoothing ? (known?.filter ?? new OneEuro()) : null;
      people.set(number, { motion, filter });
      answer.set(number, filter === null ? pose : smoothed(filter, pose, time, motion.size, spec.jointThreshold));
    });
    this.people = people;
    return answer;
  }
}
