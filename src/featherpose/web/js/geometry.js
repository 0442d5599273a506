// Crops of a photo, in the pixel convention of docs/conventions.md: continuous coordinates, the origin at the top-left
// corner of the top-left pixel. A map is {scale, x, y}: a photo's point p stands at scale * p + (x, y) in the input.

/** Takes a box [x1, y1, x2, y2] of the photo onto the input [width, height], keeping the aspect ratio, centred. */
export function cropMap([x1, y1, x2, y2], [width, height]) {
  const scale = Math.min(width / (x2 - x1), height / (y2 - y1));
  return { scale, x: width / 2 - ((x1 + x2) / 2) * scale, y: height / 2 - ((y1 + y2) / 2) * scale };
}

/** A point of the photo in the input. */
export const toInput = (map, [x, y]) => [map.scale * x + map.x, map.scale * y + map.y];

/** A point of the input in the photo. */
export const toPhoto = (map, [x, y]) => [(x - map.x) / map.scale, (y - map.y) / map.scale];
