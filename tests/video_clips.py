"""Small videos for tests, made with PyAV: coloured dots whose places are known, times as given, a tone as sound."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from colour_model import dots

av = pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")

RED, GREEN, BLUE = 0, 1, 2
TONE = 440.0
"""Hz."""
SOUND_RATE = 48_000


def dot_frames(count: int, size_wh: tuple[int, int] = (128, 128), step: int = 1) -> list[np.ndarray]:
    """A red, a green and a blue dot of 8 pixels that move to the right together; see `dot_joints`."""
    return [
        dots(size_wh, (RED, 40 + step * i, 24, 8), (GREEN, 32 + step * i, 72, 8), (BLUE, 64 + step * i, 80, 8))
        for i in range(count)
    ]


def dot_joints(i: int, step: int = 1) -> np.ndarray:
    """(3, 2): the middles of the dots in frame i."""
    return np.array([[44, 28], [36, 76], [68, 84]]) + np.array([step * i, 0])


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    *,
    fps: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    time_base: Fraction | None = None,
    sound: str | None = None,
    pixel_aspect: Fraction | None = None,
    options: dict | None = None,
    sound_first: bool = False,
    keyframes: int | None = None,
    title: bytes | None = None,
) -> Path:
    """A video of frames (H, W, 3) uint8 RGB at given times; sound: the codec of a tone as long as the pictures.

    sound_first: as stream 0. keyframes: one in so many frames. title: bytes in the place of six letters of the title.
    """
    times = [i / fps for i in range(len(frames))] if times is None else list(times)
    base = time_base or (Fraction(1, fps) if codec != "libx264" else Fraction(1, 90_000))
    settings = {"preset": "ultrafast", "crf": "8"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=options or {}) as container:
        if title is not None:
            container.metadata["title"] = "TITLE."
        audio = container.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound_first else None
        video = container.add_stream(codec, rate=fps, options=settings)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixels
        video.codec_context.time_base = base
        if pixel_aspect is not None:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        if keyframes is not None:
            video.codec_context.gop_size = keyframes
        if sound is not None and not sound_first:
            audio = container.add_stream(sound, rate=SOUND_RATE, layout="mono")
        done = 0
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(video.encode(frame))
            while audio is not None and done < (time + 1 / fps) * SOUND_RATE:
                container.mux(audio.encode(tone(done)))
                done += 1024
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))
    if title is not None:
        content = path.read_bytes()
        assert b"TITLE." in content
        path.write_bytes(content.replace(b"TITLE.", title))
    return path


def tone(begin: int):
    wave = np.sin(2 * np.pi * TONE * (begin + np.arange(1024)) / SOUND_RATE) * 9000
    frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
    frame.rate, frame.pts, frame.time_base = SOUND_RATE, begin, Fraction(1, SOUND_RATE)
    return frame


def turn_clip(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Writes a, b, c, d of the display matrix into an MP4 that has none (ISO 14496-12, 8.3.2)."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    content[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def cut_clip(path: Path, share: float) -> Path:
    """Keeps only the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def read_times(path: Path) -> list[float]:
    """The stamps of a video's frames, in seconds, read without featherpose."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def read_frames(path: Path) -> list[np.ndarray]:
    """The pictures of a video, (H, W, 3) uint8 RGB, read without featherpose."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def loudest_tone(path: Path) -> tuple[float, float]:
    """(Hz, seconds) of a file's sound."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        wave = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]).astype(float)
    spectrum = np.abs(np.fft.rfft(wave))
    return float(np.fft.rfftfreq(len(wave), 1 / rate)[spectrum.argmax()]), len(wave) / rate
