// The joints of all frames so far, in the form of the rows that `featherpose video` writes.

const LIMIT = 100_000; // frames, about an hour at 30 a second; a page that is left open must not grow for ever

/** Frames as they come; the oldest ones go when there are too many. */
export class Recording {
  constructor() {
    this.rows = [];
    this.frame = 0;
  }

  /** One more frame. time: seconds. pose: as the Follower gives it, or null. */
  add(time, state, pose, joints) {
    const row = { frame: this.frame++, time: rounded(time, 6), state, ...plainPose(pose, joints) };
    this.rows.push(row);
    if (this.rows.length > LIMIT) this.rows.splice(0, LIMIT / 10);
  }

  clear() {
    this.rows = [];
    this.frame = 0;
  }

  /** One JSON text. about: facts of the source and the model. */
  text(about) {
    return JSON.stringify({ ...about, frames: this.rows });
  }
}

/** A pose as plain numbers by joint name, rounded to .01 px and .001 score. */
export function plainPose(pose, joints) {
  if (pose === null) return { pose_score: null, box_xyxy: null, joints: null };
  const named = joints.map((name, k) => {
    const [x, y] = pose.xy[k];
    return [name, { x: rounded(x, 2), y: rounded(y, 2), score: rounded(pose.score[k], 3) }];
  });
  return {
    pose_score: rounded(pose.poseScore, 3),
    box_xyxy: pose.box.map((value) => rounded(value, 2)),
    joints: Object.fromEntries(named),
  };
}

const rounded = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;
