"""Asking a teacher about every person of a set: what it is shown, and what becomes of bad photos and interruptions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from featherpose.data.sample import Sample
from featherpose.data.teacher import Teacher
from featherpose.data.teacher.crops import person_map, upright_degrees
from featherpose.runtime.photos import read_photo
from featherpose.runtime.report import write_whole

SAVE_SECONDS = 60.0
"""Longest time that an interruption can cost."""


@dataclass(frozen=True)
class Answers:
    """What a teacher said about N people."""

    people: list[Sample]
    """N, a photo's people one after the other: the sample with that person as its target."""
    xy: np.ndarray
    """(N, K, 2) float32, photo pixels, the teacher's joints; NaN where the photo could not be read."""
    score: np.ndarray
    """(N, K) float32 in [0, 1]; 0 where the photo could not be read."""
    unreadable: tuple[str, ...]
    """One sentence for each photo that could not be read or is not the labels' photo."""


def people_of(samples: Sequence[Sample]) -> list[Sample]:
    """Every labelled person, as the target of a copy of their sample."""
    return [replace(sample, target=person) for sample in samples for person in range(len(sample.xy))]


def ask(
    teacher: Teacher,
    people: list[Sample],
    *,
    upright: bool = True,
    read: Callable[[Sample], np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
    keep: Kept | None = None,
) -> Answers:
    """Shows the teacher every person, each in the crop of their box and labelled joints.

    upright: people whose labelled trunk leans are turned upright for it. read: gives a sample's photo; the file is read
    unless given. progress: called (people done, of all). keep: answers of an interrupted call, and where to leave them.
    """
    read = read or (lambda sample: read_photo(sample.photo))
    joints = len(teacher.skeleton)
    xy = np.full((len(people), joints, 2), np.nan, np.float32)
    score = np.zeros((len(people), joints), np.float32)
    done = keep.load(xy, score) if keep else 0
    again = ~np.isfinite(xy[:done]).all(axis=(1, 2))  # photos that could not be read then
    unreadable = {}
    rows = [list(group) for _, group in groupby(range(len(people)), key=lambda row: _photo_key(people[row]))]
    try:
        for group in rows:
            if group[-1] < len(again) and not again[group[0]]:
                continue
            first = people[group[0]]
            try:
                image = read(first)
                if (image.shape[1], image.shape[0]) != tuple(first.size_wh):
                    raise ValueError(
                        f"{first.photo}: the photo has {image.shape[1]} x {image.shape[0]} pixels, its labels were "
                        f"made for {first.size_wh[0]} x {first.size_wh[1]}"
                    )
            except (OSError, ValueError) as error:
                unreadable[str(error) if str(first.photo) in str(error) else f"{first.photo}: {error}"] = None
            else:
                maps = [_map_of(people[row], teacher.input_size, upright) for row in group]
                xy[group], score[group] = teacher.look([image] * len(group), maps)
            done = max(done, group[-1] + 1)
            if keep:
                keep.save(xy, score, done)
            if progress:
                progress(done, len(people))
    finally:
        if keep:
            keep.save(xy, score, done, now=True)
    return Answers(people=people, xy=xy, score=score, unreadable=tuple(unreadable))


def _photo_key(person: Sample) -> tuple:
    return person.photo, person.sample_id


def _map_of(person: Sample, input_size: tuple[int, int], upright: bool) -> np.ndarray:
    box, xy = person.target_box(), person.xy[person.target]
    degrees = upright_degrees(xy, person.skeleton, box) if upright else 0.0
    return person_map(box, input_size, degrees=degrees, xy=xy)


class Kept:
    """Answers in a file beside the result, for an interrupted run to go on from, and for other thresholds."""

    def __init__(self, path: Path, fingerprint: str, clock: Callable[[], float]) -> None:
        """fingerprint: of everything the answers depend on; another one's file is not used. clock: seconds."""
        self.path, self.fingerprint, self.clock = path, fingerprint, clock
        self.saved = clock()
        self.found = 0
        self.seconds = 0.0
        """That all answers in the file took."""

    def load(self, xy: np.ndarray, score: np.ndarray) -> int:
        """Fills in what is there and returns how many people are done."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                if str(file["fingerprint"]) != self.fingerprint:
                    return 0
                self.found = min(len(file["score"]), len(score))
                self.seconds = float(file["seconds"]) * self.found / max(len(file["score"]), 1)
                xy[: self.found], score[: self.found] = file["xy"][: self.found], file["score"][: self.found]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return 0  # none there, or a damaged one: the work is done again
        return self.found

    def save(self, xy: np.ndarray, score: np.ndarray, done: int, *, now: bool = False) -> None:
        """Writes the first `done` answers, once a minute."""
        if done <= self.found or not (now or self.clock() - self.saved >= SAVE_SECONDS):
            return
        self.seconds += self.clock() - self.saved

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                facts = {"fingerprint": self.fingerprint, "seconds": self.seconds}
                np.savez(file, xy=xy[:done], score=score[:done], **facts)

        write_whole(self.path, write)
        self.saved, self.found = self.clock(), done


def fingerprint(*parts: object) -> str:
    """A short hash of values and of the contents of files (paths; of an OpenVINO .xml with its .bin)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in (part, part.with_suffix(".bin")) if part.suffix == ".xml" else (part,):
                digest.update(path.read_bytes() if path.is_file() else b"-")
        digest.update(b"\0" + (b"" if isinstance(part, Path) else repr(part).encode()))
    return digest.hexdigest()[:16]
