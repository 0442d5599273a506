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
