// Crops of a photo, in the pixel convention of docs/conventions.md: continuous coordinates, the origin at the top-left
// corner of the top-left pixel. A map is {scale, x, y}: a photo's point p stands at scale * p + (x, y) in the input.

/** Takes a box [x1, y1, x2, y2] of the photo onto the input [width, height], keeping the aspect ratio, centred. */
export function cropMap([x1, y1, x2, y2], [width, height]) {
  const scale = Math.min(width / (x2 - x1), height / (y2 - y1));
  return { scale, x: width / 2 - ((x1 + x2) / 2) * scale, y: height / 2 - ((y1 + y2) / 2) * scale };
}

/** How often a picture is halved before it is warped to 1 / shrinking of its size. */
export const halvingsOf = (shrinking) => Math.max(0, Math.floor(Math.log2(shrinking) + 1e-6));

/** A number rounded as Python does it: halves go to the even neighbour. */
const rounded = (value) => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

/** The square moved and resized by less than a pixel of the photo (of the halved photo, where it is halved): whole pixels. */
export function wholePixels([x1, y1, x2, y2], inputSize) {
  const pixel = (length) => 2 ** halvingsOf(length / Math.max(...inputSize));
  const unit = pixel(x2 - x1);
  const side = Math.max(rounded((x2 - x1) / unit), 1) * unit;
  const step = pixel(side); // rounding up may have come to one more halving
  const left = step * rounded((x1 + x2 - side) / 2 / step);
  const top = step * rounded((y1 + y2 - side) / 2 / step);
  return [left, top, left + side, top + side];
}

/** A point of the photo in the input. */
export const toInput = (map, [x, y]) => [map.scale * x + map.x, map.scale * y + map.y];

/** A point of the input in the photo. */
export const toPhoto = (map, [x, y]) => [(x - map.x) / map.scale, (y - map.y) / map.scale];
