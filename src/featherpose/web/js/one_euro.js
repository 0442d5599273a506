// Still joints stand still, quick ones are followed at once: featherpose.runtime.one_euro in JavaScript (Casiez, Roussel
// and Vogel, "1 Euro Filter", CHI 2012), in real time stamps and in body sizes.

/** The defaults of the Python class; docs/tracking.md says why. */
export const DEFAULTS = Object.freeze({
  minCutoff: 0.5, // Hz, for a joint at rest
  beta: 48.0, // Hz at one body size a second
  power: 2.0, // of the speed
  derivativeCutoff: 2.5, // Hz, for the estimate of the speed
  limit: null, // [a, b] compresses steps much longer than a + b x speed, body sizes
  jointSpeed: true, // one speed per joint rather than one for x and one for y
  byScore: 1.0, // the cut-off is multiplied by score ** byScore
  forget: 0.25, // seconds; a joint unseen for longer starts afresh where it reappears
});

/** How far a low-pass filter of a cut-off in Hz moves towards a new value after dt seconds, 0 to 1. */
export function alpha(cutoff, dt) {
  const turn = 2 * Math.PI * cutoff * dt;
  return turn / (turn + 1);
}

/** Smooths the joints of one body over time. The first call, and the first after `reset`, gives them back as they are. */
export class OneEuro {
  constructor(settings = {}) {
    this.settings = { ...DEFAULTS, ...settings };
    this.reset();
  }

  /** Forgets everything. */
  reset() {
    this.joints = null;
    this.time = null;
  }

  /**
   * The joints smoothed: [[x, y], ...] in the units of `xy`.
   *
   * timestamp: seconds. size: of the body, in that unit. score: K values for `byScore`. seen: K booleans, joints that
   * count. A time that stands still or goes back changes nothing: the last joints come again.
   */
  smooth(xy, timestamp, size = 1, { score = null, seen = null } = {}) {
    const { minCutoff, beta, power, derivativeCutoff, limit, jointSpeed, byScore, forget } = this.settings;
    if (this.joints === null) {
      this.time = timestamp;
      this.joints = xy.map((point) => ({ raw: [...point], smooth: [...point], speed: [0, 0], seenAt: timestamp }));
      return xy.map((point) => [...point]);
    }
    const dt = timestamp - this.time;
    if (dt <= 0) return this.joints.map((joint) => [...joint.smooth]);
    this.time = timestamp;

    this.joints.forEach((joint, k) => {
      for (const axis of [0, 1]) {
        const speed = (xy[k][axis] - joint.raw[axis]) / (size * dt); // body sizes a second
        joint.speed[axis] += alpha(derivativeCutoff, dt) * (speed - joint.speed[axis]);
      }
      for (const axis of [0, 1]) {
        const pace = jointSpeed ? Math.hypot(...joint.speed) : Math.abs(joint.speed[axis]);
        let cutoff = minCutoff + beta * pace ** power;
        if (byScore && score !== null) cutoff *= Math.min(Math.max(score[k], 1e-3), 1) ** byScore;
        let step = xy[k][axis] - joint.smooth[axis];
        if (limit !== null) {
          const threshold = (limit[0] + limit[1] * pace) * size;
          step = threshold * Math.sign(step) * Math.log1p(Math.abs(step) / threshold);
        }
        joint.smooth[axis] += alpha(cutoff, dt) * step;
      }
      if (seen === null || seen[k]) {
        if (timestamp - joint.seenAt > forget + dt) {
          joint.smooth = [...xy[k]];
          joint.speed = [0, 0];
        }
        joint.seenAt = timestamp;
      }
      joint.raw = [...xy[k]];
    });
    return this.joints.map((joint) => [...joint.smooth]);
  }
}

/** A pose with its joints filtered; those above the threshold count as seen. size: of the body, pixels. */
export function smoothed(filter, pose, timestamp, size, threshold) {
  const seen = pose.score.map((value) => value > threshold);
  return { ...pose, xy: filter.smooth(pose.xy, timestamp, size, { score: pose.score, seen }) };
}
