// The pixels of a photo or of the current frame of a video, in one buffer that is used again and again.

/** Pictures of one size as ImageData: `take(image)` fills `pixels` from an <img>-like or a <video> element. */
export class Frames {
  constructor(width, height) {
    this.pixels = new ImageData(width, height);
    this.context = null;
    this.direct = typeof VideoFrame === "function"; // until the browser refuses once
  }

  async take(image) {
    if (!(this.direct && image instanceof HTMLVideoElement && (await this.copy(image)))) this.draw(image);
    return this.pixels;
  }

  /**
   * Straight out of the video's frame, false where the browser cannot. Drawing each frame onto a canvas instead makes
   * Chromium keep a copy of every one, hundreds of megabytes of them (docs/browser.md).
   */
  async copy(video) {
    const { width, height, data } = this.pixels;
    let frame = null;
    try {
      frame = new VideoFrame(video);
      const { visibleRect: part, rotation = 0, flip = false } = frame;
      // a frame is copied as it is stored: one that is turned or stretched to be shown must be drawn
      this.direct = part.width === width && part.height === height && rotation === 0 && !flip;
      if (this.direct) {
        const options = { format: "RGBA", colorSpace: "srgb" };
        this.direct = frame.allocationSize(options) === data.byteLength;
        if (this.direct) await frame.copyTo(data, options);
      }
    } catch {
      this.direct = false;
    } finally {
      frame?.close();
    }
    return this.direct;
  }

  draw(image) {
    const { width, height, data } = this.pixels;
    if (this.context === null) {
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      this.context = canvas.getContext("2d", { willReadFrequently: true });
    }
    this.context.fillRect(0, 0, width, height); // black shows through transparent pictures
    this.context.drawImage(image, 0, 0, width, height);
    data.set(this.context.getImageData(0, 0, width, height).data);
    // a canvas that is too large stays empty, and says nothing
    if (data[3] === 0) throw new Error(`This browser cannot hold a picture of ${width} × ${height} pixels`);
  }
}
