// Where pictures come from: {kind: "camera" | "photo" | "video", name, width, height, image, close()}. `image` is what a
// canvas draws; a photo's is upright (EXIF). A very large photo is reduced: `own` is then its own [width, height].

const MOST_PIXELS = 16e6; // of a photo: 64 MB, and what every browser's canvas holds
const LONGEST_SIDE = 16_384;

/**
 * The webcam, playing in `video`; Error with one sentence when the browser does not give it. wanted: whether something else
 * was not opened meanwhile.
 */
export async function openCamera(video, wanted = () => true) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error(
      "This browser gives a camera only to pages from this computer (http://127.0.0.1) or over https; " +
        "photos and videos work all the same",
    );
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" },
      audio: false,
    });
  } catch (error) {
    throw new Error(CAMERA_ERRORS[error.name] ?? `The camera cannot be used (${error.name}: ${error.message})`);
  }
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    if (video.srcObject === stream) video.srcObject = null;
  };
  if (!wanted()) {
    close();
    throw new Error("Something else was opened before the camera was allowed");
  }
  try {
    video.srcObject = stream;
    await video.play();
    if (video.videoWidth === 0) await new Promise((resolve) => video.addEventListener("resize", resolve, { once: true }));
  } catch (error) {
    close();
    throw new Error(`The camera gives no picture (${error.message})`);
  }
  const ended = new Promise((resolve) => stream.getVideoTracks()[0].addEventListener("ended", resolve));
  const name = stream.getVideoTracks()[0].label || "camera";
  return { kind: "camera", name, width: video.videoWidth, height: video.videoHeight, image: video, ended, close };
}

const CAMERA_ERRORS = {
  NotAllowedError:
    "The camera was refused: allow it in the address bar (the camera sign) and in the system's privacy settings, " +
    "then press Webcam again",
  NotFoundError: "No camera was found: plug one in and press Webcam again, or drop a photo or a video",
  NotReadableError: "The camera is in use by another program: close that program and press Webcam again",
  AbortError: "The camera stopped before it gave a picture: press Webcam again",
};

/** A photo or a video from a file; Error with one sentence when the browser cannot read it. */
export async function openFile(file, video) {
  if (file.type.startsWith("video/")) return openVideo(file, video);
  try {
    return await photo(file, file.name);
  } catch (error) {
    if (!file.type) return openVideo(file, video);
    throw new Error(`${file.name}: this browser cannot read it as a photo (${error.message})`);
  }
}

/** A photo of this site. */
export async function openAddress(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: the server does not have it (${answer.status})`);
  return photo(await answer.blob(), address.split("/").at(-1));
}

async function photo(blob, name) {
  const own = await sizeOf(blob);
  const reduced = own && reducedSize(own);
  const bitmap = await createImageBitmap(blob, reduced ? { ...reduced, resizeQuality: "high" } : {});
  const { width, height } = bitmap;
  const source = { kind: "photo", name, width, height, image: bitmap, close: () => bitmap.close() };
  return reduced ? { ...source, own } : source;
}

/** [width, height] of a picture, which is not decoded for that; null where the browser does not know it. */
async function sizeOf(blob) {
  const image = new Image();
  const address = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject, src: address }));
    return image.naturalWidth > 0 ? [image.naturalWidth, image.naturalHeight] : null;
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** What a very large picture is reduced to, null for others. */
export function reducedSize([width, height]) {
  const scale = Math.min(Math.sqrt(MOST_PIXELS / (width * height)), LONGEST_SIDE / Math.max(width, height));
  if (scale >= 1) return null;
  return { resizeWidth: Math.max(1, Math.floor(width * scale)), resizeHeight: Math.max(1, Math.floor(height * scale)) };
}

async function openVideo(file, video) {
  const address = URL.createObjectURL(file);
  const close = () => {
    if (video.src === address) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
    URL.revokeObjectURL(address);
  };
  let problem = "this browser cannot play it; most play MP4 (H.264) and WebM";
  try {
    video.src = address;
    await video.play();
    if (video.videoWidth === 0) {
      problem = "it has no picture that this browser shows; most play MP4 (H.264) and WebM";
      throw new Error(problem);
    }
  } catch {
    close();
    throw new Error(`${file.name}: ${problem}`);
  }
  return { kind: "video", name: file.name, width: video.videoWidth, height: video.videoHeight, image: video, close };
}
