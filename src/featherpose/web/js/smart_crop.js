// Which part of the photo to look at next: featherpose.runtime.smart_crop in JavaScript. Boxes are [x1, y1, x2, y2] in
// photo pixels, squares that may reach outside the photo.

const TORSO_MARGIN = 1.9; // of the official demos, with BODY_MARGIN
const BODY_MARGIN = 1.2;
const OTHER_MARGIN = 2.0; // our own, for skeletons without a torso
const SMALLEST_HALF = 4;

/** The square around the whole photo, as wide as its longer side and centred on it. */
export function wholeFrame([width, height]) {
  const half = Math.max(width, height) / 2;
  return [width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half];
}

/** The middle [x, y] of a box. */
export const middleOf = ([left, top, right, bottom]) => [(left + right) / 2, (top + bottom) / 2];

/** One spelling for a joint: 'Left Shoulder', 'leftShoulder', 'LShoulder', 'l_shoulder' all give 'left_shoulder'. */
export function canonicalJointName(name) {
  const words = name
    .trim()
    .replace(/([a-z])([A-Z])|^([LR])([A-Z][a-z])/g, (_, a = "", b = "", c = "", d = "") => `${a}${c}_${b}${d}`)
    .replace(/[\s\-.]+/g, "_")
    .toLowerCase()
    .replace(/^_+|_+$/g, "");
  const side = { l: "left", r: "right" };
  const parts = words.split("_");
  const last = parts.at(-1);
  if (parts[0] in side) parts[0] = side[parts[0]];
  else if (["l", "r", "left", "right"].includes(last) && parts.length > 1) parts.unshift(side[parts.pop()] ?? last);
  return parts.join("_");
}

/**
 * The square to look at next, from the joints found so far; the whole frame when they do not tell.
 *
 * pose: {xy, score} in pixels of the photo of that size. names: of the joints. threshold: a joint counts above it.
 */
export function smartCrop({ xy, score }, names, size, threshold = 0.2) {
  const counts = score.map((value) => value > threshold);
  const place = new Map(names.map((name, k) => [canonicalJointName(name), k]));
  const shoulders = ["left_shoulder", "right_shoulder"].map((name) => place.get(name));
  const hips = ["left_hip", "right_hip"].map((name) => place.get(name));
  const counted = xy.filter((_, k) => counts[k]);
  let centre;
  let torso = 0;
  let margin = BODY_MARGIN;
  if ([...shoulders, ...hips].every((k) => k !== undefined)) {
    if (!shoulders.some((k) => counts[k]) || !hips.some((k) => counts[k])) return wholeFrame(size);
    centre = [0, 1].map((axis) => (xy[hips[0]][axis] + xy[hips[1]][axis]) / 2);
    torso = farthest([...shoulders, ...hips].map((k) => xy[k]), centre);
  } else {
    if (counted.length === 0 || counted.length < xy.length / 2) return wholeFrame(size);
    const box = boxOfPoints(counted);
    centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    margin = OTHER_MARGIN;
  }
  const body = farthest(counted, centre);
  const toBorder = Math.max(centre[0], centre[1], size[0] - centre[0], size[1] - centre[1]);
  const half = Math.min(Math.max(TORSO_MARGIN * torso, margin * body), toBorder);
  if (half > Math.max(...size) / 2 || half < SMALLEST_HALF) return wholeFrame(size);
  return [centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half];
}

/** The smallest [x1, y1, x2, y2] around points. */
export function boxOfPoints(points) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** The largest distance from a point along an axis. */
const farthest = (points, [cx, cy]) =>
  Math.max(...points.map(([x, y]) => Math.max(Math.abs(x - cx), Math.abs(y - cy))));
