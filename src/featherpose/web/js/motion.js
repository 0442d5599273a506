// What is remembered of one body between frames, and how like it a new pose is: featherpose.runtime.motion in JavaScript.
//
// A pose is {xy: [[x, y], ...] pixels of the frame, score: [...]}. A motion is {pose, size, velocity, seenAt, colours,
// dressedAt}: the pose as measured, pixels, px/s, seconds, the clothes' colours or null, and when they were looked at.
import { boxOfPoints, canonicalJointName } from "./smart_crop.js";

const VELOCITY_SECONDS = 0.15; // time constants
const COLOUR_SECONDS = 1.0;
const COLOUR_SPREAD = 0.12;
const HORIZON = 0.8; // seconds for which a body that is not seen goes on as it went
const LIKENESS_REACH = [1.5, 2.0, 3.0]; // OKS sigmas: at once, more for every second unseen, at most
const SIZE_IN_DEVIATIONS = 3.0;
const OKS_LENGTH = 0.42;
const COUNTS = 0.2;

/** Which joints are above a score; where fewer than two are, the better half. */
export function counted({ score }, threshold = COUNTS) {
  const counts = score.map((value) => value > threshold);
  if (counts.filter(Boolean).length >= 2) return counts;
  const middle = median(score);
  return score.map((value) => value >= middle);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

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

/** How sure the model is that here is somebody, 0 to 1: the mean score of the better half of the joints. */
export function evidence({ score }) {
  const half = Math.max(score.length >> 1, 1);
  const best = [...score].sort((a, b) => b - a).slice(0, half);
  return best.reduce((sum, value) => sum + value, 0) / half;
}

/** A body seen for the first time, taken to be at rest. */
export function begin(pose, timestamp, colours = null) {
  const dressedAt = colours === null ? -Infinity : timestamp;
  return { pose, size: sizeOf(pose), velocity: [0, 0], seenAt: timestamp, colours, dressedAt };
}

/** The body after it was seen again; colours: seen on it now, or null when they may be somebody else's. */
export function movedOn(motion, pose, timestamp, colours = null) {
  const dt = timestamp - motion.seenAt;
  if (dt <= 0) return { ...motion, pose };
  const mine = counted(motion.pose);
  const theirs = counted(pose);
  const both = mine.map((value, k) => value && theirs[k]);
  const used = both.some(Boolean) ? both : both.map(() => true);
  const share = dt / (dt + VELOCITY_SECONDS);
  const velocity = [0, 1].map((axis) => {
    const steps = pose.xy.map((point, k) => point[axis] - motion.pose.xy[k][axis]).filter((_, k) => used[k]);
    return motion.velocity[axis] + share * (median(steps) / dt - motion.velocity[axis]);
  });
  const undressed = timestamp - motion.dressedAt; // infinite if never seen: then they are taken over
  return {
    pose,
    size: motion.size + share * (sizeOf(pose) - motion.size),
    velocity,
    seenAt: timestamp,
    colours: averaged(motion.colours, colours, 1 - COLOUR_SECONDS / (undressed + COLOUR_SECONDS)),
    dressedAt: colours === null ? motion.dressedAt : timestamp,
  };
}

/** A part seen for the first time is taken over, one that is not seen stays as it was. */
function averaged(before, now, share) {
  if (before === null || now === null) return before ?? now;
  return before.map((part, i) => {
    if (part === null || now[i] === null) return part ?? now[i];
    return part.map((value, c) => value + share * (now[i][c] - value));
  });
}

/** The joints at a later time, the whole body moving on evenly for up to HORIZON. */
export function placeAt({ pose, velocity, seenAt }, timestamp) {
  const dt = Math.min(Math.max(timestamp - seenAt, 0), HORIZON);
  return pose.xy.map(([x, y]) => [x + velocity[0] * dt, y + velocity[1] * dt]);
}

/** Whether a body was seen so lately, or in the frame before, which may be far off. time, before: of this frame and that. */
export const seenWithin = (motion, seconds, { time, before }) =>
  motion.seenAt === before || time - motion.seenAt <= seconds;

/** The middle of its joints at a later time, where the centre map should have a peak. */
export function centreAt(motion, timestamp) {
  const counts = counted(motion.pose);
  const xy = placeAt(motion, timestamp);
  const box = boxOfPoints(counts.some(Boolean) ? xy.filter((_, k) => counts[k]) : xy);
  return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
}

// --- likeness -------------------------------------------------------------------------------------------------------

/** A row for each motion, a column for each pose: likeness, less up to `clothes` where the clothes differ; at most 1. */
export function matches(motions, poses, colours, timestamp, clothes, sigmas) {
  return motions.map((motion) =>
    poses.map((pose, n) => {
      const alikeness = likeness(motion, pose, timestamp, sigmas);
      if (!clothes) return alikeness;
      const same = motion.colours === null ? null : colourLikeness(motion.colours, colours[n]);
      return alikeness - clothes * (1 - (same ?? 1));
    }),
  );
}

/** How like a pose is to the body at that time, 0 to 1: half OKS of the joints, half overlap of their boxes. */
export function likeness(motion, pose, timestamp, sigmas) {
  const expected = placeAt(motion, timestamp);
  const unseen = Math.max(timestamp - motion.seenAt, 0);
  const [first, growth, most] = LIKENESS_REACH;
  const reach = Math.min(first + growth * unseen, most) * motion.size;
  const joints = oks({ xy: expected, score: motion.pose.score }, pose, reach, sigmas);
  const mine = counted(motion.pose);
  const theirs = counted(pose);
  const shared = mine.map((value, k) => value && theirs[k]);
  const used = shared.filter(Boolean).length >= 2 ? shared : mine.map((value, k) => value || theirs[k]);
  const box = (xy) => boxOfPoints(xy.filter((_, k) => used[k]));
  return (joints + overlap(box(expected), box(pose.xy), 0.1 * motion.size)) / 2;
}

/** OKS-like similarity of two poses in one frame, 0 to 1, weighted by scores: are they one person? */
export function alike(a, b, sigmas) {
  return oks(a, b, Math.min(sizeOf(a), sizeOf(b)), sigmas);
}

function oks(a, b, size, sigmas) {
  let near = 0;
  let total = 0;
  for (let k = 0; k < sigmas.length; k++) {
    const spread = 2 * sigmas[k] * OKS_LENGTH * size;
    const squared = (a.xy[k][0] - b.xy[k][0]) ** 2 + (a.xy[k][1] - b.xy[k][1]) ** 2;
    const weight = Math.sqrt(a.score[k] * b.score[k]);
    near += weight * Math.exp(-squared / (2 * spread ** 2));
    total += weight;
  }
  return near / Math.max(total, 1e-6);
}

/** Intersection over union of two boxes, each grown by a margin in pixels. */
export function overlap(a, b, margin = 0) {
  const side = (low, high) => Math.max(high - low + 2 * margin, 0);
  const inner =
    side(Math.max(a[0], b[0]), Math.min(a[2], b[2])) * side(Math.max(a[1], b[1]), Math.min(a[3], b[3]));
  const area = side(a[0], a[2]) * side(a[1], a[3]) + side(b[0], b[2]) * side(b[1], b[3]);
  return inner / Math.max(area - inner, 1e-9);
}

// --- clothes --------------------------------------------------------------------------------------------------------

// The four corners of a part, and the shares of the way down between which it is looked at: chest, belly, thighs.
const TORSO = ["left_shoulder", "right_shoulder", "left_hip", "right_hip"];
const CLOTHES = [
  [TORSO, 0.2, 0.5],
  [TORSO, 0.55, 0.9],
  [["left_hip", "left_hip", "left_knee", "left_knee"], 0.25, 0.6],
  [["right_hip", "right_hip", "right_knee", "right_knee"], 0.25, 0.6],
];
const GRID = 4; // points across and down each part

/** Mean RGB, 0 to 1, of each of CLOTHES; null where its joints do not count or lie outside. names: of the joints. */
export function coloursOf(picture, pose, names) {
  const place = new Map(names.map((name, k) => [canonicalJointName(name), k]));
  return CLOTHES.map(([corners, first, last]) => {
    const at = corners.map((name) => place.get(name));
    if (at.some((k) => k === undefined || !(pose.score[k] > COUNTS))) return null;
    const points = [];
    for (let i = 0; i < GRID * GRID; i++) {
      const across = 0.2 + (0.6 * (i % GRID)) / (GRID - 1);
      const low = first + ((last - first) * Math.floor(i / GRID)) / (GRID - 1);
      const shares = [(1 - low) * (1 - across), (1 - low) * across, low * (1 - across), low * across];
      const [x, y] = [0, 1].map((axis) =>
        Math.floor(at.reduce((sum, k, corner) => sum + shares[corner] * pose.xy[k][axis], 0)),
      );
      if (x >= 0 && y >= 0 && x < picture.width && y < picture.height) points.push([x, y]);
    }
    return points.length === 0 ? null : meanColour(picture, points);
  });
}

function meanColour(picture, points) {
  const [left, top, right, bottom] = boxOfPoints(points);
  const width = right - left + 1;
  const data = picture.read(left, top, width, bottom - top + 1);
  return [0, 1, 2].map((c) => {
    const sum = points.reduce((total, [x, y]) => total + data[4 * ((y - top) * width + x - left) + c], 0);
    return sum / (255 * points.length);
  });
}

/** How like two people's clothes are, 0 to 1; null where no part of both was seen. */
export function colourLikeness(first, second) {
  const apart = first.flatMap((part, i) => {
    if (part === null || second[i] === null) return [];
    return [part.reduce((sum, value, c) => sum + (value - second[i][c]) ** 2, 0) / 3];
  });
  if (apart.length === 0) return null;
  return Math.exp(-apart.reduce((sum, value) => sum + value, 0) / apart.length / COLOUR_SPREAD ** 2);
}
