// The page: what the controls do, and the loop over frames.
import { Crowd } from "./crowd.js";
import { drawBox, drawNumber, drawPose } from "./draw.js";
import { Follower } from "./follow.js";
import { Frames } from "./frames.js";
import { Looker } from "./look.js";
import { loadModel } from "./model.js";
import { Recording } from "./recording.js";
import { openAddress, openCamera, openFile } from "./sources.js";
import { arrayPicture } from "./warp.js";

const STAGES = ["crop", "network", "decode", "filter"];
const WINDOW = 30; // frames that the figures are averaged over
const SHOWN_EVERY = 250; // ms between changes of the figures

const $ = (id) => document.getElementById(id);
const video = $("video");
const canvas = $("canvas");
const screen = canvas.getContext("2d");

/** What the page remembers. Reachable as `featherpose` from the console. */
const page = {
  site: { models: [], sample: null },
  model: null,
  follower: null,
  crowd: null, // everybody, by the same looker
  source: null,
  about: null,
  buffer: null, // the frame that is looked at, and then shown with its pose
  frames: 0,
  run: 0, // counts sources: a loop of an earlier one ends itself
  entry: null, // the list's entry of the model that runs
  requests: 0, // counts models asked for: one that comes after a later one was asked for is not used
  recording: new Recording(),
  times: [],
  spent: [],
  shownAt: -Infinity,
};
globalThis.featherpose = page;

let queue = Promise.resolve();
/** One thing at a time: the runtime cannot load, run or release two at once. */
function inTurn(action) {
  const result = queue.then(action);
  queue = result.catch(() => {});
  return result;
}

// --- models ---------------------------------------------------------------------------------------------------------

async function start() {
  try {
    const answer = await fetch("site.json");
    if (answer.ok) page.site = await answer.json();
  } catch {
    // a page without a list: the user can still open a file
  }
  for (const button of document.querySelectorAll('[data-open="sample"]')) button.hidden = !page.site.sample;
  for (const { name, file } of page.site.models) $("model").add(new Option(name, file));
  if (page.site.models.length) {
    await guarded(() => useEntry(page.site.models[0]));
  } else {
    $("model").add(new Option("no model comes along", ""));
    $("model").disabled = true;
    $("model-about").textContent = "Open an ONNX file; featherpose export makes them.";
  }
}

const OPENED = "opened"; // the `file` of the entry of a model that was opened, whose bytes are kept

/** Loads a model of the list, {name, file, summary} or {name, file, bytes}; the list names the model that runs, always. */
async function useEntry(entry) {
  const request = ++page.requests;
  busy("loading the model");
  try {
    const bytes = entry.bytes ?? (await fetched(entry.file));
    if (request === page.requests) await useModel(bytes, entry);
  } finally {
    if (page.entry !== null) $("model").value = page.entry.file;
  }
}

async function fetched(file) {
  const answer = await fetch(file);
  if (!answer.ok) throw new Error(`${file}: the server does not have this model (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function useModelFile(file) {
  const entry = { name: file.name, file: OPENED, bytes: new Uint8Array(await file.arrayBuffer()) };
  await useEntry(entry);
  if (page.entry !== entry) return;
  page.site.models = [...page.site.models.filter((model) => model.file !== OPENED), entry];
  for (const old of [...$("model").options]) if (["", OPENED].includes(old.value)) old.remove();
  $("model").add(new Option(entry.name, OPENED, true, true));
  $("model").disabled = false;
}

async function useModel(bytes, entry) {
  const { name, summary = "" } = entry;
  await inTurn(async () => {
    const model = await loadModel(bytes, name);
    await page.model?.release();
    page.model = model;
    page.entry = entry;
    const looker = new Looker(model);
    page.follower = new Follower(looker);
    page.crowd = new Crowd(looker);
  });
  page.recording.clear(); // its rows hold the joints of one model
  const { spec, threads } = page.model;
  const licence = spec.provenance.licence ? `, ${spec.provenance.licence}` : "";
  $("model-about").textContent =
    `${summary || `${spec.name} ${spec.version}`}: ${spec.inputSize.join(" × ")} px, ${spec.joints.length} joints` +
    `${licence}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  setThreshold(spec.jointThreshold);
  $("everybody").disabled = spec.outputs !== "raw";
  if (spec.outputs !== "raw") setEverybody(false); // such a model finds one person
  forgetFigures();
  busy(null);
  await again();
}

// --- sources --------------------------------------------------------------------------------------------------------

async function open(opening) {
  close();
  const run = page.run;
  busy("opening");
  let source;
  try {
    source = await opening(() => run === page.run);
  } catch (error) {
    if (run !== page.run) return; // something else was opened meanwhile
    throw error;
  }
  if (run !== page.run) return source.close();
  page.source = source;
  page.about = { kind: source.kind, name: source.name, size_wh: [source.width, source.height] };
  page.recording.clear();
  canvas.width = source.width;
  canvas.height = source.height;
  page.buffer = new Frames(source.width, source.height);
  setMirror(source.kind === "camera");
  $("welcome").hidden = true;
  $("stage").scrollIntoView({ block: "nearest" });
  $("stop").disabled = false;
  $("transport").hidden = source.kind !== "video";
  canvas.classList.add("live");
  busy(null);
  source.ended?.then(() => {
    if (run === page.run) {
      close();
      complain("The camera was disconnected; what was found so far can still be downloaded");
    }
  });
  if (page.model === null) complain("There is no model yet: open an ONNX file, made with featherpose export");
  if (source.kind === "photo") await lookAtPhoto();
  else everyFrame(run);
}

function close() {
  page.run++;
  page.source?.close();
  page.source = page.buffer = null;
  startAnew();
  page.frames = 0;
  forgetFigures();
  screen.clearRect(0, 0, canvas.width, canvas.height);
  canvas.classList.remove("live");
  $("welcome").hidden = false;
  $("transport").hidden = $("lost").hidden = $("joints").hidden = true;
  $("stop").disabled = $("nearest").disabled = true;
  busy(null);
}

/** Forgets who is followed. */
function startAnew() {
  page.follower?.start(null);
  page.follower?.reset();
  page.crowd?.reset();
}

// --- frames ---------------------------------------------------------------------------------------------------------

/**
 * Looks at each new frame as soon as the last one is done. Frames that come in between are left out, but not the one a
 * video stops at: nothing comes after it.
 */
function everyFrame(run) {
  const begin = performance.now();
  let looking = false;
  let missed = null;
  const look = async (now, facts) => {
    const timestamp = page.source.kind === "video" ? facts.mediaTime : (now - begin) / 1000;
    if (page.model === null) await showBare(run);
    else await inTurn(() => lookAtFrame(run, timestamp));
  };
  const step = async (...frame) => {
    if (run !== page.run) return;
    next();
    missed = frame;
    if (looking) return;
    looking = true;
    try {
      do {
        const shown = missed;
        missed = null;
        await look(...shown);
      } while (missed !== null && video.paused && run === page.run);
      looking = false;
    } catch (error) {
      if (run === page.run) {
        close();
        complain(error.message);
      }
    }
  };
  const next = () => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(step);
    else requestAnimationFrame((now) => step(now, { mediaTime: video.currentTime }));
  };
  next();
}

async function lookAtFrame(run, timestamp) {
  if (run !== page.run) return;
  const start = performance.now();
  const picture = await grab();
  const grabTime = performance.now() - start;
  if (run !== page.run) return;
  const who = watching();
  who.smoothing = $("smoothing").checked;
  await who.next(picture, timestamp);
  if (run !== page.run || who !== watching()) return;
  seen(who, timestamp, grabTime);
}

/** Who is looked for: one person, or everybody. */
const watching = () => ($("everybody").checked ? page.crowd : page.follower);

/** Writes down and shows what was found in a frame. */
function seen(who, timestamp, grabTime) {
  const { state, looker, spec } = who;
  page.frames++;
  if (who === page.crowd) page.recording.addPeople(timestamp, state, who.poses, spec.joints);
  else page.recording.add(timestamp, state, who.pose, spec.joints);
  note({ ...looker.spent, crop: looker.spent.crop + grabTime });
  show();
}

async function lookAtPhoto() {
  const { run } = page;
  if (page.model === null) return showBare(run);
  await inTurn(async () => {
    if (run !== page.run) return;
    const start = performance.now();
    const picture = await grab();
    const grabTime = performance.now() - start;
    const who = watching();
    await who.photo(picture);
    if (run !== page.run || who !== watching()) return;
    page.recording.clear();
    forgetFigures();
    seen(who, 0, grabTime);
  });
}

/** Looks once more where nothing moves by itself: a photo, or a video that is paused. */
async function again() {
  if (page.source?.kind === "photo") await lookAtPhoto();
  else if (page.source?.kind === "video" && video.paused) video.currentTime = video.currentTime;
}

async function grab() {
  const { data, width, height } = await page.buffer.take(page.source.image);
  return arrayPicture(data, width, height);
}

/** The picture alone, while there is no model. */
async function showBare(run) {
  const { buffer, source } = page;
  await buffer.take(source.image);
  if (run === page.run) screen.putImageData(buffer.pixels, 0, 0);
}

// --- what is shown --------------------------------------------------------------------------------------------------

function show() {
  const who = watching();
  const threshold = Number($("threshold").value);
  screen.putImageData(page.buffer.pixels, 0, 0);
  for (const pose of posesOf(who)) {
    if ($("region").checked) drawBox(screen, pose.box);
    drawPose(screen, pose, who.spec, threshold);
  }
  if (who === page.crowd) {
    for (const [number, pose] of who.poses) drawNumber(screen, number, pose, threshold, $("mirror").checked);
  }
  $("lost").hidden = who.state === "found";
  $("lost").textContent = who.state === "lost" ? "nobody in sight" : "out of sight for a moment";
  if (performance.now() - page.shownAt >= SHOWN_EVERY) showFigures();
}

/** Those who are shown. */
function posesOf(who) {
  if (who === page.crowd) return [...who.poses.values()];
  return who.pose === null ? [] : [who.pose];
}

function note(spent) {
  page.times.push(performance.now());
  page.spent.push(spent);
  if (page.times.length > WINDOW) {
    page.times.shift();
    page.spent.shift();
  }
}

function forgetFigures() {
  page.times = [];
  page.spent = [];
  page.shownAt = -Infinity;
}

function showFigures() {
  page.shownAt = performance.now();
  const { times, spent } = page;
  const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : null;
  $("fps").textContent = rate === null ? "–" : rate.toFixed(1);
  const mean = (stage) => spent.reduce((sum, value) => sum + value[stage], 0) / spent.length;
  const total = STAGES.reduce((sum, stage) => sum + mean(stage), 0);
  $("total").textContent = total.toFixed(1);
  for (const stage of STAGES) {
    $(`ms-${stage}`).textContent = `${mean(stage).toFixed(1)} ms`;
    document.querySelector(`#bar [data-stage="${stage}"]`).style.width = `${(100 * mean(stage)) / (total || 1)}%`;
  }
  const count = page.recording.rows.length;
  $("recorded").textContent = count === 1 ? "1 frame recorded." : `${count} frames recorded.`;
  $("download").disabled = $("clear").disabled = count === 0;
  if (page.source?.kind === "video" && document.activeElement !== $("seek")) {
    $("seek").value = video.currentTime / (video.duration || 1);
  }
  $("clock").textContent = `${Math.floor(video.currentTime / 60)}:${String(Math.floor(video.currentTime % 60)).padStart(2, "0")}`;
  showJoints();
}

function showJoints() {
  const { spec } = page.follower;
  const pose = $("everybody").checked ? null : page.follower.pose;
  $("joints").hidden = pose === null;
  if (pose === null) return;
  const body = $("joints").tBodies[0];
  while (body.rows.length < spec.joints.length) {
    const row = body.insertRow();
    for (let i = 0; i < 4; i++) row.insertCell();
  }
  while (body.rows.length > spec.joints.length) body.deleteRow(-1);
  spec.joints.forEach((name, k) => {
    const row = body.rows[k];
    const texts = [name.replaceAll("_", " "), pose.xy[k][0].toFixed(0), pose.xy[k][1].toFixed(0), pose.score[k].toFixed(2)];
    texts.forEach((text, i) => (row.cells[i].textContent = text));
    row.className = pose.score[k] < Number($("threshold").value) ? "faint" : "";
  });
}

function busy(text) {
  $("busy").hidden = text === null;
  $("busy").textContent = text === null ? "" : `${text}…`;
}

function complain(text) {
  busy(null);
  $("alert-text").textContent = text;
  $("alert").hidden = false;
  $("alert").scrollIntoView({ block: "nearest" }); // on a phone the buttons stand far below
}

/** Does something the user asked for; what goes wrong is told in one sentence. */
async function guarded(action) {
  $("alert").hidden = true;
  try {
    await action();
  } catch (error) {
    if (page.source === null) close();
    complain(error.message);
  }
}

function setThreshold(value) {
  $("threshold").value = value;
  $("threshold-value").textContent = Number(value).toFixed(2);
}

function setMirror(on) {
  $("mirror").checked = on;
  canvas.classList.toggle("mirrored", on);
}

/** One person or everybody; the rows so far hold the other. */
function setEverybody(on) {
  $("everybody").checked = on;
  $("follow-hint").textContent = on ? "Click or tap a person to follow only them." : "Click or tap a person to follow them.";
  $("nearest").disabled = true;
  startAnew();
  page.recording.clear();
  forgetFigures();
}

/** The point of the picture under the pointer, or null beside it. */
function pointOf(event) {
  const frame = canvas.getBoundingClientRect();
  const scale = Math.min(frame.width / canvas.width, frame.height / canvas.height);
  const x = (event.clientX - frame.left - (frame.width - scale * canvas.width) / 2) / scale;
  const y = (event.clientY - frame.top - (frame.height - scale * canvas.height) / 2) / scale;
  if (x < 0 || y < 0 || x > canvas.width || y > canvas.height) return null;
  return [$("mirror").checked ? canvas.width - x : x, y];
}

function download() {
  const { spec } = page.follower;
  const facts = {
    source: page.about,
    model: { name: spec.name, version: spec.version },
    skeleton: { joints: spec.joints, bones: spec.bones.map((bone) => bone.map((k) => spec.joints[k])) },
    smoothing: page.about.kind !== "photo" && $("smoothing").checked,
    coordinates: "pixels of the picture, continuous, origin at the top-left corner; not mirrored",
  };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([page.recording.text(facts)], { type: "application/json" }));
  link.download = `${page.about.name.replace(/\.[^.]*$/, "")}.poses.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// --- controls -------------------------------------------------------------------------------------------------------

const OPENERS = {
  camera: () => guarded(() => open((wanted) => openCamera(video, wanted))),
  file: () => $("file").click(),
  sample: () => guarded(() => open(() => openAddress(page.site.sample))),
};
for (const button of document.querySelectorAll("[data-open]")) button.addEventListener("click", OPENERS[button.dataset.open]);

function take(file) {
  if (!file) return;
  guarded(() => (file.name.toLowerCase().endsWith(".onnx") ? useModelFile(file) : open(() => openFile(file, video))));
}
for (const id of ["file", "model-file"]) {
  $(id).addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = "";
  });
}
$("open-model").addEventListener("click", () => $("model-file").click());
$("model").addEventListener("change", (event) => {
  const entry = page.site.models.find((model) => model.file === event.target.value);
  if (entry) guarded(() => useEntry(entry));
});
$("stop").addEventListener("click", close);
$("alert-close").addEventListener("click", () => ($("alert").hidden = true));

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) $("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  take(event.dataTransfer.files[0]);
});

canvas.addEventListener("click", (event) => {
  const point = page.source && page.model ? pointOf(event) : null;
  if (point === null) return;
  if ($("everybody").checked) setEverybody(false);
  page.follower.start(point);
  $("nearest").disabled = false;
  again();
});
$("nearest").addEventListener("click", () => {
  startAnew();
  $("nearest").disabled = true;
  again();
});
$("everybody").addEventListener("change", (event) => {
  setEverybody(event.target.checked);
  again();
});
$("threshold").addEventListener("input", (event) => {
  setThreshold(event.target.value);
  if (page.follower && page.frames) show();
});
$("mirror").addEventListener("change", (event) => {
  setMirror(event.target.checked);
  if (page.follower && page.frames) show(); // numbers are written to be read
});
$("region").addEventListener("change", () => page.follower && page.frames && show());
$("smoothing").addEventListener("change", () => page.follower?.filter.reset());
$("download").addEventListener("click", download);
$("clear").addEventListener("click", () => {
  page.recording.clear();
  page.shownAt = -Infinity;
});
video.loop = true;
$("play").addEventListener("click", () => (video.paused ? video.play() : video.pause()));
for (const name of ["play", "pause"]) {
  video.addEventListener(name, () => ($("play").textContent = video.paused ? "Play" : "Pause"));
}
$("seek").addEventListener("input", (event) => (video.currentTime = Number(event.target.value) * (video.duration || 0)));

/** Looks at the current frame once more, as the loop does; seconds. For the console and for tests. */
page.step = (timestamp) => inTurn(() => lookAtFrame(page.run, timestamp));
page.ready = start();
