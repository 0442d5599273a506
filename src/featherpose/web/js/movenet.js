// From a MoveNet's maps to joints: featherpose.codecs.movenet.MoveNetCodec.decode in JavaScript.

/**
 * The joints of the person nearest the focus: {xy: [[x, y], ...] input pixels, score: [...], poseScore}.
 *
 * maps: flat row-major arrays, center (H, W), heatmap (K, H, W), regression and offset (K, 2, H, W), x before y.
 * grid: [W, H] cells. stride: input pixels per cell. focus: a point in input pixels; null means the middle of the input.
 * softening, centerSoftening: cells added to distances from joints and a given focus, and from the middle of the input (0: as
 * softening). voteRadius: cells around the best one whose offsets count too. refine: "offset", or "dark": the heatmap says
 * where in its cell a joint is.
 */
export function decode(
  maps,
  {
    grid, joints, stride = 4, softening = 1.8, centerSoftening = 0, voteRadius = 0, refine = "offset", focus = null,
  },
) {
  const chosen = focusCell(maps, grid, stride, focus === null ? centerSoftening || softening : softening, focus);
  return jointsFrom(maps, chosen, { grid, joints, stride, softening, voteRadius, refine });
}

/**
 * The joints of up to `limit` people, surest first, each as `decode` gives them; the same person may come twice.
 *
 * A person is a cell of the centre map of at least `threshold` that none within `minDistance` cells exceeds. With a focus
 * the person whom `decode` finds there stands first, whatever their score, and peaks that near to that cell are left out.
 */
export function decodeSeveral(
  maps,
  {
    grid, joints, limit, stride = 4, softening = 1.8, voteRadius = 0, refine = "offset", threshold = 0.1, minDistance = 2,
    focus = null,
  },
) {
  const [width] = grid;
  const apart = (a, b) => ((a % width) - (b % width)) ** 2 + (Math.floor(a / width) - Math.floor(b / width)) ** 2;
  const chosen = focus === null ? [] : [focusCell(maps, grid, stride, softening, focus)];
  for (const cell of peaks(maps.center, threshold, (a, b) => apart(a, b) <= minDistance ** 2)) {
    if (chosen.length >= limit) break;
    if (chosen.every((other) => apart(cell, other) > minDistance ** 2)) chosen.push(cell);
  }
  const rules = { grid, joints, stride, softening, voteRadius, refine };
  return chosen.slice(0, limit).map((cell) => jointsFrom(maps, cell, rules));
}

const MOST_CELLS = 512; // of the centre map that are looked at for peaks

/** Cells that reach the threshold and that no near cell exceeds, best first. */
function peaks(values, threshold, near) {
  const cells = [];
  for (let cell = 0; cell < values.length; cell++) if (values[cell] >= threshold) cells.push(cell);
  cells.sort((a, b) => values[b] - values[a]); // stable: the first of equals stays first
  const best = cells.slice(0, MOST_CELLS);
  return best.filter((cell) => !best.some((other) => values[other] > values[cell] && near(cell, other)));
}

function focusCell({ center }, [width, height], stride, softening, focus) {
  const [x, y] = focus === null ? [width / 2, height / 2] : [focus[0] / stride, focus[1] / stride];
  return nearestPeak(center, 0, width, height, x, y, softening);
}

/** The joints of the person whose middle is a given cell. */
function jointsFrom(maps, chosen, { grid: [width, height], joints, stride, softening, voteRadius, refine }) {
  const cells = width * height;
  const row = Math.floor(chosen / width);
  const column = chosen - row * width;

  const xy = [];
  const score = [];
  for (let k = 0; k < joints; k++) {
    const x = maps.regression[2 * k * cells + chosen] + column; // expected place, cell indices
    const y = maps.regression[(2 * k + 1) * cells + chosen] + row;
    const cell = nearestPeak(maps.heatmap, k * cells, width, height, x, y, softening);
    const known = Number.isFinite(x) && Number.isFinite(y); // else every cell is equally far
    const place = refine === "dark" ? top(maps, k, cell, width, height) : vote(maps, k, cell, width, height, voteRadius);
    xy.push(known ? place.map((cells) => cells * stride) : [NaN, NaN]);
    score.push(maps.heatmap[k * cells + cell]);
  }
  return { xy, score, poseScore: maps.center[chosen] };
}

const TOP_FLOOR = 1e-6; // heatmaps below it count as it
const TOP_FLAT = 1e-3; // curves that bend less have no top

/** [x, y] in cells: the top of the parabola through the logarithms of a cell's heatmap and its neighbours', by axis. */
function top({ heatmap }, k, best, width, height) {
  const row = Math.floor(best / width);
  const column = best - row * width;
  const start = k * width * height + best;
  return [
    [column, width, 1],
    [row, height, width],
  ].map(([place, length, step]) => {
    if (place === 0 || place === length - 1) return place + 0.5; // no neighbour on one side
    const [before, at, after] = [-step, 0, step].map((by) => Math.log(Math.max(heatmap[start + by], TOP_FLOOR)));
    const bend = 2 * at - before - after;
    if (bend < TOP_FLAT) return place + 0.5;
    return place + 0.5 + Math.min(Math.max((after - before) / (2 * bend), -1), 1);
  });
}

/** [x, y] in cells: the mean of what the cells around the best one say, by the square of their heatmap. */
function vote({ heatmap, offset }, k, best, width, height, radius) {
  const cells = width * height;
  const bestRow = Math.floor(best / width);
  const bestColumn = best - bestRow * width;
  let [total, x, y] = [0, 0, 0];
  for (let row = Math.max(0, bestRow - radius); row <= Math.min(height - 1, bestRow + radius); row++) {
    for (let column = Math.max(0, bestColumn - radius); column <= Math.min(width - 1, bestColumn + radius); column++) {
      const cell = row * width + column;
      const weight = radius === 0 ? 1 : heatmap[k * cells + cell] ** 2 + 1e-12;
      total += weight;
      x += weight * (column + offset[2 * k * cells + cell]);
      y += weight * (row + offset[(2 * k + 1) * cells + cell]);
    }
  }
  return [x / total, y / total];
}

/** The first cell with the largest value / (distance to (x, y) + softening), counted from `start`. */
function nearestPeak(values, start, width, height, x, y, softening) {
  let best = -Infinity;
  let cell = 0;
  for (let row = 0, at = 0; row < height; row++) {
    const dy = (row - y) * (row - y);
    for (let column = 0; column < width; column++, at++) {
      const weighted = values[start + at] / (Math.sqrt(dy + (column - x) * (column - x)) + softening);
      if (weighted > best) {
        best = weighted;
        cell = at;
      }
    }
  }
  return cell;
}
