// What a model file says of itself. ONNX files carry it in their metadata under `featherpose.spec`; nothing is guessed
// from the shape of an output.

export const SPEC_KEY = "featherpose.spec";
const SPEC_VERSION = 1;
const DEFAULT_SIGMA = 0.08; // featherpose.skeletons: of joints whose spread nobody measured
const METADATA_PROPS = 14; // ModelProto.metadata_props in onnx.proto3; each entry has key = 1, value = 2

/** The spec of an ONNX file's bytes, in the page's words; Error with one sentence when the page cannot run it. */
export function readSpec(bytes, name = "the file") {
  let metadata;
  try {
    metadata = readMetadata(bytes);
  } catch (error) {
    throw new Error(`${name} is not a readable ONNX file, or a truncated one (${error.message})`);
  }
  if (!metadata.has(SPEC_KEY)) {
    throw new Error(
      `${name} is no featherpose pose model (its metadata lacks '${SPEC_KEY}'); make one with featherpose export`,
    );
  }
  let facts;
  try {
    facts = JSON.parse(metadata.get(SPEC_KEY));
  } catch (error) {
    throw new Error(`${name}: the model's spec is not JSON (${error.message})`);
  }
  return checkedSpec(facts, name);
}

function checkedSpec(facts, name) {
  if (facts?.task !== "pose") {
    throw new Error(`${name}: this model is for the task '${facts?.task}'; the page runs models for the task 'pose'`);
  }
  if (facts.spec_version !== SPEC_VERSION) {
    throw new Error(
      `${name}: the model's spec has version ${facts.spec_version}, this page reads ${SPEC_VERSION}; export it again`,
    );
  }
  if (!["raw", "decoded"].includes(facts.outputs)) {
    throw new Error(`${name}: unknown outputs '${facts.outputs}', expected raw or decoded`);
  }
  if (facts.outputs === "raw" && facts.codec?.name !== "movenet") {
    throw new Error(`${name}: unknown codec '${facts.codec?.name}'; this page decodes movenet`);
  }
  const [width, height] = facts.input_size ?? [];
  const joints = facts.skeleton?.joints;
  if (!(width > 0 && height > 0) || !Array.isArray(joints) || joints.length === 0) {
    throw new Error(`${name}: the model's spec lacks its input_size or its skeleton`);
  }
  const bones = (facts.skeleton.bones ?? []).map((bone) => bone.map((joint) => joints.indexOf(joint)));
  return {
    name: facts.name,
    version: facts.version,
    inputSize: [width, height],
    joints,
    sigmas: facts.skeleton.sigmas?.length ? facts.skeleton.sigmas : joints.map(() => DEFAULT_SIGMA),
    bones,
    outputs: facts.outputs,
    stride: facts.codec?.stride ?? 4, // the codec's own defaults
    softening: facts.codec?.softening ?? 1.8,
    centerSoftening: facts.codec?.center_softening ?? 0,
    voteRadius: facts.codec?.vote_radius ?? 0,
    refine: facts.codec?.refine ?? "offset",
    jointThreshold: facts.joint_threshold,
    poseThreshold: facts.pose_threshold,
    provenance: facts.provenance ?? {},
  };
}

/** The metadata of an ONNX file as a Map of strings: a walk over the outermost fields, which skips the graph. */
export function readMetadata(bytes) {
  const found = new Map();
  for (const { field, value } of fields(bytes)) {
    if (field === METADATA_PROPS && value instanceof Uint8Array) {
      const entry = new Map();
      for (const inner of fields(value)) entry.set(inner.field, new TextDecoder().decode(inner.value));
      found.set(entry.get(1) ?? "", entry.get(2) ?? "");
    }
  }
  return found;
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** The fields of one protobuf message: {field, value}, where value is bytes, or a number for varints. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (at >= bytes.length) throw new Error("a number is cut off");
      if (factor > 2 ** 63) throw new Error("a number is too long");
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const take = (length) => {
    if (at + length > bytes.length) throw new Error("a field is cut off");
    at += length;
    return bytes.subarray(at - length, at);
  };
  if (bytes.length === 0) throw new Error("it is empty");
  while (at < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    if (field === 0) throw new Error("a field has the number 0");
    if (tag % 8 === VARINT) yield { field, value: varint() };
    else if (tag % 8 === FIXED64) yield { field, value: take(8) };
    else if (tag % 8 === BYTES) yield { field, value: take(varint()) };
    else if (tag % 8 === FIXED32) yield { field, value: take(4) };
    else throw new Error(`unknown wire type ${tag % 8}`);
  }
}
