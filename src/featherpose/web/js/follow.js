// One person followed through a video: featherpose.runtime.tracker in JavaScript; docs/tracking.md tells the rules.
import { wholePixels } from "./geometry.js";
import { advance } from "./look.js";
import { alike, begin, centreAt, colourLikeness, evidence, likeness, matches, movedOn, placeAt, seenWithin } from "./motion.js";
import { OneEuro, smoothed } from "./one_euro.js";
import { assign, clothesOf, DOUBLE } from "./several.js";
import { smartCrop, wholeFrame } from "./smart_crop.js";

const UNCERTAIN_SCORE = 0.5; // scores of a pose that is only carried on are multiplied by it

/** When a person counts as found, as the same one, and as gone: Python's `Lock`, in seconds, scores and body sizes. */
export const LOCK = Object.freeze({
  found: 0.33, // least evidence to find somebody
  kept: 0.2, // to stay with somebody
  same: 0.2, // least match value of a pose for the person followed
  own: 1.25, // factor of the match values of the person followed, against those of neighbours
  apart: 0.25, // who is so alike to the person followed in the same frame does not become a neighbour
  patience: 0.5, // unseen for so long somebody is uncertain, then lost
  memory: 3.0, // unseen for so long nobody else is taken instead
  doubt: 0.15, // unseen for so long they may be taken up again elsewhere
  roam: [0.5, 1.5], // how far: body sizes, and more for every second unseen
  alone: 2.0, // so much farther while no neighbour is remembered
  sizeChange: 1.7,
  clothes: 0.6, // what different clothes take off a likeness
  sure: 0.5, // likeness from which somebody who is alone in the picture is taken without a look at their clothes,
  dressing: 0.2, // but for one in so many seconds
  sameClothes: 0.3, // least likeness of the clothes of somebody taken up again elsewhere
  people: 5, // most poses that are looked at in one frame
  center: 0.1, // least value of the centre map for the others
  others: 3.0, // a neighbour is remembered for so long without being seen
});

/** Follows one person: the one nearest the middle of the first frame, or the one that `start` names. */
export class Follower {
  /** looker: a Looker, or what has its `spec`, `look`, `several`, `twice`, `timed` and `restart`. */
  constructor(looker, { smoothing = true, lock = LOCK } = {}) {
    this.looker = looker;
    this.spec = looker.spec;
    this.smoothing = smoothing;
    this.lock = { ...LOCK, ...lock };
    this.filter = new OneEuro();
    this.target = null;
    this.reset();
  }

  /** Forgets the person and the time; a target that was asked for stays. */
  reset() {
    this.state = "lost"; // or "found" or "uncertain"
    this.pose = null;
    this.time = null;
    this.before = null; // time of the frame before
    this.size = null; // of the frame
    this.askedAt = null; // when the person of `start` was first looked for
    this.forget();
  }

  forget() {
    this.motion = null;
    this.others = []; // neighbours, as motions
    this.crop = null;
    this.searches = 0;
    this.clothes = null;
    this.filter.reset();
  }

  /**
   * Names the person to follow from the next frame on: the one nearest a point of it; null: nobody is asked for.
   *
   * While nobody is to be seen, the next frames are asked too, for up to `lock.memory`.
   */
  start(point) {
    this.target = point;
    this.askedAt = null;
  }

  /** The pose in a photo, never smoothed: {xy, score, poseScore, box}. Always one: compare its scores. */
  async photo(picture, point = this.target) {
    this.reset();
    this.looker.restart();
    this.pose = await this.looker.twice(picture, point);
    this.state = this.pose.poseScore >= this.spec.poseThreshold ? "found" : "lost";
    return this.pose;
  }

  /** The pose in a frame of a video, or null while nobody is there. timestamp: seconds. */
  async next(picture, timestamp) {
    if (timestamp === this.time && (this.target === null || this.askedAt !== null)) return this.pose;
    advance(this, picture, timestamp);
    const pose = await this.find(picture);
    this.looker.timed("filter", () => (pose === null ? this.notSeen() : this.seen(pose)));
    return this.pose;
  }

  /** Whom the next frame shows as the person followed, or null. */
  async find(picture) {
    const unseen = this.motion === null ? Infinity : this.time - this.motion.seenAt;
    let pose;
    if (this.target !== null) {
      this.askedAt ??= this.time;
      this.forget();
      pose = await this.looker.twice(picture, this.target);
      if (this.isSomebody(pose) || this.time - this.askedAt > this.lock.memory) this.target = null;
    } else if (this.motion !== null && seenWithin(this.motion, this.lock.patience, this)) {
      return this.where(picture, unseen);
    } else if (unseen <= this.lock.memory) {
      pose = await this.search(picture, unseen);
    } else {
      this.forget();
      pose = await this.anybody(picture);
    }
    return pose !== null && this.isSomebody(pose) ? pose : null;
  }

  isSomebody(pose) {
    return evidence(pose) >= this.lock.found;
  }

  /** The first frame, or long after everybody was gone: who is nearest the middle. */
  async anybody(picture) {
    const pose = await this.looker.look(picture, wholeFrame(this.size));
    return this.isSomebody(pose) ? this.closer(picture, pose) : pose;
  }

  /** The same person by a second look, at the square that the first one gives. */
  async closer(picture, pose) {
    const region = smartCrop(pose, this.spec.joints, this.size, this.spec.jointThreshold);
    const whole = wholeFrame(this.size);
    if (region.every((value, i) => value === whole[i])) return pose;
    const again = await this.looker.look(picture, region, centreAt(begin(pose, this.time), this.time));
    return alike(pose, again, this.spec.sigmas) >= DOUBLE ? again : pose;
  }

  /** One look at the last crop, a little larger if that missed them. */
  async where(picture, unseen) {
    const region = this.state === "found" ? this.crop : grown(this.crop, 1 + unseen);
    return this.mine(picture, await this.poses(picture, region, centreAt(this.motion, this.time)));
  }

  /** Lost, but not for long: the whole frame and a growing crop in turn, and a second look at who may be the same. */
  async search(picture, unseen) {
    this.searches++;
    const near = this.searches % 2 === 0;
    const region = near ? grown(this.crop, 1 + unseen) : wholeFrame(this.size);
    const focus = near ? centreAt(this.motion, this.time) : null;
    let pose = this.mine(picture, await this.poses(picture, region, focus));
    if (pose !== null) pose = await this.closer(picture, pose);
    if (pose === null || !this.isSomebody(pose)) return null;
    this.filter.reset();
    this.motion = { ...begin(pose, this.time, this.motion.colours), size: this.motion.size };
    return pose;
  }

  async poses(picture, region, focus) {
    const { people, center, kept } = this.lock;
    const view = wholePixels(region, this.spec.inputSize);
    const poses = await this.looker.several(picture, view, people, { threshold: center, focus });
    return poses.filter((pose) => evidence(pose) >= kept);
  }

  /** Shares the poses out among the person followed and their neighbours; theirs, or null. */
  mine(picture, poses) {
    if (this.isPlain(poses)) return poses[0];
    const { lock, time, spec } = this;
    const { seen, learned } = this.looker.timed("decode", () => clothesOf(picture, poses, spec.joints));
    const value = matches([this.motion, ...this.others], poses, seen, time, lock.clothes, spec.sigmas);
    value[0] = value[0].map((one) => one * lock.own);
    const pairs = assign(value, lock.same);
    const taken = new Set([...pairs].filter(([row]) => row > 0).map(([, index]) => index));
    const index = pairs.get(0) ?? this.comeBack(poses, seen, taken);
    let others = this.others.map((track, row) => {
      const at = pairs.get(row + 1);
      return at === undefined ? track : movedOn(track, poses[at], time, learned[at]);
    });
    if (index !== null) {
      // somebody is known to be another only while the target is seen beside them
      poses.forEach((pose, i) => {
        if (i === index || taken.has(i) || !this.isSomebody(pose)) return;
        if (alike(poses[index], pose, spec.sigmas) < lock.apart) others.push(begin(pose, time, learned[i]));
      });
    }
    others = others.filter((track) => seenWithin(track, lock.others, this));
    this.others = others.sort((a, b) => b.seenAt - a.seenAt).slice(0, 2 * lock.people);
    this.clothes = index === null ? null : learned[index];
    return index === null ? null : poses[index];
  }

  /** Whether there is nobody to be mistaken for: one pose, where the person should be, and no neighbour. */
  isPlain(poses) {
    const { lock, motion, time, spec } = this;
    if (poses.length !== 1 || this.others.length > 0 || time - motion.dressedAt >= lock.dressing) return false;
    return likeness(motion, poses[0], time, spec.sigmas) >= lock.sure;
  }

  /** Index of the pose, not a neighbour's, that may be the person after some time unseen; the nearest of several. */
  comeBack(poses, clothes, taken) {
    const { lock, motion, time } = this;
    const unseen = time - motion.seenAt;
    if (unseen < lock.doubt) return null;
    const alone = this.others.length === 0;
    const reach = (lock.roam[0] + lock.roam[1] * unseen) * motion.size * (alone ? lock.alone : 1);
    const expected = centreAt(motion, time);
    let best = null;
    let least = Infinity;
    poses.forEach((pose, index) => {
      const again = begin(pose, time);
      const [x, y] = centreAt(again, time);
      const away = Math.hypot(x - expected[0], y - expected[1]);
      const change = Math.max(again.size / motion.size, motion.size / again.size);
      const dressed = lock.clothes && motion.colours !== null ? colourLikeness(motion.colours, clothes[index]) : null;
      // without clothes to tell by, it is too early while others are about
      const strange = dressed === null ? !alone && unseen < lock.patience : dressed < lock.sameClothes;
      if (taken.has(index) || away > reach || change > lock.sizeChange || strange || !this.isSomebody(pose)) return;
      const price = away / reach + 0.5 * (change - 1);
      if (price < least) {
        least = price;
        best = index;
      }
    });
    return best;
  }

  // --- what a frame ends with ---------------------------------------------------------------------------------------

  seen(pose) {
    const clothes = this.clothes;
    this.clothes = null;
    this.motion = this.motion === null ? begin(pose, this.time) : movedOn(this.motion, pose, this.time, clothes);
    this.searches = 0;
    this.state = "found";
    const { smoothing, filter, time, motion, spec } = this;
    this.pose = smoothing ? smoothed(filter, pose, time, motion.size, spec.jointThreshold) : pose;
    this.crop = smartCrop(this.pose, this.spec.joints, this.size, this.spec.jointThreshold);
  }

  notSeen() {
    if (this.motion === null || this.time - this.motion.seenAt > this.lock.patience) {
      this.state = "lost";
      this.pose = null;
      return;
    }
    const { pose } = this.motion;
    this.state = "uncertain";
    this.pose = { ...pose, xy: placeAt(this.motion, this.time), score: pose.score.map((value) => value * UNCERTAIN_SCORE) };
  }
}

/** The square with a box's centre, `margin` times as large. */
function grown([x1, y1, x2, y2], margin) {
  const half = (Math.max(x2 - x1, y2 - y1) * margin) / 2;
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  return [x - half, y - half, x + half, y + half];
}
