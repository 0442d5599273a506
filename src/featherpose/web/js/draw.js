// The pose over the picture, in the colours of featherpose.runtime.draw.
import { boxOfPoints, canonicalJointName } from "./smart_crop.js";

const COLOURS = { left: "#56b4e9", right: "#e69f00", middle: "#009e73" }; // Okabe and Ito, 2008
const OUTLINE = "rgb(24 24 24 / .85)";

/** Bones coloured by the person's own sides and joints on top; joints below the threshold are left out. */
export function drawPose(context, pose, spec, threshold) {
  const counts = pose.score.map((value) => value >= threshold);
  const shown = pose.xy.filter((_, k) => counts[k]);
  if (shown.length === 0) return;
  const box = boxOfPoints(shown);
  const extent = Math.min(
    Math.max(box[2] - box[0], box[3] - box[1]),
    Math.max(context.canvas.width, context.canvas.height),
  );
  const line = Math.max(1.5, extent / 60);
  const sides = spec.joints.map(sideOf);
  const bones = spec.bones.filter(([a, b]) => counts[a] && counts[b]);
  context.lineCap = "round";
  for (const outlined of [true, false]) {
    for (const [a, b] of bones) {
      context.beginPath();
      context.moveTo(...pose.xy[a]);
      context.lineTo(...pose.xy[b]);
      context.lineWidth = outlined ? line + 2 : line;
      context.strokeStyle = outlined ? OUTLINE : COLOURS[sideOfBone(sides[a], sides[b])];
      context.stroke();
    }
  }
  pose.xy.forEach((point, k) => {
    if (!counts[k]) return;
    context.beginPath();
    context.arc(...point, line * 1.1 + 0.5, 0, 2 * Math.PI);
    context.fillStyle = COLOURS[sides[k]];
    context.strokeStyle = OUTLINE;
    context.lineWidth = 1.2;
    context.fill();
    context.stroke();
  });
}

/** Somebody's number above the highest of their joints that count; mirrored where the canvas is shown so. */
export function drawNumber(context, number, pose, threshold, mirrored) {
  const shown = pose.xy.filter((_, k) => pose.score[k] >= threshold);
  if (shown.length === 0) return;
  const scale = Math.max(context.canvas.width, context.canvas.height) / 640;
  const [x, y] = shown.reduce((best, point) => (point[1] < best[1] ? point : best));
  context.save();
  context.translate(x, Math.max(y - 16 * scale, 36 * scale));
  if (mirrored) context.scale(-1, 1);
  context.font = `600 ${24 * scale}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.lineJoin = "round";
  context.lineWidth = 4 * scale;
  context.strokeStyle = OUTLINE;
  context.strokeText(number, 0, 0);
  context.fillStyle = "#ffffff";
  context.fillText(number, 0, 0);
  context.restore();
}

/** A thin square around what the network looked at. */
export function drawBox(context, [x1, y1, x2, y2]) {
  context.lineWidth = Math.max(1, Math.max(context.canvas.width, context.canvas.height) / 400);
  context.strokeStyle = "#ffffff";
  context.setLineDash([4 * context.lineWidth, 3 * context.lineWidth]);
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.setLineDash([]);
}

function sideOf(joint) {
  const side = canonicalJointName(joint).split("_")[0];
  return side === "left" || side === "right" ? side : "middle";
}

/** The side both ends agree on; an end in the middle has no say, and left to right is the middle. */
function sideOfBone(first, second) {
  const sides = new Set([first, second].filter((side) => side !== "middle"));
  return sides.size === 1 ? [...sides][0] : "middle";
}
