"""Files and URLs as sources of frames, by PyAV (FFmpeg's libraries): every container and codec that FFmpeg knows."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from featherpose.geometry import letterbox, warp
from featherpose.runtime.video.reader import Frame, SourceFacts

TIMEOUT = 10.0
"""Seconds that a URL may stay silent, when it is opened and for every piece."""
SEEK_EARLY = (2.0, 10.0, 40.0, 160.0)
"""Seconds to jump before a start, one after the other until a picture before it turns up: some containers know their
places only roughly, and in MPEG streams a jump may end at the keyframe after."""
DISCONTINUITY = 1.0
"""A clock that goes back by more seconds begins anew (recordings that were joined); by less, a stamp is wrong."""
PHOTO_FORMATS = ("image2", "jpegxl_anim", "apng")
TEXT_FORMATS = ("tty",)
"""FFmpeg "plays" any text file as a terminal's screen."""
UNTAGGED_HD_HEIGHT = 576
"""Above this height players take untagged colours for BT.709, up to it for BT.601."""
UNSPECIFIED, ITU601, ITU709 = 2, 5, 1
"""FFmpeg's numbers: a frame's colour space that is not told, and swscale's two matrices."""
MICRO = 1_000_000
UNREADABLE_URL = "the index may stand at the end, and the server cannot jump there (no byte ranges); download the file"
SLOWEST_FPS, UNTOLD_FPS = 1 / 86_400, 1000.0
"""Frame rates outside are those of a broken header, or of a WebM that tells none."""
WORST_PIXEL_ASPECT = 4
"""A pixel longer than so many times its width is taken for a broken header."""


class FileReader:
    """Frames of a file or URL with their true times; see runtime.video.reader for what a source is.

    Times are the stamps of the file (pts x time base), never counted from a frame rate. They start at 0 where the
    container's own clock does; in MPEG-TS and live streams, whose clocks start anywhere, at the first picture or sound.
    """

    def __init__(self, name: str, *, url: bool = False, start: float = 0.0, end: float | None = None, every: int = 1):
        """start, end: seconds. every: only each n-th frame is given. Raises as `open_source` says."""
        self.problem: str | None = None
        self.damaged = 0
        """How many pieces of the picture could not be decoded so far."""
        self.late_audio: tuple = ()
        # As the decimals that were meant: a binary 2.6 lies behind the stamp 13/5.
        self._start, self._end = (None if v is None else Fraction(v).limit_denominator(MICRO) for v in (start, end))
        self._name, self._every = name, every
        if not url:
            _check_file(Path(name))
        self._container = _open(name, url)
        try:
            self._video = self._pick_streams()
            self._prepare(url)
        except BaseException:
            self._container.close()
            raise

    # --- opening ------------------------------------------------------------------------------------------------------

    def _pick_streams(self):
        streams = self._container.streams
        videos = [stream for stream in streams.video if not _is_cover(stream)]
        if not videos:
            kinds = ", ".join(sorted({stream.type for stream in streams})) or "nothing"
            raise ValueError(f"{self._name}: has no video stream, only {kinds}")
        best = streams.best("video")
        video = best if best in videos else videos[0]
        # one whose parameters are not known by now (it begins later in an MPEG stream) cannot be written
        sounds = [stream for stream in streams.audio if stream.codec_context is not None and stream.codec_context.sample_rate]
        self.audio = sounds[0] if sounds else None
        # Frame threads cost some frames of delay, which nobody notices here, and use every core.
        video.thread_type = "AUTO"
        return video

    def _prepare(self, url: bool) -> None:
        container, video = self._container, self._video
        seconds = container.duration / av.time_base if container.duration and container.duration > 0 else None
        if video.duration and video.duration > 0:
            seconds = float(video.duration * video.time_base)
        fps = float(video.average_rate or video.guessed_rate or 0)
        fps = fps if SLOWEST_FPS <= fps < UNTOLD_FPS else None
        self._step = Fraction(1, 25) if fps is None else 1 / Fraction(fps).limit_denominator(MICRO)
        live = url and seconds is None
        self._origin = Fraction(0)
        if container.start_time is not None and (live or _clock_starts_anywhere(container.format)):
            self._origin = Fraction(container.start_time, av.time_base)
        if self._start and seconds is not None and self._start >= seconds:
            raise ValueError(
                f"{self._name}: the start at {float(self._start):g} s lies behind its end at {seconds:.1f} s"
            )
        self._converter = VideoReformatter()  # one for all: each new one sets up its tables and threads again
        self._size_wh: tuple[int, int] | None = None
        first = self._first_picture()
        if first is None:
            if url and self.problem and "mp4" in container.format.name.split(","):
                raise ValueError(f"{self.problem}; {UNREADABLE_URL}")
            if self.problem:
                raise ValueError(self.problem)
            if self._before is not None:
                raise ValueError(
                    f"{self._name}: there is no picture at {float(self._start):g} s or later, the last one stands at "
                    f"{float(self._before):.2f} s"
                )
            raise ValueError(f"{self._name}: no picture could be decoded; the file is damaged or cut off")
        self._first = first
        picture = first[1]
        # Once for all frames: PyAV's side data and its frame hold each other, and would stay until Python collects them.
        self._turn = display_turn(picture)
        self._size_wh = _square_size((picture.width, picture.height), _pixel_aspect(video))
        if self._turn[0]:
            self._size_wh = self._size_wh[::-1]
        self.facts = SourceFacts(
            name=self._name,
            kind="url" if url else "file",
            size_wh=self._size_wh,
            live=live,
            fps=None if fps is None else fps / self._every,
            duration=seconds,
            frames=self._expected_frames(seconds, fps),
            codec=codec_name(video),
            audio_codec=None if self.audio is None else codec_name(self.audio),
            time_base=Fraction(video.time_base),
        )

    def _first_picture(self) -> tuple[Fraction, av.VideoFrame] | None:
        """The first picture from the start on, after a jump to somewhere before it; `_decoded` goes on from there."""
        problem, jumped = None, False
        for early in (*SEEK_EARLY, None):
            if early is not None and self._start <= early:
                continue
            if early is not None or jumped:
                place = 0 if early is None else self._start - Fraction(early)
                with contextlib.suppress(av.FFmpegError):  # no seeking here: what comes before is read and left out
                    self._container.seek(int((place + self._origin) * av.time_base), backward=True)
                jumped = True
            self.problem, self.damaged = None, 0
            self._reached = self._shift = Fraction(0)
            self._last_dts: int | None = None
            self._audio_packets: list = []
            self._before: Fraction | None = None
            self._decoded = self._pictures()
            first = next(self._decoded, None)
            problem = problem or self.problem
            if not self._start or self._before is not None:
                break
        if first is None:
            self.problem = problem
        return first

    def _expected_frames(self, seconds: float | None, fps: float | None) -> int | None:
        frames = self._video.frames or (round(seconds * fps) if seconds and fps else None)
        if frames is None:
            return None
        if (self._start or self._end) and seconds:
            share = (min(self._end or seconds, seconds) - self._start) / seconds
            frames = round(frames * share)
        return max(1, -(-frames // self._every))

    # --- reading ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Frame]:
        decoded, self._first = _chain(self._first, self._decoded), None
        for index, (time, picture) in enumerate(decoded):
            if self._end is not None and time >= self._end:
                break
            if index % self._every == 0:
                packets, self._audio_packets = tuple(self._audio_packets), []
                yield Frame(index, float(time), self._rgb(picture), self._shown_for(time, picture), packets)
        self.late_audio, self._audio_packets = tuple(self._audio_packets), []
        self._decoded.close()

    def _pictures(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """(time, picture) from the start on, times strictly rising; sets `problem` when the source breaks off."""
        last: Fraction | None = None
        for picture in self._packets():
            time = None
            if picture.pts is not None:
                time = Fraction(picture.pts) * picture.time_base - self._origin + self._shift
            if last is not None and (time is None or time <= last):
                if time is not None and last - time > DISCONTINUITY:
                    self._shift += last + self._step - time
                time = last + self._step
            time = Fraction(0) if time is None else time
            last = time
            if time >= self._start:
                yield time, picture
            else:
                self._before = time

    def _packets(self) -> Iterator[av.VideoFrame]:
        streams = [stream for stream in (self._video, self.audio) if stream is not None]
        try:
            for packet in self._container.demux(streams):
                if packet.stream.index != self._video.index:  # PyAV's stream_index is 0 on the packets that flush
                    self._keep_audio(packet)
                    continue
                if packet.dts is not None:
                    self._last_dts = packet.dts
                self._note_reached(packet)
                yield from self._decode(packet)
        except (av.FFmpegError, OSError, IndexError) as error:  # IndexError: of PyAV, for a stream that turns up late
            self.problem = f"{self._name}: reading broke off after {float(self._reached):.1f} s ({_reason(error)})"
            yield from self._decode(None)  # what the decoder still holds
            return
        self.problem = self._cut_off()

    def _decode(self, packet: av.Packet | None) -> Iterator[av.VideoFrame]:
        """The pictures that a packet completes; None: those that are left in the decoder."""
        try:
            pictures = self._video.decode(packet)
        except av.FFmpegError:  # the next whole picture goes on; how many were lost is told
            self.damaged += 1
            return
        for picture in pictures:
            self.damaged += bool(picture.is_corrupt)
            yield picture

    def _keep_audio(self, packet: av.Packet) -> None:
        """Keeps a packet of the sound for the writer, its stamps counted as those of the frames."""
        if not packet.size or packet.pts is None:
            return
        self._note_reached(packet)
        base = Fraction(packet.time_base)
        moved = round((self._shift - self._origin) / base)
        packet.pts += moved
        packet.dts = packet.pts if packet.dts is None else packet.dts + moved
        time = packet.pts * base
        after_start = not self._start or time >= self._start  # AAC and Opus begin a little before 0, to warm up
        if after_start and (self._end is None or time < self._end):
            self._audio_packets.append(packet)

    def _note_reached(self, packet: av.Packet) -> None:
        if packet.pts is not None and packet.size:
            end = (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base) - self._origin
            self._reached = max(self._reached, end)

    def _cut_off(self) -> str | None:
        """A sentence when the source ended before the end that its own header announces."""
        container, video = self._container, self._video
        kinds = container.format.name.split(",")
        reached, announced, tolerance = float(self._reached), None, 0.5
        if "mp4" in kinds:  # every packet has its place in the index; MP4s with an edit list are longer than they play
            index = video.index_entries
            if len(index) and self._last_dts is not None:
                missing = float((index[len(index) - 1].timestamp - self._last_dts) * video.time_base)
                announced, tolerance = reached + missing, 2.5 * float(self._step)
        elif "avi" in kinds:
            announced = float(video.frames * self._step) if video.frames else None
        elif "matroska" in kinds and container.duration and len(container.streams) == 1 + (self.audio is not None):
            announced = container.duration / av.time_base
        if announced is None or announced - reached <= tolerance:
            return None
        return f"{self._name}: the file is cut off after {reached:.1f} of {announced:.1f} s; what was there is kept"

    # --- one picture --------------------------------------------------------------------------------------------------

    def _shown_for(self, time: Fraction, picture: av.VideoFrame) -> float:
        """Seconds until the next frame that is given: as many pictures' as are taken one of, but not beyond the end."""
        one = picture.duration * Fraction(picture.time_base) if picture.duration else self._step
        ends = [end for end in (self._end, self.facts.duration) if end is not None]
        return float(max(one, min([one * self._every, *(Fraction(end) - time for end in ends)])))

    def _rgb(self, picture: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB at the size that was announced, turned and with square pixels."""
        matrix = None
        if picture.colorspace == UNSPECIFIED:
            matrix = ITU709 if picture.height > UNTAGGED_HD_HEIGHT else ITU601
        image = self._converter.reformat(picture, format="rgb24", src_colorspace=matrix).to_ndarray()
        aspect = _pixel_aspect(self._video)
        if aspect != 1:
            image = cv2.resize(image, _square_size((picture.width, picture.height), aspect))
        image = turned(image, self._turn)
        height, width = image.shape[:2]
        if (width, height) != self._size_wh:  # a stream that changes its size stays in the first one's pixels
            image = warp(image, letterbox((width, height), self._size_wh), self._size_wh)
        return image

    def close(self) -> None:
        self._container.close()


# --- which way up -----------------------------------------------------------------------------------------------------


def display_turn(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How a picture must be turned to be looked at: (swap x and y, then mirror x, then mirror y).

    From the display matrix of the file (ISO 14496-12, 8.3.2.3), rounded to quarter turns; FFmpeg's a, b, c, d map the
    stored (x, y) to (a x + c y, b x + d y).
    """
    try:
        data = picture.side_data.get("DISPLAYMATRIX")
    except (KeyError, ValueError):
        data = None
    if data is None or len(bytes(data)) < 36:
        return False, False, False
    a, b, _, c, d = struct.unpack("=9i", bytes(data)[:36])[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def turned(image: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """The picture turned as `display_turn` says, contiguous."""
    swap, mirror_x, mirror_y = turn
    if swap:
        image = cv2.transpose(image)
    if mirror_x or mirror_y:
        image = cv2.flip(image, -1 if mirror_x and mirror_y else int(mirror_x))
    return image


def _pixel_aspect(video) -> Fraction:
    """Width of a pixel over its height; 1 where it is not told or absurd."""
    aspect = video.sample_aspect_ratio
    if not aspect or not Fraction(1, WORST_PIXEL_ASPECT) <= aspect <= WORST_PIXEL_ASPECT:
        return Fraction(1)
    return Fraction(aspect)


def _square_size(size_wh: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
    """The size with square pixels; the shorter direction is stretched, so that nothing is lost."""
    width, height = size_wh
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


# --- opening a container ----------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a video")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such video")
    if path.is_file() and path.stat().st_size == 0:  # a pipe has no size
        raise ValueError(f"{path}: the file is empty (0 bytes), expected a video")


def _open(name: str, url: bool):
    options = {"rtsp_transport": "tcp"} if name.startswith("rtsp") else {}  # over UDP pictures arrive with holes
    try:
        if url:
            container = av.open(name, timeout=(TIMEOUT, TIMEOUT), options=options, metadata_errors="replace")
        else:  # without "file:", "a:b.mp4" would be a protocol called a
            container = av.open("file:" + name, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        if url and isinstance(error, av.InvalidDataError):
            raise ValueError(f"{name}: what comes from there is no video that can be read") from error
        if url:
            raise OSError(f"{name}: cannot be reached ({_reason(error)})") from error
        if isinstance(error, PermissionError):
            raise PermissionError(f"{name}: may not be read") from error
        if _begins_like_mp4(name):
            raise ValueError(
                f"{name}: the video is cut off or damaged: its index, which stands at the end of such files, is missing"
            ) from error
        raise ValueError(f"{name}: not a video that can be read ({_reason(error)})") from error
    kind = container.format.name
    if kind in PHOTO_FORMATS or kind.endswith("_pipe"):
        container.close()
        raise ValueError(f"{name}: is a photo, not a video; featherpose predict takes photos")
    if kind in TEXT_FORMATS:
        container.close()
        raise ValueError(f"{name}: not a video that can be read (it is a text file)")
    return container


def codec_name(stream) -> str:
    """What a stream is in, whichever library decodes it: av1 and not libdav1d, mp3 and not mp3float."""
    return stream.codec_context.codec.canonical_name


def _begins_like_mp4(name: str) -> bool:
    with open(name, "rb") as file:
        return file.read(12)[4:8] in (b"ftyp", b"mdat", b"wide")


def _is_cover(stream) -> bool:
    """Whether a "video" is the picture on a piece of music."""
    return Disposition.attached_pic in stream.disposition


def _clock_starts_anywhere(kind) -> bool:
    return any(name in ("mpegts", "mpeg", "hls", "rtsp", "rtp", "sdp", "flv") for name in kind.name.split(","))


def _reason(error: BaseException) -> str:
    if isinstance(error, av.ExitError):
        return f"nothing came for {TIMEOUT:g} s"
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(".")


def _chain(first, rest: Iterator) -> Iterator:
    if first is not None:
        yield first
    yield from rest
