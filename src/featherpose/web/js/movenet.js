// From a MoveNet's maps to joints: featherpose.codecs.movenet.MoveNetCodec.decode in JavaScript.

/**
 * The joints of the person nearest the focus: {xy: [[x, y], ...] input pixels, score: [...], poseScore}.
 *
 * maps: flat row-major arrays, center (H, W), heatmap (K, H, W), regression and offset (K, 2, H, W), x before y.
 * grid: [W, H] cells. stride: input pixels per cell. focus: a point in input pixels; null means the middle of the input.
 */
export function decode(maps, { grid, joints, stride = 4, softening = 1.8, focus = null }) {
  const [width, height] = grid;
  const cells = width * height;
  const [fx, fy] = focus === null ? [width / 2, height / 2] : [focus[0] / stride, focus[1] / stride];
  const chosen = nearestPeak(maps.center, 0, width, height, fx, fy, softening);
  const row = Math.floor(chosen / width);
  const column = chosen - row * width;

  const xy = [];
  const score = [];
  for (let k = 0; k < joints; k++) {
    const x = maps.regression[2 * k * cells + chosen] + column; // expected place, cell indices
    const y = maps.regression[(2 * k + 1) * cells + chosen] + row;
    const cell = nearestPeak(maps.heatmap, k * cells, width, height, x, y, softening);
    const cellRow = Math.floor(cell / width);
    const known = Number.isFinite(x) && Number.isFinite(y); // else every cell is equally far
    xy.push([
      known ? (cell - cellRow * width + maps.offset[2 * k * cells + cell]) * stride : NaN,
      known ? (cellRow + maps.offset[(2 * k + 1) * cells + cell]) * stride : NaN,
    ]);
    score.push(maps.heatmap[k * cells + cell]);
  }
  return { xy, score, poseScore: maps.center[chosen] };
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
