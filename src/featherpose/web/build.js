// Copies the three files of onnxruntime-web that the page needs from node_modules to vendor/: `npm ci && npm run build`.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const from = join(here, "node_modules", "onnxruntime-web");
const to = join(here, "vendor");
const files = JSON.parse(readFileSync(join(here, "vendor.json"), "utf8")).files;

mkdirSync(to, { recursive: true });
for (const file of files) copyFileSync(join(from, "dist", file), join(to, file));
const { name, version, license } = JSON.parse(readFileSync(join(from, "package.json"), "utf8"));
writeFileSync(join(to, "about.json"), JSON.stringify({ name, version, license }) + "\n");
console.log(`${to}: ${name} ${version}`);
