"""The training loop: one recipe in, one run folder out.

A run folder holds `recipe.json` (every default written out), `log.jsonl`, `tensorboard/`, `pictures/`,
`checkpoint.safetensors` (to go on) and `model.safetensors` (averaged weights with their spec, to use).
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from featherpose.codecs import build_codec
from featherpose.data.loader import Loader, Part, Photos
from featherpose.data.readers import read_dataset
from featherpose.losses import Criterion
from featherpose.models.files import load_network, save_model
from featherpose.models.layers import has_folded_norms, unfold_batch_norms
from featherpose.skeletons import load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.train import distributed
from featherpose.train.checkpoint import load_checkpoint, read_facts, save_checkpoint
from featherpose.train.config import Recipe
from featherpose.train.ema import EMA
from featherpose.train.validate import picture, validate

CHECKPOINT, MODEL, LOG = "checkpoint.safetensors", "model.safetensors", "log.jsonl"
LOG_EVERY = 50
"""Steps between two lines of the log."""
SAVE_SECONDS = 300
"""Longest time between two checkpoints: what a power cut can cost."""
UNFOLD_PHOTOS = 256
"""Photos whose statistics a classifier's folded batch norms get."""


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

    report: called with every line of the log. stop_after: leave as if interrupted after so many steps of this call.
    Raises ValueError for a folder that already holds a run (without `resume`) or one of another recipe (with it),
    Interrupted when it was asked to stop, FloatingPointError when the loss is no number.
    """
    folder = Path(folder)
    process = distributed.join(recipe.train.device)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    torch.manual_seed(recipe.train.seed)
    _check_folder(folder, recipe, resume)
    with Stop() as stop:
        run = Run(recipe, folder, process, report)
        if resume:
            run.load()
        distributed.wait(process)
        return run.go(stop, stop_after)


def _check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    checkpoint = folder / CHECKPOINT
    if resume:
        other = read_facts(checkpoint)["fingerprint"]
        if other != recipe.fingerprint():
            raise ValueError(
                f"{checkpoint} belongs to another recipe (fingerprint {other}, this recipe has {recipe.fingerprint()}); "
                f"resume with the recipe it was started with ({folder / 'recipe.json'} has its values), or choose another --out"
            )
    elif checkpoint.exists():
        raise ValueError(f"{folder} already holds a run; go on with it by --resume, or choose another --out")


class Run:
    """One training run: what is remembered between steps."""

    def __init__(self, recipe: Recipe, folder: Path, process: distributed.Process, report: Callable[[dict], None]) -> None:
        self.recipe, self.folder, self.process, self.report = recipe, folder, process, report
        self.skeleton = load_skeleton(recipe.model.skeleton)
        self.photos = Photos(keep=recipe.train.keep_photos)
        self.parts = [
            Part(read_dataset(d.path, split=d.split or None, skeleton=self.skeleton, problems=[]), d.repeat)
            for d in recipe.data
        ]
        rules = recipe.validation
        self.val = []
        if rules.path:
            self.val = read_dataset(rules.path, split=rules.split or None, problems=[])[: rules.limit or None]
        self.network = self._network().to(process.device, memory_format=torch.channels_last)
        self.frozen = self.network.backbone.early(recipe.train.freeze) if recipe.train.freeze else []
        for module in self.frozen:
            for parameter in module.parameters():
                parameter.requires_grad_(False)
        self.shared = distributed.share(self.network, process)
        self.average = EMA(self.network, recipe.train.ema) if recipe.train.ema else None
        self.optimizer = _optimizer(self.network, recipe)
        self.criterion = Criterion(recipe.losses, self.skeleton, **recipe.loss).to(process.device)
        self.step, self.epoch, self.batch = 0, 0, 0
        self.best = -1.0
        self.loaders = [self._loader(number) for number in range(len(recipe.stage))]
        self.total = sum(s.epochs * len(loader) for s, loader in zip(recipe.stage, self.loaders, strict=True))
        self.epochs = sum(s.epochs for s in recipe.stage)
        self.board = None

    # --- building ---------------------------------------------------------------------------------------------------

    def _network(self) -> nn.Module:
        init = self.recipe.model.init
        facts = self.recipe.model.network
        if init.endswith(".safetensors") and _is_model(Path(init)):
            network, spec = load_network(Path(init))
            network = network if spec.network == facts and spec.skeleton == self.skeleton else self._warm_start(network)
            if has_folded_norms(network):  # an imported model; live statistics would change what it computes
                unfold_batch_norms(network, [(batch + 1) * 127.5 for batch in self._some_photos()])
            return network
        network = build_network(facts, len(self.skeleton))
        if init:
            from featherpose.importers.classifier import load_classifier

            load_classifier(network.backbone, Path(init))
            if init.endswith(".tflite"):
                unfold_batch_norms(network.backbone, self._some_photos())
        return network

    def _warm_start(self, other: nn.Module) -> nn.Module:
        """A new network with every weight of another one that has the same name and shape (other joints, say)."""
        network = build_network(self.recipe.model.network, len(self.skeleton))
        own, given = network.state_dict(), other.state_dict()
        fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
        if len(fitting) < len(own) / 2:
            raise ValueError(
                f"{self.recipe.model.init}: only {len(fitting)} of {len(own)} weights fit the recipe's network; "
                "name a model of the same system and width"
            )
        network.load_state_dict({**own, **fitting})
        return network

    def _some_photos(self) -> list[torch.Tensor]:
        """Training crops without augmentation, normalised, for batch norm statistics."""
        from featherpose.data.augment import NO_AUGMENTATION, augment

        rng = np.random.default_rng(self.recipe.train.seed)
        samples = [s for part in self.parts for s in part.samples]
        chosen = rng.permutation(len(samples))[:UNFOLD_PHOTOS]
        size = self.recipe.input_size
        pictures = [
            augment(self.photos(samples[i]), samples[i], size_wh=size, rules=NO_AUGMENTATION, rng=rng)[0] for i in chosen
        ]
        batches = [np.stack(pictures[i : i + 32]) for i in range(0, len(pictures), 32)]
        return [torch.from_numpy(b).permute(0, 3, 1, 2).float() / 127.5 - 1 for b in batches]

    def _loader(self, number: int) -> Loader:
        stage, train = self.recipe.stage[number], self.recipe.train
        codec = build_codec(self.recipe.model.codec, stage.input_size, len(self.skeleton))
        return Loader(
            self.parts, codec, self.recipe.augmentation(stage), batch=stage.batch, seed=train.seed, photos=self.photos,
            workers=train.workers, rank=self.process.rank, world=self.process.world,
        )  # fmt: skip

    def spec(self) -> ModelSpec:
        """The spec of the model as it is now."""
        return ModelSpec(
            name=self.recipe.model.name,
            skeleton=self.skeleton,
            input_size=self.recipe.input_size,
            codec=self.recipe.model.codec,
            network=self.recipe.model.network,
            provenance={
                "recipe": self.recipe.to_dict(),
                "fingerprint": self.recipe.fingerprint(),
                "epochs": self.epoch,
                "steps": self.step,
            },
        )

    # --- saving and going on ----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes the checkpoint (rank 0)."""
        if not self.process.first:
            return
        facts = {
            "fingerprint": self.recipe.fingerprint(), "step": self.step, "epoch": self.epoch, "batch": self.batch,
            "best": self.best, "recipe": self.recipe.to_dict(),
        }  # fmt: skip
        average = None if self.average is None else self.average.network
        save_checkpoint(self.folder / CHECKPOINT, network=self.network, average=average, optimizer=self.optimizer, facts=facts)

    def load(self) -> None:
        """Goes back to the checkpoint's step."""
        average = None if self.average is None else self.average.network
        facts = load_checkpoint(self.folder / CHECKPOINT, network=self.network, average=average, optimizer=self.optimizer)
        self.step, self.epoch, self.batch, self.best = facts["step"], facts["epoch"], facts["batch"], facts["best"]

    def log(self, kind: str, **facts) -> None:
        """Writes one line of the log, to TensorBoard too, and reports it (rank 0)."""
        if not self.process.first:
            return
        line = {"kind": kind, "step": self.step, "epoch": self.epoch, "time": round(time.time(), 1), **facts}
        with open(self.folder / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in facts.items():
            for key, number in (value if isinstance(value, dict) else {"": value}).items():
                if self.board is not None and isinstance(number, (int, float)) and math.isfinite(number):
                    self.board.add_scalar(f"{kind}/{name}{'/' if key else ''}{key}", number, self.step)
        self.report({**line, "steps": self.total, "epochs": self.epochs})

    # --- running ----------------------------------------------------------------------------------------------------

    def go(self, stop: Stop, stop_after: int | None) -> Path:
        """Runs the rest of the recipe."""
        if self.process.first:
            (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
            (self.folder / "recipe.json").write_text(json.dumps(self.recipe.to_dict(), indent=1), encoding="utf-8")
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.folder / "tensorboard"))
        self.log("start", batches=self.total, samples=sum(len(p.samples) for p in self.parts), world=self.process.world)
        last_save = time.monotonic()
        left = math.inf if stop_after is None else stop_after
        while self.epoch < self.epochs:
            number = self._stage_of(self.epoch)
            batches = self.loaders[number].epoch(self.epoch, start=self.batch)
            meter = Meter(self.recipe.stage[number].batch * self.process.world)
            try:
                for batch in batches:
                    meter.add(*self._train_step(batch))
                    self.batch += 1
                    self.step += 1
                    left -= 1
                    if self.step % LOG_EVERY == 0:
                        self.log("train", lr=self._lr(self.step - 1), **meter.read())
                    if self._must_stop(stop, left):
                        self.save()
                        raise Interrupted(f"stopped after step {self.step} of {self.total}; go on with --resume")
                    if time.monotonic() - last_save > SAVE_SECONDS:
                        self.save()
                        last_save = time.monotonic()
            finally:
                batches.close()
            self.epoch += 1
            self.batch = 0
            self._end_of_epoch()
            self.save()
            last_save = time.monotonic()
        if self.board is not None:
            self.board.close()
        return self.folder / MODEL

    def _must_stop(self, stop: Stop, left: float) -> bool:
        asked = stop.asked or left <= 0
        return distributed.any_of(asked, self.process) if self.process.world > 1 else asked

    def _stage_of(self, epoch: int) -> int:
        for number, stage in enumerate(self.recipe.stage):
            if epoch < stage.epochs:
                return number
            epoch -= stage.epochs
        raise IndexError(epoch)

    def _lr(self, step: int) -> float:
        """Factor on the peak learning rate: linear warm-up, then a cosine down to `final_lr`."""
        rules = self.recipe.train
        if step < rules.warmup:
            return (step + 1) / rules.warmup
        progress = (step - rules.warmup) / max(1, self.total - rules.warmup)
        return rules.final_lr + (1 - rules.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def _train_step(self, batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, dict, torch.Tensor]:
        rules, device = self.recipe.train, self.process.device
        self.network.train()
        for module in self.frozen:
            module.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self._lr(self.step)
        tensors = {name: torch.from_numpy(value).to(device, non_blocking=True) for name, value in batch.items()}
        image = tensors.pop("image").permute(0, 3, 1, 2).float()  # channels last in memory
        with torch.autocast(device.type, torch.bfloat16, enabled=rules.amp == "bf16"):
            maps = self.shared(image)
        total, parts = self.criterion(maps, tensors)
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"the loss is {total.item()} at step {self.step} ({ {n: round(float(v), 3) for n, v in parts.items()} }); "
                "lower train.lr or raise train.warmup and start again; the last checkpoint is from before"
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), rules.clip or math.inf)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network, self.step)
        return total.detach(), parts, norm.detach()

    def _end_of_epoch(self) -> None:
        """Validates, draws, and keeps the model: the averaged weights as they are, and the best so far."""
        rules = self.recipe.validation
        last = self.epoch == self.epochs
        if self.process.first and (last or self.epoch % max(1, rules.every) == 0):
            network = self.network if self.average is None else self.average.network
            spec = self.spec()
            if self.val:
                started = time.monotonic()
                result = validate(network, spec, self.val, protocol=rules.protocol)
                figures = {name: v for name, v in result.to_dict()["figures"].items() if isinstance(v, (int, float))}
                self.log("validation", figures=figures, seconds=round(time.monotonic() - started, 1))
                self._draw(network, spec)
                self.best = max(self.best, figures.get("AR", -1.0))
                spec = replace(spec, provenance={**spec.provenance, "validation": {**asdict(rules), "figures": figures}})
            save_model(self.folder / MODEL, network, spec)
        self.network.train()
        distributed.wait(self.process)

    def _draw(self, network: nn.Module, spec: ModelSpec) -> None:
        count = self.recipe.validation.pictures
        if not count:
            return
        chosen = [s for s in self.val[:: max(1, len(self.val) // count)] if s.target >= 0][:count]
        image = picture(network, spec, chosen, self.photos)
        cv2.imwrite(str(self.folder / "pictures" / f"epoch_{self.epoch:03d}.png"), image[:, :, ::-1])
        if self.board is not None:
            self.board.add_image("validation/predictions", image, self.step, dataformats="HWC")


class Meter:
    """Means since the last reading: losses, gradient norm, photos per second."""

    def __init__(self, photos_per_step: int) -> None:
        self.photos_per_step = photos_per_step
        self._clear()

    def _clear(self) -> None:
        self.started, self.steps, self.sums = time.monotonic(), 0, {}

    def add(self, total: torch.Tensor, parts: dict, norm: torch.Tensor) -> None:
        """Counts one step."""
        self.steps += 1
        for name, value in {"loss": total, "gradient": norm, **parts}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def read(self) -> dict:
        """{"loss", "gradient", "losses": {name: mean}, "photos_per_s"}; starts anew."""
        seconds = max(1e-9, time.monotonic() - self.started)
        means = {name: round(value / self.steps, 5) for name, value in self.sums.items()}
        facts = {"loss": means.pop("loss"), "gradient": means.pop("gradient"), "losses": means}
        facts["photos_per_s"] = round(self.steps * self.photos_per_step / seconds, 1)
        self._clear()
        return facts


def _is_model(path: Path) -> bool:
    """Whether a safetensors file carries a spec of ours (else it is somebody's state dict)."""
    from safetensors import SafetensorError, safe_open

    from featherpose.spec import SPEC_KEY

    try:
        with safe_open(str(path), framework="np") as file:
            return SPEC_KEY in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; batch norms and biases do not decay, the backbone may learn slower (Loshchilov and Hutter, ICLR 2019)."""
    rules = recipe.train
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = rules.weight_decay if parameter.ndim > 1 else 0.0
        peak = rules.lr * (rules.backbone_lr if name.startswith("backbone.") and recipe.model.init else 1.0)
        groups.setdefault((peak, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "peak": peak, "lr": peak, "weight_decay": decay} for (peak, decay), p in groups.items()],
        betas=rules.betas, fused=True,
    )  # fmt: skip
