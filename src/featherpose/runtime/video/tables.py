"""What was found in a video, a frame at a time: one JSON object per line, and CSV with one row per joint.

Rows are written as they come, so that memory does not grow with the video, into temporary files that get their names at
the end.
"""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

from featherpose.geometry import mirror, transform
from featherpose.pose import Pose
from featherpose.runtime.report import give_name
from featherpose.runtime.video.reader import Frame

FRAME_COLUMNS = ("frame", "time", "state")
POSE_COLUMNS = ("pose_score", "x1", "y1", "x2", "y2", "joint", "x", "y", "score")
TIME_DIGITS = 6
"""Microseconds."""


@dataclass(frozen=True)
class Seen:
    """A frame and who was seen in it."""

    frame: Frame
    pose: Pose | None
    """None while nobody is there."""
    state: str
    """found, uncertain or lost."""
    people: dict[int, Pose] | None = None
    """Everybody by number, where several are followed."""


def row_of(seen: Seen) -> dict:
    """One frame as plain numbers by name, for JSON."""
    facts = {"frame": seen.frame.index, "time": round(seen.frame.time, TIME_DIGITS), "state": seen.state}
    if seen.people is not None:
        return facts | {"people": [{"person": number} | pose.to_dict() for number, pose in seen.people.items()]}
    nobody = {"pose_score": None, "box_xyxy": None, "joints": None}
    return facts | (nobody if seen.pose is None else seen.pose.to_dict())


class TableWriter:
    """Writes `NAME.jsonl` and `NAME.csv`; both hold the same frames whenever they end.

    When there is no room left on the disk, the frame that did not fit is taken back in both and OSError is raised; what
    stands before it is whole and `finish` keeps it.
    """

    def __init__(self, json_path: Path, csv_path: Path, *, several: bool = False) -> None:
        """several: whether everybody is followed, so that rows of the CSV have a number."""
        self._columns = (*FRAME_COLUMNS, *(("person",) if several else ()), *POSE_COLUMNS)
        self._paths = (json_path, csv_path)
        self._parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in self._paths]
        self._files: list[io.FileIO] = []
        try:
            for part in self._parts:
                self._files.append(part.open("wb", buffering=0))
            self._ends = [0, 0]
            self._append([b"", _csv_lines([self._columns])])
        except BaseException:
            self.abort()
            raise

    def write(self, seen: Seen) -> None:
        """One more frame."""
        row = row_of(seen)
        frame = [row[name] for name in FRAME_COLUMNS]
        people = row["people"] if seen.people is not None else [] if seen.pose is None else [row]
        lines = []
        for facts in people:
            pose = [facts[name] for name in ("person", "pose_score") if name in facts] + (facts["box_xyxy"] or [""] * 4)
            lines += [[*frame, *pose, name, *joint.values()] for name, joint in facts["joints"].items()]
        if not people:
            lines = [[*frame, *[""] * (len(self._columns) - len(frame))]]
        self._append([json.dumps(row, separators=(",", ":")).encode() + b"\n", _csv_lines(lines)])

    def _append(self, blocks: list[bytes]) -> None:
        ends = []
        try:
            for file, end, block in zip(self._files, self._ends, blocks, strict=True):
                file.seek(end)
                left = memoryview(block)
                while len(left):  # a disk that is nearly full takes a part
                    left = left[file.write(left) :]
                ends.append(end + len(block))
        except OSError:
            for file, end in zip(self._files, self._ends, strict=True):
                file.truncate(end)
            raise
        self._ends = ends

    def finish(self) -> None:
        """Gives the files their names."""
        problems = []
        for file, part, path in zip(self._files, self._parts, self._paths, strict=True):
            file.close()
            try:
                give_name(part, path)
            except OSError as error:
                problems.append(str(error))
        if problems:
            raise OSError("; ".join(problems))

    def abort(self) -> None:
        """Leaves nothing behind."""
        for file in self._files:
            file.close()
        for part in self._parts:
            part.unlink(missing_ok=True)


def mirrored(pose: Pose, width: float) -> Pose:
    """The pose as a mirror shows it: places move, left stays the person's own left."""
    box = pose.box_xyxy
    if box is not None:
        box = transform(mirror(width), box.reshape(2, 2)).reshape(4)[[2, 1, 0, 3]]
    return Pose(transform(mirror(width), pose.xy), pose.score, pose.skeleton, pose.pose_score, box)


def _csv_lines(rows: list) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
