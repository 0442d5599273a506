// The joints of the frames so far, in the form of the rows that `featherpose video` writes.

const LIMIT = 20_000; // frames, eleven minutes at 30 a second; a page that is left open must not grow for ever

/** Frames as they come, in few bytes each; the oldest ones go when there are too many. */
export class Recording {
  constructor() {
    this.size = null; // [width, height] of the pictures from now on
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
    const { rows, size, complete } = this;
    const last = rows.at(-1);
    if (complete && last?.time > row.time) return;
    this.joints = joints;
    if (last?.time === row.time) rows.pop(); // the same frame, looked at again
    rows.push({ frame: last?.time === row.time ? last.frame : this.frame++, size, ...row });
    if (this.rows.length > LIMIT) this.rows.splice(0, LIMIT / 10);
  }

  clear() {
    this.rows = [];
    this.joints = [];
    this.frame = 0;
    this.complete = false; // a video has come to its end: it begins anew, and what was recorded does not
  }

  /** One JSON text. about: facts of the source and the model. */
  text(about) {
    const told = ({ values, people }) => {
      if (people) return { people: people.map(({ person, values }) => ({ person, ...plain(values, this.joints) })) };
      return values === null ? { pose_score: null, box_xyxy: null, joints: null } : plain(values, this.joints);
    };
    const now = String(this.size);
    const sized = ({ size }) => (String(size) === now ? {} : { size_wh: size }); // of the picture, before it changed
    const frames = this.rows.map((row) => {
      const { frame, time, state } = row;
      return { frame, time: rounded(time, 6), state, ...sized(row), ...told(row) };
    });
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
