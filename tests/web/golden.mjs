// The golden vectors that every language reads (tests/golden/README.md).
import { readFileSync } from "node:fs";

export const golden = (name) => JSON.parse(readFileSync(new URL(`../golden/${name}`, import.meta.url), "utf8"));

/** The largest difference between two nested lists of numbers of one shape; Infinity for other shapes and for NaN. */
export function farthest(a, b) {
  if (typeof a === "number" && typeof b === "number") return Number.isNaN(a - b) ? Infinity : Math.abs(a - b);
  if (!a || !b || a.length !== b.length) return Infinity;
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, farthest(a[i], b[i]));
  return most;
}
