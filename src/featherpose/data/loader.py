"""Batches for training: photos and labels in, pictures and target maps out.

Every sample's randomness comes from (seed, epoch, index) alone, so the order of work, the number of workers and a stop
in between change nothing.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from featherpose.data.augment import Augmentation, augment, augment_choices, augment_unpasted, through_camera
from featherpose.data.balance import balanced_weights, draw_weighted, group_poses
from featherpose.data.crew import Crew
from featherpose.data.limbs import LimbBank, build_bank, pack
from featherpose.data.people import Others
from featherpose.data.sample import Sample
from featherpose.metrics.oks import box_area
from featherpose.runtime.photos import read_photo

KEEP_BYTES = 4 * 10**9
"""Most memory for decoded photos; those beyond it are decoded each time (a 256 px crop takes 0.2 MB)."""


@dataclass
class Photos:
    """Decoded photos by path; kept in memory, up to `limit` bytes, when `keep` is set."""

    keep: bool = True
    limit: int = KEEP_BYTES
    _kept: dict = field(default_factory=dict, repr=False)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read_all(self, samples: list[Sample], threads: int) -> None:
        """Reads what will be kept, in threads, until nothing more fits; photos that cannot be read are left for whoever wants
        them."""
        full = threading.Event()

        def read(sample: Sample) -> None:
            if full.is_set():
                return
            with contextlib.suppress(OSError, ValueError):
                self(sample)
                if sample.photo not in self._kept:
                    full.set()

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, {sample.photo: sample for sample in samples}.values() if self.keep else ()))

    def __call__(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB. ValueError when the file's size is not the labels': joints would be elsewhere."""
        image = self._kept.get(sample.photo)
        if image is None:
            image = read_photo(sample.photo)
            if (image.shape[1], image.shape[0]) != tuple(sample.size_wh):
                raise ValueError(
                    f"{sample.photo}: the photo is {image.shape[1]}x{image.shape[0]} but its labels were made for "
                    f"{sample.size_wh[0]}x{sample.size_wh[1]}; label the photo as it is, or remove its EXIF rotation"
                )
            with self._lock:
                if self.keep and sample.photo not in self._kept and self._bytes + image.nbytes <= self.limit:
                    self._kept[sample.photo] = image
                    self._bytes += image.nbytes
        return image


@dataclass(frozen=True)
class Part:
    """One data set of a mix."""

    samples: list[Sample]
    repeat: float = 1.0
    """How often each sample is seen in an epoch; a fraction draws a share anew each epoch."""
    balance: float = 0.0
    """How far rare poses are seen more often, 0 to 1 (data/balance.py); the length of an epoch stays the same."""
    taught: bool = True
    """Whether a teacher network is asked about its pictures (train/imitation.py)."""
    weight: np.ndarray | None = field(init=False, default=None, repr=False, compare=False)
    """(N,) what `balance` makes of it; None without."""

    def __post_init__(self) -> None:
        if self.balance > 0:
            object.__setattr__(self, "weight", balanced_weights(group_poses(self.samples), self.balance))

    @property
    def drawn(self) -> int:
        """Samples of the fraction that is drawn anew each epoch."""
        return round((self.repeat - int(self.repeat)) * len(self.samples))

    @property
    def seen(self) -> int:
        """Samples in an epoch."""
        return int(self.repeat) * len(self.samples) + self.drawn


def epoch_order(parts: list[Part], *, seed: int, epoch: int) -> np.ndarray:
    """(N, 2) int64: part and index of each sample of an epoch, shuffled; the same for the same seed and epoch."""
    rng = np.random.default_rng([seed, epoch, 0x0EDE])
    chosen = []
    for number, part in enumerate(parts):
        if part.weight is not None:
            indices = draw_weighted(part.weight, part.seen, rng)
            chosen.append(np.stack([np.full(len(indices), number), indices], axis=1))
            continue
        indices = [np.arange(len(part.samples))] * int(part.repeat)
        if part.drawn:
            indices.append(rng.permutation(len(part.samples))[: part.drawn])
        indices = np.concatenate(indices) if indices else np.zeros(0, np.int64)
        chosen.append(np.stack([np.full(len(indices), number), indices], axis=1))
    return rng.permutation(np.concatenate(chosen)).astype(np.int64)


def make_example(
    parts: list[Part], photos: Photos, codec, rules: Augmentation, *, part: int, index: int, seed: int, epoch: int,
    position: int, bank: LimbBank | None = None, others: Others | None = None, places: dict[str, int] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """One training example: `image` (H, W, 3) uint8, the codec's target maps, whom it was cut around (`_target`)
    and whether a teacher is asked about it (`taught`, bool).

    With a `camera`, `clean` is the image without its fault, which is what a teacher is shown.
    places: `people` and `ignored` of the codec's outline, which then is there in place of the maps.
    With several `paste_choices` the image is (N, H, W, 3), the ways of pasting to choose from (train/hardest.py). With
    `paste_adversary` it has no limbs yet: they are `strips` and `places` (data.limbs.pack, train/adversary.py).
    """
    rng = np.random.default_rng([seed, epoch, position])
    sample = parts[part].samples[index]
    several = rules.paste_parts > 0 and rules.paste_choices > 1
    clean = replace(rules, camera=0.0) if rules.camera > 0 else rules
    way = augment_unpasted if rules.paste_adversary else augment_choices if several else augment
    picture, moved, *placed = way(
        photos(sample), sample, size_wh=codec.input_size, rules=clean, rng=rng, bank=bank, others=others
    )
    strips = dict(zip(("strips", "places"), pack(placed[0], moved), strict=True)) if placed else {}
    labels = moved.xy, moved.visibility, moved.box_xyxy, moved.ignore_xyxy, moved.weight
    return {
        "image": through_camera(picture, rules, rng),
        **({"clean": picture} if rules.camera > 0 else {}),
        **strips,
        "taught": np.bool_(parts[part].taught),
        **_target(sample, moved, codec),
        **(codec.outline(*labels, **places) if places else codec.encode(*labels, moved.teacher_xy, moved.teacher_score)),
    }


def _target(sample: Sample, moved: Sample, codec) -> dict[str, np.ndarray]:
    """The person a picture was cut around, float32, lengths in cells of the grid; NaN where there is none.

    `target_cells` (K, 2): the labelled joints. `target_middle` (2,): where the codec has the person's middle, of the joints
    in the picture. `target_box` (4,): as `Sample.target_box`. `target_spread` (K,): the error at which a joint's OKS has
    fallen to exp(-1/2). `target_trust` (K,): how far each label counts, 0 where there is none.
    """
    joints, target = len(moved.skeleton), moved.target
    if target < 0:
        shapes = {"target_cells": (joints, 2), "target_middle": (2,), "target_box": (4,), "target_spread": (joints,)}
        nothing = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
        return {**nothing, "target_trust": np.zeros(joints, np.float32)}
    labelled = moved.visibility[target] > 0
    # Of the box before it was turned, which would widen it.
    grown = moved.area[target] / sample.area[target] if sample.area[target] > 0 else np.nan
    side = np.sqrt(box_area(sample.box_xyxy[[target]])[0] * grown)
    cells = np.where(labelled[:, None], moved.xy[target], np.nan) / codec.stride
    facts = {
        "target_cells": cells,
        "target_middle": codec.middle(cells),
        "target_box": moved.target_box() / codec.stride,
        "target_spread": 2 * np.array(moved.skeleton.sigmas) * side / codec.stride,
        "target_trust": labelled * (1.0 if moved.weight is None else moved.weight[target]),
    }
    return {name: value.astype(np.float32) for name, value in facts.items()}


def collate(examples: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Examples stacked along a new first axis."""
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


class Loader:
    """Batches of one epoch, prepared ahead in threads (OpenCV and large NumPy calls run beside the training step).

    rank, world: of every `world` x `batch` samples each process takes its own stretch, so that together they see what
    one process with the large batch would; a last short batch is left out. workers: threads; 0 prepares each batch when
    it is asked for. processes: forked processes in place of threads, whose batches are arrays in shared memory that are
    written over after `crew.HELD` more. outlines: the codec's outlines in place of its maps.
    """

    def __init__(self, parts: list[Part], codec, rules: Augmentation, *, batch: int, seed: int,
                 photos: Photos | None = None, workers: int = 1, ahead: int = 3, processes: int = 0, outlines: bool = False,
                 rank: int = 0, world: int = 1):  # fmt: skip
        self.parts, self.codec, self.rules = parts, codec, rules
        self.batch, self.seed, self.workers, self.ahead = batch, seed, workers, ahead
        self.rank, self.world = rank, world
        self.photos = photos or Photos()
        if len(self) == 0:
            whole = f"{batch}" if world == 1 else f"{batch} in each of {world} processes"
            raise ValueError(
                f"an epoch has {sum(part.seen for part in parts)} samples, fewer than one batch of {whole}; "
                "lower the stage's batch, or raise the data's repeat"
            )
        everybody = [sample for part in parts for sample in part.samples]
        self.bank = build_bank(everybody, self.photos, seed=seed) if rules.paste_parts > 0 else None
        self.others = Others(everybody, self.photos)
        self.places = self._places(everybody) if outlines else None
        self.processes, self._crew, self._order = processes, None, (-1, np.zeros((0, 2), np.int64))

    def __len__(self) -> int:
        """Batches per epoch."""
        return sum(part.seen for part in self.parts) // (self.batch * self.world)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an epoch from number `start` on."""
        order = epoch_order(self.parts, seed=self.seed, epoch=epoch)
        numbers = range(start, len(order) // (self.batch * self.world))
        if self.processes:
            yield from self.crew().batches(epoch, [self._first(number) for number in numbers])
            return
        if self.workers == 0:
            for number in numbers:
                yield self._batch(order, epoch, number)
            return
        yield from self._ahead(order, epoch, numbers)

    def crew(self) -> Crew:
        """The processes, begun at the first call: before that, `photos` should be read, or each reads them for itself."""
        if self._crew is None:
            self._crew = Crew(self._example, self.batch, self.processes)
        return self._crew

    def close(self) -> None:
        """Ends the processes, if there are any."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def _places(self, samples: list[Sample]) -> dict[str, int]:
        """How many people and ignored regions a picture can have; who is pasted in part may become an ignored region."""
        people = max(len(s.xy) for s in samples)
        ignored = max(0 if s.ignore_xyxy is None else len(s.ignore_xyxy) for s in samples)
        if self.rules.paste_people > 0:
            return {"people": 2 * people, "ignored": 2 * ignored + people}
        return {"people": people, "ignored": ignored}

    def _first(self, number: int) -> int:
        """The position in an epoch's order of the first example of this process' batch."""
        return (number * self.world + self.rank) * self.batch

    def _example(self, epoch: int, position: int) -> dict[str, np.ndarray]:
        """The example at a position of an epoch's order, which is remembered."""
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(self.parts, seed=self.seed, epoch=epoch))
        return self._make(self._order[1], epoch, position)

    def _make(self, order: np.ndarray, epoch: int, position: int) -> dict[str, np.ndarray]:
        part, index = (int(v) for v in order[position])
        return make_example(
            self.parts, self.photos, self.codec, self.rules, part=part, index=index, seed=self.seed, epoch=epoch,
            position=position, bank=self.bank, others=self.others, places=self.places,
        )  # fmt: skip

    def _batch(self, order: np.ndarray, epoch: int, number: int) -> dict[str, np.ndarray]:
        first = self._first(number)
        return collate([self._make(order, epoch, first + i) for i in range(self.batch)])

    def _ahead(self, order: np.ndarray, epoch: int, numbers: range) -> Iterator[dict[str, np.ndarray]]:
        """Batches in order, up to `ahead` of them prepared in advance; an error in a thread is raised here."""
        ready: queue.Queue = queue.Queue(maxsize=self.ahead)
        stop = threading.Event()

        def put(item) -> bool:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    return True
                except queue.Full:
                    continue
            return False

        def work() -> None:
            cv2.setNumThreads(1)
            try:
                with ThreadPoolExecutor(self.workers) as pool:
                    waiting = []
                    for number in numbers:
                        waiting.append(pool.submit(self._batch, order, epoch, number))
                        if len(waiting) >= self.workers and not put(waiting.pop(0).result()):
                            return
                    for future in waiting:
                        if not put(future.result()):
                            return
                put(None)
            except BaseException as error:  # handed to the consumer, whatever it is
                put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()
