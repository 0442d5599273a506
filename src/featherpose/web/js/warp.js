// What the network sees of a photo: the same arithmetic as featherpose.geometry.warp, so that joints agree with Python's.
//
// A picture is {width, height, read(left, top, width, height)}, where `read` gives RGBA bytes, row by row.

import { halvingsOf } from "./geometry.js";

/** Pixels: so near a border between pixels is on it. */
const WHOLE = 1e-6;

/** A picture in memory. data: RGBA bytes, row by row. */
export function arrayPicture(data, width, height) {
  return {
    width,
    height,
    read(left, top, w, h) {
      const part = new Uint8ClampedArray(4 * w * h);
      for (let row = 0; row < h; row++) {
        const start = 4 * ((top + row) * width + left);
        part.set(data.subarray(start, start + 4 * w), 4 * row * w);
      }
      return part;
    },
  };
}

/**
 * The picture seen through a map {scale, x, y}: RGB bytes, out_h x out_w x 3, bilinear, zeros outside the picture.
 *
 * Shrinking by two or more first halves the part that is needed by averages, as often as it can be.
 */
export function warp(picture, map, [outWidth, outHeight]) {
  const halvings = halvingsOf(1 / map.scale);
  const part = needed(picture, map, [outWidth, outHeight]);
  let { left, top, width, height } = part;
  let data = picture.read(left, top, width, height);
  for (let i = 0; i < halvings; i++) {
    data = halved(data, width, height);
    width = (width + 1) >> 1;
    height = (height + 1) >> 1;
  }
  const step = 1 / (map.scale * 2 ** halvings); // pixels of the part, as it now is, per pixel of the output
  const columns = places(outWidth, width, step, (-map.x / map.scale - left) / 2 ** halvings);
  const rows = places(outHeight, height, step, (-map.y / map.scale - top) / 2 ** halvings);
  return blend(data, width, columns, rows);
}

/** The part of a picture that is seen, with a rim; at least one pixel. Parts that begin between pixels are halved from there. */
export function needed(picture, map, [outWidth, outHeight]) {
  const pixel = 2 ** halvingsOf(1 / map.scale);
  const range = (shift, out, size) => {
    const first = -shift / map.scale;
    const whole = pixel * Math.round(first / pixel);
    const low = Math.abs(first - whole) < WHOLE ? whole - 2 * pixel : Math.floor(first) - 2;
    const high = Math.ceil((out - shift) / map.scale) + 2;
    const start = Math.min(Math.max(low, 0), size - 1);
    return [start, Math.max(Math.min(high, size), start + 1)];
  };
  const [left, right] = range(map.x, outWidth, picture.width);
  const [top, bottom] = range(map.y, outHeight, picture.height);
  return { left, top, width: right - left, height: bottom - top };
}

/** Every 2 x 2 pixels averaged; an odd last row or column counts twice. */
function halved(data, width, height) {
  const w = (width + 1) >> 1;
  const h = (height + 1) >> 1;
  const out = new Uint8ClampedArray(4 * w * h);
  let place = 0;
  for (let row = 0; row < h; row++) {
    const upper = 8 * row * width;
    const lower = 2 * row + 1 < height ? upper + 4 * width : upper;
    for (let column = 0; column < w; column++) {
      const a = 8 * column;
      const b = 2 * column + 1 < width ? a + 4 : a;
      for (let c = 0; c < 3; c++) {
        out[place + c] = (data[upper + a + c] + data[upper + b + c] + data[lower + a + c] + data[lower + b + c] + 2) >> 2;
      }
      place += 4;
    }
  }
  return out;
}

/** Where each pixel centre of an output axis falls: the lower index, and weights of it and the next; 0 outside. */
function places(out, size, step, start) {
  const index = new Int32Array(2 * out);
  const weight = new Float32Array(2 * out);
  for (let i = 0; i < out; i++) {
    const at = start + (i + 0.5) * step - 0.5;
    const low = Math.floor(at);
    const inside = (k) => k >= 0 && k < size;
    index[2 * i] = inside(low) ? low : 0;
    index[2 * i + 1] = inside(low + 1) ? low + 1 : 0;
    weight[2 * i] = inside(low) ? 1 - (at - low) : 0;
    weight[2 * i + 1] = inside(low + 1) ? at - low : 0;
  }
  return { index, weight };
}

function blend(data, width, columns, rows) {
  const outWidth = columns.index.length / 2;
  const outHeight = rows.index.length / 2;
  const out = new Uint8ClampedArray(3 * outWidth * outHeight); // it rounds
  let place = 0;
  for (let i = 0; i < outHeight; i++) {
    const upper = 4 * width * rows.index[2 * i];
    const lower = 4 * width * rows.index[2 * i + 1];
    const up = rows.weight[2 * i];
    const down = rows.weight[2 * i + 1];
    for (let j = 0; j < outWidth; j++) {
      const a = 4 * columns.index[2 * j];
      const b = 4 * columns.index[2 * j + 1];
      const left = columns.weight[2 * j];
      const right = columns.weight[2 * j + 1];
      for (let c = 0; c < 3; c++) {
        out[place++] =
          up * (left * data[upper + a + c] + right * data[upper + b + c]) +
          down * (left * data[lower + a + c] + right * data[lower + b + c]);
      }
    }
  }
  return new Uint8Array(out.buffer);
}
