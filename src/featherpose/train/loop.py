"""The training loop: one recipe in, one run folder out (see folder.py for what it holds)."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from featherpose.codecs import build_codec
from featherpose.data.augment import NO_AUGMENTATION, augment
from featherpose.data.loader import Loader, Part, Photos
from featherpose.data.readers import read_dataset
from featherpose.data.sample import Sample
from featherpose.evaluate import cases_of, without_guesses
from featherpose.losses import Criterion, mirrored
from featherpose.models.layers import ConvNorm
from featherpose.skeletons import load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems.files import save_model
from featherpose.train import distributed
from featherpose.train.adversary import Adversary
from featherpose.train.checkpoint import load_checkpoint, save_checkpoint
from featherpose.train.config import Recipe
from featherpose.train.drawing import PREFIX, MapDrawer
from featherpose.train.ema import EMA
from featherpose.train.folder import CHECKPOINT, MODEL, Journal, check_folder, writing
from featherpose.train.hardest import hardest
from featherpose.train.imitation import GraphTeacher, NetworkTeacher, make_teacher
from featherpose.train.initial import initial_network, initial_thresholds
from featherpose.train.meter import Meter
from featherpose.train.optimizer import lr_factor, make_optimizer
from featherpose.train.sender import Sender
from featherpose.train.validate import picture, validate

LOG_EVERY = 50
"""Steps between two lines of the log."""
SAVE_SECONDS = 300
"""Longest time between two checkpoints: what a power cut can cost."""
UNFOLD_PHOTOS = 256
"""Photos whose statistics folded batch norms get."""
PRUNE_BATCHES = 64
"""Batches whose losses tell which channels matter. A guess."""


class Interrupted(Exception):
    """Ctrl-C or a polite kill: the run was saved and can be resumed."""


class Stop:
    """Remembers SIGINT and SIGTERM, so that a step is finished and a checkpoint written before leaving."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict = {}

    def __enter__(self) -> Stop:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._ask)
        except ValueError:  # not in the main thread: the caller has its own way to stop
            self._old = {}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    report: Callable[[dict], None] = lambda line: None,
    stop_after: int | None = None,
) -> Path:
    """Trains a recipe in `folder` and returns the path of the finished model.

    report: called with every line of the log, and with {"kind": "step", ...} after each step. stop_after: leave as if
    interrupted after so many steps of this call.
    Raises ValueError for a folder that already holds a run (without `resume`) or one of another recipe (with it),
    Interrupted when it was asked to stop, FloatingPointError when the loss is no number.
    """
    folder = Path(folder)
    process = distributed.join(recipe.train.device)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    torch.manual_seed(recipe.train.seed)
    check_folder(folder, recipe, resume)
    with Stop() as stop:
        run = Run(recipe, folder, process, report, resume=resume)
        try:
            if distributed.any_of(stop.asked, process):
                raise Interrupted("stopped before the first step; nothing was written")
            model = run.go(stop, stop_after)
        finally:
            run.close()
    distributed.leave(process)
    return model


class Learner(nn.Module):
    """Network and losses in one: several processes then see which parameters no loss reaches, and wait for none."""

    def __init__(self, network: nn.Module, criterion: Criterion, amp: str) -> None:
        super().__init__()
        self.network, self.criterion, self.amp = network, criterion, amp

    def forward(self, image: torch.Tensor, targets: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        """image: (B, 3, H, W) RGB, 0..255. The total loss, and each loss before its weight."""
        if "mirror" in self.criterion.weights:
            seen = mirrored(self._seen_in_the_mirror(image), self.criterion.options["twins"])
            targets = {**targets, **{f"mirror_{name}": values for name, values in seen.items()}}
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
            maps = self.network(image)
        return self.criterion(maps, targets)

    @torch.no_grad()
    def _seen_in_the_mirror(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps of the mirrored pictures, float32; batch norms keep their statistics. In an autocast of its own: older versions
        of torch keep the weights that are cast in one, here without a gradient."""
        norms = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
            maps = self.network(image.flip(3).contiguous(memory_format=torch.channels_last))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return {name: values.float() for name, values in maps.items()}


class Run:
    """One training run: what is remembered between steps."""

    def __init__(
        self, recipe: Recipe, folder: Path, process: distributed.Process, report: Callable[[dict], None], *,
        resume: bool = False,
    ) -> None:  # fmt: skip
        """Reads the data and builds everything; nothing is written. resume: from the folder's checkpoint."""
        self.recipe, self.folder, self.process, self.report = recipe, folder, process, report
        start = "" if resume else recipe.model.init
        for path, what in ((start, "file to start from (model.init)"), (recipe.model.teacher, "model file (model.teacher)")):
            if path and not Path(path).is_file():  # before minutes of reading photos
                raise FileNotFoundError(f"{path}: there is no such {what}")
        self.skeleton = load_skeleton(recipe.model.skeleton)
        codec = build_codec(recipe.model.codec, recipe.input_size, len(self.skeleton))
        self.criterion = Criterion(
            recipe.losses, self.skeleton, vote_radius=codec.vote_radius, softening=codec.softening,
            center_softening=codec.center_softening, **recipe.loss
        )  # fmt: skip
        self.photos = Photos(keep=recipe.train.keep_photos)
        self.problems: dict[str, int] = {}
        self.parts = [
            Part(self._teachable(self._read(d.path, d.split, self.skeleton)), d.repeat, d.balance, d.taught)
            for d in recipe.data
        ]
        self._check_answers()
        self.val = self._validation_samples()
        self.sender: Sender | None = None
        self.loaders = [self._loader(number) for number in range(len(recipe.stage))]
        self.total = sum(s.epochs * len(loader) for s, loader in zip(recipe.stage, self.loaders, strict=True))
        self.epochs = sum(s.epochs for s in recipe.stage)
        if recipe.train.processes:  # forked before anything is on a GPU
            everybody = [sample for part in self.parts for sample in part.samples]
            self.photos.read_all(everybody, threads=recipe.train.processes)
            for loader in self.loaders:
                loader.crew()
        try:
            self._build(resume)
        except BaseException:
            self.close()
            raise

    def _build(self, resume: bool) -> None:
        """Everything that is on the device."""
        recipe, process = self.recipe, self.process
        self.criterion.to(process.device)
        self.sender = Sender(process.device)
        self.drawers = {loader.codec.input_size: MapDrawer(loader.codec, self.sender) for loader in self.loaders}
        self.teacher = self._teacher()
        self.thresholds = initial_thresholds(recipe.model.init, self.skeleton)
        init = "" if resume else recipe.model.init  # the checkpoint has all weights
        network = initial_network(
            recipe.model.network, self.skeleton, init, self._some_photos, self._losses if recipe.model.prune else None
        )
        self.network = network.to(process.device, memory_format=torch.channels_last)
        self.frozen = self.network.backbone.early(recipe.train.freeze) if recipe.train.freeze else []
        for module in self.frozen:
            for parameter in module.parameters():
                parameter.requires_grad_(False)
        for module in self.network.modules():
            if isinstance(module, ConvNorm):
                module.folded = recipe.train.norms == "folded"
        norms = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d)]
        self.momentum = {norm: norm.momentum for norm in norms}
        self.shared = distributed.share(Learner(self.network, self.criterion, recipe.train.amp), process)
        self.compiled = torch.compile(self.shared, dynamic=False) if recipe.train.compile else self.shared
        self.average = EMA(self.network, recipe.train.ema) if recipe.train.ema else None
        pasting = any(recipe.augmentation(stage).paste_adversary for stage in recipe.stage)
        self.adversary = Adversary(recipe.train.seed).to(process.device) if pasting else None
        self.optimizer = make_optimizer(
            self.network, recipe.train, initialised=bool(recipe.model.init), criterion=self.criterion,
            adversary=self.adversary,
        )  # fmt: skip
        self.step, self.epoch, self.batch = 0, 0, 0
        self.meter_state: dict | None = None
        self.journal: Journal | None = None
        if resume:
            self.load()

    # --- building ---------------------------------------------------------------------------------------------------

    def _read(self, path: str, split: str, skeleton=None) -> list[Sample]:
        """The samples of a data set; labels that cannot be true are left out and counted."""
        problems: list = []
        samples = read_dataset(path, split=split or None, skeleton=skeleton, problems=problems)
        if problems:
            self.problems[f"{path} --split {split}" if split else path] = len(problems)
        return samples

    def _teachable(self, samples: list[Sample]) -> list[Sample]:
        """The samples with a teacher's answers if a loss wants them (NaN where it was not asked), else without."""
        if not self.recipe.losses.get("distillation"):
            return [s if s.teacher_xy is None else replace(s, teacher_xy=None, teacher_score=None) for s in samples]
        return [
            s if s.teacher_xy is not None
            else replace(s, teacher_xy=np.full_like(s.xy, np.nan), teacher_score=np.zeros(s.xy.shape[:2], np.float32))
            for s in samples
        ]  # fmt: skip

    def _check_answers(self) -> None:
        """ValueError when a teacher's answers are to be learned and no data set has any."""
        samples = (s for part in self.parts for s in part.samples)
        if self.recipe.losses.get("distillation") and not any(np.isfinite(s.teacher_xy).any() for s in samples):
            raise ValueError(
                "losses.distillation needs a teacher's joints, and no data set of the recipe has any; write them by "
                "`featherpose data label DATA --joints-for-all` (docs/labelling.md), or leave the loss out"
            )

    def _validation_samples(self) -> list[Sample]:
        rules = self.recipe.validation
        if not rules.path:
            return []
        samples = self._read(rules.path, rules.split)[: rules.limit or None]
        if not any(cases_of(without_guesses(sample), self.skeleton, "target") for sample in samples):
            raise ValueError(
                f"{rules.path}: none of the {len(samples)} photos to validate on has a target with a box and a joint of "
                f"skeleton '{self.skeleton.name}'; name another validation.path, or leave it empty"
            )
        return samples

    def _validated_and_trained(self) -> int:
        """How many of the photos to validate on are trained on too."""
        if not self.val:
            return 0
        trained = {sample.photo.resolve() for part in self.parts for sample in part.samples}
        return len(trained & {sample.photo.resolve() for sample in self.val})

    def _some_photos(self) -> list[torch.Tensor]:
        """Training crops without augmentation, (B, 3, H, W) RGB 0..255, for batch norm statistics."""
        rng = np.random.default_rng(self.recipe.train.seed)
        samples = [s for part in self.parts for s in part.samples]
        chosen = [samples[i] for i in rng.permutation(len(samples))[:UNFOLD_PHOTOS]]
        size = self.recipe.input_size
        pictures = [augment(self.photos(s), s, size_wh=size, rules=NO_AUGMENTATION, rng=rng)[0] for s in chosen]
        batches = [np.stack(pictures[i : i + 32]) for i in range(0, len(pictures), 32)]
        return [torch.from_numpy(b).permute(0, 3, 1, 2).float() for b in batches]

    def _losses(self, network: nn.Module) -> Iterator[torch.Tensor]:
        """The loss of a network on some training batches of the last size, as it would be in evaluation."""
        network = network.to(self.process.device, memory_format=torch.channels_last)
        for module in network.train().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        learner = Learner(network, self.criterion, self.recipe.train.amp)
        for batch in islice(self.loaders[-1].epoch(0), PRUNE_BATCHES):
            yield learner(*self._inputs(batch, network))[0]

    def _inputs(self, batch: dict[str, np.ndarray], network: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What a Learner takes, on the device: pictures (B, 3, H, W), and targets with the teacher's answers, if any.

        network: chooses where there are several ways of pasting.
        """
        unused = ("taught",) if self.teacher is not None else ("taught", "clean")
        outlines = {name: value for name, value in batch.items() if name.startswith(PREFIX)}
        tensors = self.sender({name: value for name, value in batch.items() if name not in (*unused, *outlines)})
        if outlines:
            height, width = batch["image"].shape[-3:-1]
            tensors.update(self.drawers[width, height](outlines))
        image, clean = tensors.pop("image"), tensors.pop("clean", None)
        if image.dim() == 5:
            bf16 = self.recipe.train.amp == "bf16"
            distributed.same_buffers(network, self.process)  # or processes would choose by statistics no checkpoint has
            image = hardest(network, image, tensors, k=self.criterion.options["k"], amp=bf16)
        image = image.permute(0, 3, 1, 2).float()  # channels last in memory
        if "strips" in tensors:
            image = self.adversary(image, tensors.pop("strips"), tensors.pop("places"))
        if self.teacher is not None:
            shown = image.detach() if clean is None else clean.permute(0, 3, 1, 2).float()
            tensors.update(self._answers(shown, tensors, np.flatnonzero(batch["taught"])))
        return image, tensors

    def _answers(self, image: torch.Tensor, targets: dict[str, torch.Tensor], asked: np.ndarray) -> dict[str, torch.Tensor]:
        """What the teacher says of the pictures with these numbers, and `imitation_asked` unless they are all.

        The numbers are known on this side, so that a GPU is not waited for.
        """
        if len(asked) == len(image):
            return self.teacher(image, targets)
        numbers = self.sender({"asked": asked})["asked"]
        if len(asked) == 0:
            return {"imitation_asked": numbers}
        shown = image[numbers].contiguous(memory_format=torch.channels_last)
        told = self.teacher(shown, {name: value[numbers] for name, value in targets.items()})
        return {**told, "imitation_asked": numbers}

    def _loader(self, number: int) -> Loader:
        stage, train = self.recipe.stage[number], self.recipe.train
        codec = build_codec(self.recipe.model.codec, stage.input_size, len(self.skeleton))
        return Loader(
            self.parts, codec, self.recipe.augmentation(stage), batch=stage.batch, seed=train.seed, photos=self.photos,
            workers=train.workers, processes=train.processes, outlines=train.draw == "device",
            rank=self.process.rank, world=self.process.world,
        )  # fmt: skip

    def _teacher(self) -> NetworkTeacher | GraphTeacher | None:
        model = self.recipe.model
        if not model.teacher:
            return None
        size, amp = self.recipe.input_size, self.recipe.train.amp
        return make_teacher(model.teacher, self.skeleton, model.codec, size, self.process.device, amp)

    def spec(self) -> ModelSpec:
        """The spec of the model as it is now."""
        return ModelSpec(
            name=self.recipe.model.name,
            skeleton=self.skeleton,
            input_size=self.recipe.input_size,
            codec=self.recipe.model.codec,
            network=self.recipe.model.network,
            **self.thresholds,
            provenance={
                "recipe": self.recipe.to_public_dict(),
                "fingerprint": self.recipe.fingerprint(),
                "epochs": self.epoch,
                "steps": self.step,
            },
        )

    # --- saving and going on ----------------------------------------------------------------------------------------

    def save(self, meter: Meter | None = None) -> None:
        """Writes the checkpoint (rank 0). FloatingPointError, and nothing written, when the weights may be broken."""
        if meter is not None:
            self._check_finite(meter)
        if not self.process.first:
            return
        facts = {
            "fingerprint": self.recipe.fingerprint(), "step": self.step, "epoch": self.epoch, "batch": self.batch,
            "meter": meter.state() if meter is not None else None, "world": self.process.world, "steps": self.total,
            "recipe": self.recipe.to_dict(), "thresholds": self.thresholds,
        }  # fmt: skip
        average = None if self.average is None else self.average.network
        path = self.folder / CHECKPOINT
        save_checkpoint(
            path, network=self.network, average=average, optimizer=self.optimizer, facts=facts,
            criterion=self.criterion, adversary=self.adversary,
        )  # fmt: skip

    def load(self) -> None:
        """Goes back to the checkpoint's step. ValueError when processes or data are not as they were."""
        average = None if self.average is None else self.average.network
        path = self.folder / CHECKPOINT
        facts = load_checkpoint(
            path, network=self.network, average=average, optimizer=self.optimizer, criterion=self.criterion,
            adversary=self.adversary,
        )  # fmt: skip
        world, steps = facts.get("world", self.process.world), facts.get("steps", self.total)
        if world != self.process.world:
            raise ValueError(f"{path} was written by {world} processes, this run has {self.process.world}; use as many")
        if steps != self.total:
            anew = f"from the weights so far: model.init = '{self.folder / MODEL}'"
            raise ValueError(
                f"{path} belongs to a run of {steps} steps, with the data as it is now there are {self.total}; put the "
                f"data back as it was, or start anew {anew if (self.folder / MODEL).is_file() else 'in another --out'}"
            )
        self.step, self.epoch, self.batch = facts["step"], facts["epoch"], facts["batch"]
        self.meter_state = facts.get("meter")
        self.thresholds = facts.get("thresholds", self.thresholds)

    def log(self, kind: str, **facts) -> None:
        """Writes one line of the log and reports it (rank 0)."""
        if self.journal is not None:
            self._tell(self.journal.write(kind, step=self.step, epoch=self.epoch, **facts))

    def _tell(self, line: dict) -> None:
        self.report({**line, "steps": self.total, "epochs": self.epochs})

    # --- running ----------------------------------------------------------------------------------------------------

    def go(self, stop: Stop, stop_after: int | None = None) -> Path:
        """Runs the rest of the recipe."""
        if self.process.first:
            self.journal = Journal(self.folder, self.recipe, step=self.step, epoch=self.epoch)
        samples = sum(len(p.samples) for p in self.parts)
        self.log(
            "start", batches=self.total, samples=samples, world=self.process.world, problems=self.problems,
            validated_and_trained=self._validated_and_trained(),
        )  # fmt: skip
        try:
            self._run_epochs(stop, math.inf if stop_after is None else stop_after)
        except BaseException:
            if self.journal is not None:
                self.journal.close(quietly=True)
            raise
        if self.journal is not None:
            self.journal.close()
        return self.folder / MODEL

    def close(self) -> None:
        """Ends the processes that prepare batches, if there are any."""
        for loader in self.loaders:
            loader.close()
        if self.sender is not None:
            self.sender.unpin()

    def _run_epochs(self, stop: Stop, left: float) -> None:
        last_save = time.monotonic()
        while self.epoch < self.epochs:
            number = self._stage_of(self.epoch)
            meter = Meter(self.recipe.stage[number].batch * self.process.world, self.meter_state)
            self.meter_state = None
            if self.recipe.train.processes:
                self._start_crew(number)
            batches = self.loaders[number].epoch(self.epoch, start=self.batch)
            try:
                for batch in batches:
                    meter.add(*self._train_step(batch))
                    self.batch += 1
                    self.step += 1
                    left -= 1
                    self._tell({"kind": "step", "step": self.step, "epoch": self.epoch})
                    if self.step % LOG_EVERY == 0:
                        self._log_means(meter)
                    if distributed.any_of(stop.asked or left <= 0, self.process):
                        self.save(meter)
                        distributed.wait(self.process)  # torchrun ends the others as soon as one has left
                        raise Interrupted(
                            f"stopped after step {self.step} of {self.total}, the checkpoint is written; "
                            "go on with --resume"
                        )
                    if time.monotonic() - last_save > SAVE_SECONDS:
                        self.save(meter)
                        last_save = time.monotonic()
            finally:
                batches.close()
            if meter.steps:
                self._log_means(meter)
            if self._validates(self.epoch + 1):  # whatever comes of that, the epoch is not lost
                self.save(meter)
            self.epoch += 1
            self.batch = 0
            self._end_of_epoch()
            self.save()
            last_save = time.monotonic()
        if distributed.any_of(self.process.first and not (self.folder / MODEL).is_file(), self.process):
            self._end_of_epoch()  # a finished run whose model was taken away

    def _start_crew(self, number: int) -> None:
        """Makes the processes of a stage ready; those of the stages before it, and their memory, are let go."""
        if self.loaders[number].crew() not in self.sender.pinned:
            self.sender.unpin()
        for earlier in self.loaders[:number]:
            earlier.close()
        self.sender.pin(self.loaders[number].crew())

    def _log_means(self, meter: Meter) -> None:
        self._check_finite(meter)
        learned = {name: round(value, 5) for name, value in self.criterion.learned_weights().items()}
        more = {"weights": learned} if learned else {}
        self.log("train", lr=lr_factor(self.recipe.train, self.step - 1, self.total), **meter.read(), **more)

    def _check_finite(self, meter: Meter) -> None:
        """FloatingPointError when a loss or gradient was no number: what came after it is worth nothing."""
        broken = meter.broken()
        if broken:
            raise FloatingPointError(
                f"the loss or its gradient is no number any more (means up to step {self.step}: {broken}); "
                "the last checkpoint is from before: start again with a lower train.lr or a longer train.warmup"
            )

    def _stage_of(self, epoch: int) -> int:
        for number, stage in enumerate(self.recipe.stage):
            if epoch < stage.epochs:
                return number
            epoch -= stage.epochs
        raise IndexError(epoch)

    def _train_step(self, batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, dict]:
        """One step; the loss, the gradient's norm before clipping, each loss before its weight. Waits for no GPU."""
        rules = self.recipe.train
        self.network.train()
        for module in self.frozen:
            module.eval()
        for norm, own in self.momentum.items():
            # The statistics begin at 0 and 1; with the final momentum short runs would still be validated with those.
            norm.momentum = max(own, 2 / (2 + self.step))
        factor = lr_factor(rules, self.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        settled = rules.norms == "folded" or all(norm.momentum == own for norm, own in self.momentum.items())
        learner = self.compiled if settled else self.shared  # code is compiled for one momentum
        total, parts = learner(*self._inputs(batch, self.network))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        if self.adversary is not None:
            distributed.average_gradients(self.adversary, self.process)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), rules.clip or math.inf)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network, self.step)
        return total.detach(), norm.detach(), parts

    def _validates(self, epoch: int) -> bool:
        """Whether the model is validated and kept after so many epochs."""
        return epoch == self.epochs or epoch % self.recipe.validation.every == 0

    def _end_of_epoch(self) -> None:
        """Validates, draws, and keeps the averaged weights as a model."""
        rules = self.recipe.validation
        if self.process.first and self._validates(self.epoch):
            network = self.network if self.average is None else self.average.network
            spec = self.spec()
            if self.val:
                started = time.monotonic()
                result = validate(network, spec, self.val, protocol=rules.protocol)
                figures = {name: v for name, v in result.to_dict()["figures"].items() if isinstance(v, (int, float))}
                seconds = round(time.monotonic() - started, 1)
                self.log("validation", figures=figures, seconds=seconds, unreadable=list(result.unreadable))
                self._draw(network, spec, unreadable=bool(result.unreadable))
                measured = {**asdict(rules), "path": Path(rules.path).name, "figures": figures}
                spec = replace(spec, provenance={**spec.provenance, "validation": measured})
            with writing(self.folder / MODEL):
                save_model(self.folder / MODEL, network, spec)
        distributed.wait(self.process)

    def _draw(self, network: nn.Module, spec: ModelSpec, unreadable: bool) -> None:
        """Writes a sheet of predictions on some validation photos, the same each time."""
        count = self.recipe.validation.pictures
        chosen = [s for s in self.val[:: max(1, len(self.val) // max(1, count))] if s.target >= 0][:count]
        if unreadable:
            chosen = [s for s in chosen if _readable(s, self.photos)]
        if not chosen:
            return
        image = picture(network, spec, chosen, self.photos)
        self.journal.picture(image, step=self.step, epoch=self.epoch)


def _readable(sample: Sample, photos: Photos) -> bool:
    try:
        photos(sample)
    except (OSError, ValueError):
        return False
    return True

