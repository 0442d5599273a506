// The joints of the frames so far, in the form of the rows that `featherpose video` writes.

const LIMIT = 20_000; // frames, eleven minutes at 30 a second; a page that is left open must not grow for ever

/** Frames as they come, in few bytes each; the oldest ones go when there are too many. */
export class Recording {
  constructor() {
    this.clear();
  }

  /** One more frame. time: seconds. pose: as the Follower gives it, or null. joints: their names. */
  add(time, state, pose, joints) {
    this.keep({ time, state, values: pose && packed(pose) }, joints);
  }

  /** One more frame with everybody in it, as the Crowd gives them. */
  addPeople(time, state, poses, joints) {
    this.keep({ time, state, people: [...poses].map(([person, pose]) => ({ person, values: packed(pose) })) }, joints);
  }

  keep(row, joints) {
    this.rows.push({ frame: this.frame++, ...row });
    this.joints = joints;
    if (this.rows.length > LIMIT) this.rows.splice(0, LIMIT / 10);
  }

  clear() {
    this.rows = [];
    this.joints = [];
    this.frame = 0;
  }

  /** One JSON text. about: facts of the source and the model. */
  text(about) {
    const told = ({ values, people }) => {
      if (people) return { people: people.map(({ person, values }) => ({ person, ...plain(values, this.joints) })) };
      return values === null ? { pose_score: null, box_xyxy: null, joints: null } : plain(values, this.joints);
    };
    const frames = this.rows.map((row) => ({ frame: row.frame, time: rounded(row.time, 6), state: row.state, ...told(row) }));
    return JSON.stringify({ ...about, frames });
  }
}

const packed = ({ poseScore, box, xy, score }) => Float32Array.of(poseScore, ...box, ...xy.flat(), ...score);

/** A pose as plain numbers by joint name, rounded to .01 px and .001 score. */
function plain(values, joints) {
  const [poseScore, ...rest] = values;
  const box = rest.splice(0, 4);
  const score = rest.slice(2 * joints.length);
  const named = joints.map((name, k) => [
    name,
    { x: rounded(rest[2 * k], 2), y: rounded(rest[2 * k + 1], 2), score: rounded(score[k], 3) },
  ]);
  return {
    pose_score: rounded(poseScore, 3),
    box_xyxy: box.map((value) => rounded(value, 2)),
    joints: Object.fromEntries(named),
  };
}

const rounded = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;
