// The page: what the controls do, and the loop over frames.
import { Crowd } from "./crowd.js";
import { drawBox, drawNumber, drawPose } from "./draw.js";
import { Follower } from "./follow.js";
import { Frames } from "./frames.js";
import { Looker } from "./look.js";
import { loadModel } from "./model.js";
import { Recording } from "./recording.js";
import { boxOfPoints, middleOf } from "./smart_crop.js";
import { openAddress, openCamera, openFile } from "./sources.js";
import { arrayPicture } from "./warp.js";

const STAGES = ["crop", "network", "decode", "filter"];
const WINDOW = 30; // frames that the figures are averaged over
const SHOWN_EVERY = 250; // ms between changes of the figures
const STEADY = 500; // ms for which a state must last to be read out
const NO_MODEL = "There is no model yet: open an ONNX file, made with featherpose export";

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
  time: null, // of the frame that was looked at last, seconds
  run: 0, // counts sources: a loop of an earlier one ends itself
  entry: null, // the list's entry of the model that runs
  requests: 0, // counts models asked for: one that comes after a later one was asked for is not used
  loading: 0, // models on their way
  recording: new Recording(),
  times: [],
  spent: [],
  shownAt: -Infinity,
  chosen: null, // words for the person that "Next person" chose
  later: null, // the timer of the next change of the figures
  told: "", // what is read out, now or in a moment
  telling: null, // its timer
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
  page.loading++; // until the list is there nobody knows that there is no model
  try {
    const answer = await fetch("site.json");
    if (answer.ok) page.site = await answer.json();
  } catch {
    // a page without a list: the user can still open a file
  }
  page.loading--;
  for (const button of document.querySelectorAll('[data-open="sample"]')) button.hidden = !page.site.sample;
  for (const { name, file } of page.site.models) $("model").add(new Option(name, file));
  if (page.site.models.length) {
    await guarded(() => useEntry(page.site.models[0]));
  } else {
    $("model").add(new Option("no model comes along", ""));
    $("model").disabled = true;
    $("model-about").textContent = "Open an ONNX file; featherpose export makes them.";
    if (page.source !== null && page.loading === 0 && page.model === null) complain(NO_MODEL);
  }
}

const OPENED = "opened"; // the `file` of the entry of a model that was opened, whose bytes are kept

/** Loads a model of the list, {name, file, summary} or {name, file, bytes}; the list names the model that runs, always. */
async function useEntry(entry) {
  const request = ++page.requests;
  page.loading++;
  busy("loading the model");
  try {
    const bytes = entry.bytes ?? (await fetched(entry.file));
    if (request !== page.requests) return;
    await useModel(bytes, entry);
  } finally {
    page.loading--;
    idle();
    if (page.entry !== null) $("model").value = page.entry.file;
  }
  await again();
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
  clearRecording(); // its rows hold the joints of one model
  const { spec, threads } = page.model;
  const licence = spec.provenance.licence ? `, ${spec.provenance.licence}` : "";
  $("model-about").textContent =
    `${summary || `${spec.name} ${spec.version}`}: ${spec.inputSize.join(" × ")} px, ${spec.joints.length} joints` +
    `${licence}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  setThreshold(spec.jointThreshold);
  $("everybody").disabled = spec.outputs !== "raw";
  if (spec.outputs !== "raw") setEverybody(false); // such a model finds one person
  forgetFigures();
  $("next").disabled = !canChoose();
  tell("the model is ready");
  if ($("alert-text").textContent === NO_MODEL) $("alert").hidden = true;
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
  page.about = { kind: source.kind, name: source.name, size_wh: null };
  clearRecording();
  setSize(source.width, source.height);
  setMirror(source.kind === "camera");
  $("welcome").hidden = true;
  $("stage").scrollIntoView({ block: "nearest" });
  $("stop").disabled = false;
  $("next").disabled = !canChoose();
  $("transport").hidden = source.kind !== "video";
  canvas.classList.add("live");
  idle();
  source.ended?.then(() => {
    if (run === page.run) {
      close();
      complain("The camera was disconnected; what was found so far can still be downloaded");
    }
  });
  if (page.model === null && page.loading === 0) complain(NO_MODEL);
  if (source.kind === "photo") await lookAtPhoto();
  else everyFrame(run);
}

/** The size of the pictures of the source from now on. */
function setSize(width, height) {
  const { source, about, recording } = page;
  Object.assign(source, { width, height });
  about.size_wh = recording.size = source.own ?? [width, height];
  canvas.width = width;
  canvas.height = height;
  page.buffer = new Frames(width, height);
}

/** A camera that is turned, or a video in parts, may go on with another size; whether it did. */
function resized() {
  const { source } = page;
  const { videoWidth: width, videoHeight: height } = video;
  if (source?.image !== video || width === 0 || (width === source.width && height === source.height)) return false;
  setSize(width, height);
  startAnew();
  $("nearest").disabled = true;
  return true;
}

function close() {
  page.run++;
  page.source?.close();
  page.source = page.buffer = page.time = null;
  startAnew();
  page.frames = 0;
  forgetFigures();
  screen.clearRect(0, 0, canvas.width, canvas.height);
  canvas.classList.remove("live");
  $("welcome").hidden = false;
  $("transport").hidden = $("lost").hidden = $("joints").hidden = true;
  $("stop").disabled = $("nearest").disabled = $("next").disabled = true;
  tell("");
  idle();
}

/** Forgets who is followed. */
function startAnew() {
  page.chosen = null;
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
    page.time = timestamp;
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
  resized();
  const { buffer } = page;
  const start = performance.now();
  const picture = await grab();
  const grabTime = performance.now() - start;
  if (run !== page.run || buffer !== page.buffer) return;
  const who = watching();
  who.smoothing = $("smoothing").checked;
  await who.next(picture, timestamp);
  if (run !== page.run || buffer !== page.buffer || who !== watching()) return;
  seen(who, timestamp, grabTime);
}

/** Who is looked for: one person, or everybody. */
const watching = () => ($("everybody").checked ? page.crowd : page.follower);

/** Writes down and shows what was found in a frame. */
function seen(who, timestamp, grabTime) {
  const { state, looker, spec } = who;
  page.frames++;
  if (who === page.crowd) {
    const people = new Map([...who.poses].map(([number, pose]) => [number, inOwnPixels(pose)]));
    page.recording.addPeople(timestamp, state, people, spec.joints);
  } else {
    page.recording.add(timestamp, state, who.pose && inOwnPixels(who.pose), spec.joints);
  }
  note({ ...looker.spent, crop: looker.spent.crop + grabTime });
  show();
}

/** A pose in the photo's own pixels: a very large one is looked at reduced. */
function inOwnPixels(pose) {
  const { width, height, own } = page.source;
  if (!own) return pose;
  const [x, y] = [own[0] / width, own[1] / height];
  const [x1, y1, x2, y2] = pose.box;
  return { ...pose, xy: pose.xy.map((point) => [point[0] * x, point[1] * y]), box: [x1 * x, y1 * y, x2 * x, y2 * y] };
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

/** Looks once more where nothing moves by itself: a photo, or the frame at which a video is paused. */
async function again() {
  const { source, run } = page;
  if (source?.kind === "photo") await lookAtPhoto();
  else if (source?.kind !== "video" || !video.paused) return;
  else if (page.model === null) await showBare(run);
  else await inTurn(() => lookAtFrame(run, page.time ?? video.currentTime));
}

const lookAgain = () => again().catch((error) => complain(error.message));

async function grab() {
  const { data, width, height } = await page.buffer.take(page.source.image);
  return arrayPicture(data, width, height);
}

/** The picture alone, while there is no model. */
async function showBare(run) {
  resized();
  const { buffer, source } = page;
  await buffer.take(source.image);
  if (run === page.run && buffer === page.buffer) screen.putImageData(buffer.pixels, 0, 0);
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
  showFiguresSoon();
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
  clearTimeout(page.later);
  showSpeed();
}

/** Now, or when the figures have stood long enough to be read: those of the last frame come too. */
function showFiguresSoon() {
  clearTimeout(page.later);
  const wait = page.shownAt + SHOWN_EVERY - performance.now();
  if (wait <= 0) showFigures();
  else page.later = setTimeout(showFigures, wait);
}

function showSpeed() {
  const { times, spent } = page;
  const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : null;
  $("fps").textContent = rate === null ? "–" : rate.toFixed(1);
  const mean = (stage) => spent.reduce((sum, value) => sum + value[stage], 0) / (spent.length || 1);
  const total = STAGES.reduce((sum, stage) => sum + mean(stage), 0);
  const told = (value, unit) => (spent.length === 0 ? "–" : `${value.toFixed(1)}${unit}`);
  $("total").textContent = told(total, "");
  for (const stage of STAGES) {
    $(`ms-${stage}`).textContent = told(mean(stage), " ms");
    document.querySelector(`#bar [data-stage="${stage}"]`).style.width = `${(100 * mean(stage)) / (total || 1)}%`;
  }
}

function showRecorded() {
  const { rows, complete } = page.recording;
  const frames = rows.length === 1 ? "1 frame recorded" : `${rows.length} frames recorded`;
  const until = complete ? ", to the end of the video" : "";
  $("recorded").textContent = rows.length === 0 ? "Nothing recorded yet." : `${frames}${until}.`;
  $("download").disabled = $("clear").disabled = rows.length === 0;
}

function clearRecording() {
  page.recording.clear();
  showRecorded();
}

function showFigures() {
  page.shownAt = performance.now();
  showSpeed();
  showRecorded();
  tell(whoIsSeen());
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
  const { xy } = inOwnPixels(pose);
  const body = $("joints").tBodies[0];
  while (body.rows.length < spec.joints.length) {
    const row = body.insertRow();
    for (let i = 0; i < 4; i++) row.insertCell();
  }
  while (body.rows.length > spec.joints.length) body.deleteRow(-1);
  spec.joints.forEach((name, k) => {
    const row = body.rows[k];
    const texts = [name.replaceAll("_", " "), xy[k][0].toFixed(0), xy[k][1].toFixed(0), pose.score[k].toFixed(2)];
    texts.forEach((text, i) => (row.cells[i].textContent = text));
    row.className = pose.score[k] < Number($("threshold").value) ? "faint" : "";
  });
}

function busy(text) {
  $("busy").hidden = text === null;
  $("busy").textContent = text === null ? "" : `${text}…`;
  if (text !== null) tell(`${text}…`);
}

/** The page itself has nothing to do; a model may still be on its way. */
const idle = () => busy(page.loading > 0 ? "loading the model" : null);

const whoIsSeen = () => {
  const who = watching();
  const count = posesOf(who).length;
  if (who.state !== "found") return $("lost").textContent;
  if (who === page.follower && page.chosen !== null) return page.chosen;
  return count === 1 ? "a person is in sight" : `${count} people are in sight`;
};

/** For those who listen to the page: what lasts a moment is read out, without haste. */
function tell(text) {
  if (text === page.told) return;
  page.told = text;
  clearTimeout(page.telling);
  page.telling = setTimeout(() => ($("told").textContent = text), STEADY);
}

function complain(text) {
  idle();
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
  clearRecording();
  forgetFigures();
}

/** Follows the person at a point of the picture. chosen: words for them. */
async function follow(point, chosen = null) {
  if ($("everybody").checked) setEverybody(false);
  page.chosen = chosen;
  page.follower.start(point);
  $("nearest").disabled = false;
  await again();
}

/** Whether there can be others to choose from: a model with its decoding inside sees one person. */
const canChoose = () => page.source !== null && page.model?.spec.outputs === "raw";

/** Follows the next person to the right, as shown, and after the last one the first: choosing without a pointer. */
async function followNext() {
  if (!canChoose()) return;
  const { run } = page;
  const places = (await peopleInSight()).map(placeOf).sort((a, b) => a[0] - b[0]);
  if (run !== page.run || places.length === 0) return;
  if ($("mirror").checked) places.reverse();
  const { pose } = page.follower;
  const here = pose === null ? null : placeOf(pose);
  const away = (place) => Math.hypot(place[0] - here[0], place[1] - here[1]);
  const now = here === null ? -1 : places.indexOf(places.reduce((best, place) => (away(place) < away(best) ? place : best)));
  const next = (now + 1) % places.length;
  await follow(places[next], `following person ${next + 1} of ${places.length}, from the left`);
}

/** The poses of everybody in the frame that was looked at last. */
async function peopleInSight() {
  const { crowd } = page;
  if ($("everybody").checked) return [...crowd.poses.values()];
  return inTurn(async () => {
    if (page.source === null) return [];
    const poses = [...(await crowd.photo(await grab())).values()];
    crowd.reset();
    return poses;
  });
}

/** The middle of the joints that count. */
function placeOf(pose) {
  const counted = pose.xy.filter((_, k) => pose.score[k] >= page.model.spec.jointThreshold);
  return middleOf(boxOfPoints(counted.length > 0 ? counted : pose.xy));
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
  if (point !== null) follow(point).catch((error) => complain(error.message));
});
$("next").addEventListener("click", () => followNext().catch((error) => complain(error.message)));
$("nearest").addEventListener("click", () => {
  startAnew();
  $("nearest").disabled = true;
  lookAgain();
});
$("everybody").addEventListener("change", (event) => {
  setEverybody(event.target.checked);
  lookAgain();
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
$("clear").addEventListener("click", clearRecording);
video.addEventListener("resize", () => resized() && lookAgain());
video.addEventListener("ended", () => {
  if (video.srcObject !== null) return; // a camera that is gone
  page.recording.complete = true;
  video.play().catch(() => {}); // from the beginning; meanwhile something else may be opened
});
$("play").addEventListener("click", () => (video.paused ? video.play().catch(() => {}) : video.pause()));
for (const name of ["play", "pause"]) {
  video.addEventListener(name, () => ($("play").textContent = video.paused ? "Play" : "Pause"));
}
$("seek").addEventListener("input", (event) => {
  const { duration } = video;
  // a paused video that comes to its very end would begin to play
  if (Number.isFinite(duration)) video.currentTime = Math.min(Number(event.target.value) * duration, Math.max(duration - 0.001, 0));
});

/** Looks at the current frame once more, as the loop does; seconds. For the console and for tests. */
page.step = (timestamp) => inTurn(() => lookAtFrame(page.run, timestamp));
page.ready = start();
