"""H.264 in MP4 as every browser plays it: yuv420p, the index in front, the frames' own times, the sound kept."""

from __future__ import annotations

import contextlib
import errno
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from featherpose.runtime.report import give_name
from featherpose.runtime.video.decoding import codec_name

ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "23"},
    "libopenh264": {},
    "h264_videotoolbox": {},
    "h264_mf": {},
}
"""H.264 encoders by preference, with their settings: x264 is in PyAV's own wheels; the others are found where FFmpeg
was built without GPL parts (OpenH264), on macOS and on Windows. veryfast: three quarters of the time of the next better
preset, at the same size (measured, docs/video.md)."""
KEYFRAME_SECONDS = 2
"""A player can jump to every so many seconds."""
COPIED_AUDIO = ("aac", "mp3", "opus", "flac")
"""Sound that browsers play out of an MP4 is copied as it is; all other is encoded as AAC."""
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
FINEST_TICK = 1_000_000
"""Ticks a second; a source with a finer clock is rounded to 1/90,000 s."""
USUAL_TIME_BASE = Fraction(1, 90_000)
ITU709, LIMITED = 1, 1
"""FFmpeg's numbers for the colours that are written: BT.709, 16 to 235."""
RESERVE = 16 * 2**20
"""Bytes kept free on the disk to finish the file when it gets full; the index of about 10 hours fits."""


class VideoWriter:
    """Writes frames with their times into an MP4 file, and the packets of a sound beside them.

    The file has a temporary name until `finish`. When the disk gets full, `write` raises OSError and `finish` still
    completes a file that plays, with what there was: room for that was set aside at the beginning.
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        *,
        fps: float | None = None,
        time_base: Fraction = USUAL_TIME_BASE,
        audio=None,
    ) -> None:
        """size_wh: of the frames; an odd side gets one more line, a copy of the last one. fps: for rate control only.

        time_base: ticks of the source's clock, so that times stay exact. audio: the source's PyAV stream, or None.
        Raises OSError when the file cannot be made, ValueError where no encoder for H.264 is.
        """
        self._path, self._size_wh = path, size_wh
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._time_base = time_base if time_base > 0 and time_base.denominator <= FINEST_TICK else USUAL_TIME_BASE
        self._last_tick: int | None = None
        self._last_key: float | None = None
        self._converter = VideoReformatter()
        self._file = _File(self._part)
        self._container = None
        try:
            self._container = av.open(
                self._file, "w", format="mp4", options={"movflags": "+faststart"}, io_open=self._file.reopen
            )
            self._video = self._add_video(fps)
            self._sound = None if audio is None else _sound(self._container, audio)
        except BaseException:
            self.abort()
            raise

    def _add_video(self, fps: float | None):
        name = h264_encoder()
        rate = Fraction(fps or 30).limit_denominator(1001)
        video = self._container.add_stream(name, rate=rate if rate > 0 else 30, options=dict(ENCODERS[name]))
        video.width, video.height = (side + side % 2 for side in self._size_wh)
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.time_base = self._time_base
        context.gop_size = max(1, round(KEYFRAME_SECONDS * float(rate)))
        context.colorspace = context.color_primaries = context.color_trc = ITU709
        context.color_range = LIMITED
        return video

    def write(self, image: np.ndarray, time: float, duration: float = 0.0) -> None:
        """One more frame, (H, W, 3) uint8 RGB, to be shown at `time` seconds; times must rise."""
        self._file.check()
        tick = round(time / self._time_base)
        if self._last_tick is not None:
            tick = max(tick, self._last_tick + 1)  # two frames within one tick
        self._last_tick = tick
        width, height = self._size_wh
        if width % 2 or height % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), "rgb24")
        frame = self._converter.reformat(frame, format="yuv420p", dst_colorspace=ITU709, dst_color_range=LIMITED)
        frame.pts, frame.time_base = tick, self._time_base
        frame.duration = round(duration / self._time_base)  # counts for the last one, where no other follows
        if self._last_key is None or time - self._last_key >= KEYFRAME_SECONDS:  # frames may come at any rate
            self._last_key, frame.pict_type = time, av.video.frame.PictureType.I
        self._container.mux(self._video.encode(frame))

    def write_audio(self, packet: av.Packet, offset: float) -> None:
        """One packet of the source's sound, moved to `offset` seconds earlier."""
        self._file.check()
        if self._sound is not None:
            self._sound.write(packet, offset)

    def finish(self) -> None:
        """Writes what the encoders still hold and the index, and gives the file its name."""
        self._file.free_reserve()
        try:
            if self._last_tick is None:
                raise ValueError(f"{self._path}: a video needs at least one frame")
            self._container.mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.finish()
            self._container.close()
            self._file.check_complete()
            self._file.close()
        except BaseException:
            self.abort()
            raise
        give_name(self._part, self._path)

    def abort(self) -> None:
        """Leaves nothing behind."""
        if self._container is not None:
            with contextlib.suppress(av.FFmpegError, OSError, ValueError):
                self._container.close()
        self._file.close()
        self._part.unlink(missing_ok=True)


def h264_encoder() -> str:
    """The first of ENCODERS that this FFmpeg has."""
    for name in ENCODERS:
        if name in av.codecs_available:
            with contextlib.suppress(ValueError, av.FFmpegError):
                av.Codec(name, "w")
                return name
    raise ValueError(
        f"the FFmpeg under PyAV has no H.264 encoder (looked for {', '.join(ENCODERS)}); "
        "pip install av brings one, and --no-video needs none"
    )


# --- the sound --------------------------------------------------------------------------------------------------------


def _sound(container, source):
    """Copies a sound that fits, encodes any other as AAC; None for one that cannot even be decoded."""
    if codec_name(source) in COPIED_AUDIO:
        return _CopiedSound(container, source)
    return _EncodedSound(container, source)


class _CopiedSound:
    def __init__(self, container, source) -> None:
        self._container = container
        self._stream = container.add_stream_from_template(source)
        self._last: int | None = None

    def write(self, packet: av.Packet, offset: float) -> None:
        moved = round(offset / packet.time_base)
        dts = packet.dts - moved
        if self._last is not None and dts <= self._last:  # MP4 wants rising times; a clock that jumped back is left out
            return
        self._last = dts
        packet.pts, packet.dts = packet.pts - moved, dts
        packet.stream = self._stream
        with contextlib.suppress(av.InvalidDataError):  # a damaged piece of the sound is left out
            self._container.mux_one(packet)

    def finish(self) -> None: ...


HOLE = 0.1
"""Seconds: a longer stretch without sound is filled with silence; shorter ones are a container's rounded times."""


class _EncodedSound:
    def __init__(self, container, source) -> None:
        rate = source.codec_context.sample_rate or 48_000
        rate = rate if rate in AAC_RATES else 48_000
        layout = "mono" if (source.codec_context.channels or 2) == 1 else "stereo"
        self._container, self._source = container, source
        self._stream = container.add_stream("aac", rate=rate, layout=layout)
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024)
        self._next: int | None = None
        self._until: Fraction | None = None
        """Seconds up to which there is sound, silence included."""

    def write(self, packet: av.Packet | None, offset: float = 0.0) -> None:
        try:
            frames = self._source.decode(packet)
        except av.FFmpegError:  # a damaged piece of the sound is silence, by the time of the next one
            return
        for frame in frames:
            if packet is not None and frame.pts is not None:
                begin = frame.pts * frame.time_base - Fraction(offset)
                if self._next is None:
                    self._next, self._until = round(begin * self._stream.rate), begin
                elif begin - self._until > HOLE:
                    self._be_silent(begin - self._until, frame)
            if self._until is not None:
                self._until += Fraction(frame.samples, frame.sample_rate)
            frame.pts = None
            self._encode(self._resampler.resample(frame))

    def _be_silent(self, seconds: Fraction, like: av.AudioFrame) -> None:
        """Silence of the kind of a frame, for a hole in the sound before it."""
        left = round(seconds * like.sample_rate)
        self._until += Fraction(left, like.sample_rate)
        while left > 0:
            silence = av.AudioFrame(like.format.name, like.layout.name, min(left, like.sample_rate))
            silence.sample_rate = like.sample_rate
            nothing = b"\x80" if like.format.name.startswith("u8") else b"\0"
            for plane in silence.planes:
                plane.update(nothing * plane.buffer_size)
            left -= silence.samples
            self._encode(self._resampler.resample(silence))

    def _encode(self, frames) -> None:
        for frame in frames:
            frame.pts = self._next or 0
            frame.time_base = Fraction(1, self._stream.rate)
            self._next = frame.pts + frame.samples
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self.write(None)
        self._encode(self._resampler.resample(None))
        self._container.mux(self._stream.encode(None))


# --- the file ---------------------------------------------------------------------------------------------------------


class _File:
    """What PyAV writes to: a file that remembers a full disk, and frees its reserve to end in order then."""

    def __init__(self, path: Path) -> None:
        self.name = "video.mp4"  # PyAV hands it to FFmpeg, which takes UTF-8 alone
        self._path = path
        self._reserve = path.with_name(path.name + ".reserve")
        self._full: OSError | None = None
        self._lost: OSError | None = None
        self._file = path.open("w+b", buffering=0)
        try:
            _fill(self._reserve, RESERVE)
        except OSError as error:
            self.close()
            path.unlink(missing_ok=True)
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                f"{path.parent}: the disk is full: a video takes {RESERVE / 2**20:.0f} MB of room to begin with"
            ) from error

    def write(self, data) -> int:
        left = memoryview(data)
        size = len(left)
        while len(left):
            try:
                left = left[self._file.write(left) :]
            except OSError as error:
                if not self._reserve.exists():
                    self._lost = error
                    raise
                self._full = error
                self.free_reserve()
        return size

    def check(self) -> None:
        """Raises when the disk got full; all that was written so far stands in the file, by the reserve."""
        if self._full is not None:
            raise self._full

    def check_complete(self) -> None:
        """Raises when something did not get into the file at all."""
        if self._lost is not None:
            raise self._lost

    def free_reserve(self) -> None:
        self._reserve.unlink(missing_ok=True)

    def reopen(self, url: str, flags: int, options: dict):
        """For "faststart", which reads the finished file to move the index to its front."""
        return open(self._path, "rb")

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        self.free_reserve()


def _fill(path: Path, size: int) -> None:
    """Makes a file that really takes up `size` bytes of its disk."""
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                    return
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise
            for _ in range(size // 2**20):
                file.write(bytes(2**20))
    except OSError:
        path.unlink(missing_ok=True)
        raise
