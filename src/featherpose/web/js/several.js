// Several people in one frame: doubles, who is who, whose clothes are seen. featherpose.runtime.several in JavaScript.
import { alike, coloursOf, overlap } from "./motion.js";
import { boxOfPoints } from "./smart_crop.js";

export const DOUBLE = 0.5; // likeness from which two poses of one frame are one person
const FREE = 0.2; // most overlap of two people's boxes at which the clothes of each are seen

/** The poses in their order, less those that are too like one before them. */
export function withoutDoubles(poses, sigmas) {
  const kept = [];
  for (const pose of poses) if (!kept.some((other) => alike(other, pose, sigmas) >= DOUBLE)) kept.push(pose);
  return kept;
}

/**
 * A Map from row to column with the largest sum of values, no row or column twice, none below `least`.
 *
 * value: a list of rows. The Hungarian method in O(n^3), as in Python.
 */
export function assign(value, least) {
  const rows = value.length;
  const columns = rows === 0 ? 0 : value[0].length;
  if (columns === 0) return new Map();
  if (rows > columns) {
    const turned = value[0].map((_, column) => value.map((row) => row[column]));
    return new Map([...assign(turned, least)].map(([column, row]) => [row, column]));
  }
  // Pairs below `least` are worth nothing, so that they never push a good pair out.
  const cost = value.map((row) => row.map((v) => (v >= least ? -v : 0)));
  const rowPrice = Array(rows + 1).fill(0);
  const columnPrice = Array(columns + 1).fill(0);
  const owner = Array(columns + 1).fill(0); // row (from 1) of each column, 0 nobody; a search starts in column 0
  for (let row = 1; row <= rows; row++) {
    owner[0] = row;
    let column = 0;
    const slack = Array(columns + 1).fill(Infinity);
    const before = Array(columns + 1).fill(0);
    const used = Array(columns + 1).fill(false);
    while (owner[column]) {
      used[column] = true;
      const from = owner[column];
      let nearest = 0;
      for (let c = 1; c <= columns; c++) {
        if (used[c]) continue;
        const reduced = cost[from - 1][c - 1] - rowPrice[from] - columnPrice[c];
        if (reduced < slack[c]) {
          slack[c] = reduced;
          before[c] = column;
        }
        if (nearest === 0 || slack[c] < slack[nearest]) nearest = c;
      }
      const step = slack[nearest];
      for (let c = 0; c <= columns; c++) {
        if (used[c]) {
          rowPrice[owner[c]] += step;
          columnPrice[c] -= step;
        } else {
          slack[c] -= step;
        }
      }
      column = nearest;
    }
    while (column) {
      owner[column] = owner[before[column]];
      column = before[column];
    }
  }
  const pairs = new Map();
  for (let c = 1; c <= columns; c++) {
    if (owner[c] && value[owner[c] - 1][c - 1] >= least) pairs.set(owner[c] - 1, c - 1);
  }
  return pairs;
}

/** Everybody's clothes, {seen, learned}: `learned` is null for who does not stand free of others, as they may be hidden. */
export function clothesOf(picture, poses, names) {
  const seen = poses.map((pose) => coloursOf(picture, pose, names));
  const boxes = poses.map((pose) => boxOfPoints(pose.xy));
  const crowded = boxes.map((box, i) => boxes.some((other, j) => i !== j && overlap(box, other) >= FREE));
  return { seen, learned: seen.map((colours, i) => (crowded[i] ? null : colours)) };
}
