// Decoder, smart crop, filter and warp agree with the vectors that Python is tested against.
import assert from "node:assert/strict";
import { test } from "node:test";
import { wholePixels } from "../../src/featherpose/web/js/geometry.js";
import { decode } from "../../src/featherpose/web/js/movenet.js";
import { DEFAULTS, OneEuro } from "../../src/featherpose/web/js/one_euro.js";
import { smartCrop } from "../../src/featherpose/web/js/smart_crop.js";
import { arrayPicture, warp } from "../../src/featherpose/web/js/warp.js";
import { farthest, golden } from "./golden.mjs";

const movenet = golden("movenet_decode.json");
for (const { name, maps, joints, grid_wh: grid, stride, softening, center_softening: centerSoftening, vote_radius: voteRadius, refine, focus_xy: focus, expected } of movenet.cases) {
  for (const [kind, type] of [["double", Float64Array], ["single", Float32Array]]) {
    test(`decode: ${name}, ${kind} precision`, () => {
      const typed = Object.fromEntries(Object.entries(maps).map(([key, values]) => [key, type.from(values)]));
      const { xy, score, poseScore } = decode(typed, { grid, joints, stride, softening, centerSoftening, voteRadius, refine, focus });
      assert.ok(farthest(xy, expected.xy) < movenet.tolerance, JSON.stringify(xy));
      assert.ok(farthest(score, expected.score) < 1e-6);
      assert.ok(farthest(poseScore, expected.pose_score) < 1e-6);
    });
  }
}

const crops = golden("smart_crop.json");
for (const { name, joints, xy, score, size_wh: size, threshold, expected } of crops.cases) {
  test(`smart crop: ${name}`, () => {
    assert.ok(farthest(smartCrop({ xy, score }, joints, size, threshold), expected) < crops.tolerance);
  });
}

test("squares of whole pixels", () => {
  for (const { square, out_wh: out, expected } of golden("whole_pixels.json").cases) {
    assert.deepEqual(wholePixels(square, out).map((value) => value + 0), expected); // no -0
  }
});

const filters = golden("one_euro.json");
/** 'min_cutoff' as JavaScript spells it, 'minCutoff'. */
const camel = (settings) =>
  Object.fromEntries(Object.entries(settings).map(([key, v]) => [key.replace(/_(.)/g, (_, c) => c.toUpperCase()), v]));
for (const { name, settings, frames, expected } of filters.cases) {
  test(`One-Euro: ${name}`, () => {
    const filter = new OneEuro(camel(settings));
    frames.forEach(({ t, size, xy, score, seen }, i) => {
      assert.ok(farthest(filter.smooth(xy, t, size, { score, seen }), expected[i]) < filters.tolerance, `frame ${i}`);
    });
  });
}

test("One-Euro: the defaults are Python's", () => assert.deepEqual({ ...DEFAULTS }, camel(filters.defaults)));

const warps = golden("warp.json");
for (const { name, image, size_wh: [width, height], map, out_wh: out, expected } of warps.cases) {
  test(`warp: ${name}`, () => {
    const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
    image.forEach((value, i) => (rgba[4 * Math.floor(i / 3) + (i % 3)] = value));
    const seen = warp(arrayPicture(rgba, width, height), map, out);
    assert.ok(farthest(Array.from(seen), expected) <= 1, "the same arithmetic: rounding alone may differ");
  });
}
