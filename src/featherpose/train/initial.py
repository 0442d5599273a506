"""The weights a run starts from: random ones, a classifier's backbone, or a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from featherpose.importers.classifier import load_classifier
from featherpose.models.layers import has_folded_norms, unfold_batch_norms
from featherpose.skeletons import Skeleton, joint_mapping
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import load_network, spec_of
from featherpose.train.prune import narrowed

LAST = ".out."
"""In the names of the layers that end a head, one or more channels per joint."""


def initial_network(
    facts: dict, skeleton: Skeleton, init: str, photos: Callable[[], list[Tensor]],
    prune: Callable[[nn.Module], Iterable[Tensor]] | None = None,
) -> nn.Module:  # fmt: skip
    """The network of a recipe's `model.network` with the weights of `model.init`.

    photos: gives batches (B, 3, H, W) RGB 0..255, asked for only when folded batch norms need statistics. prune: gives
    losses of a network, batch by batch: `init` is a wider model, which is narrowed by them.
    Raises ValueError when the file does not fit.
    """
    if not init:
        return build_network(facts, len(skeleton))
    path = Path(init)
    if path.suffix.lower() == ".safetensors" and _spec_of_start(path) is not None:
        network, spec = load_network(path)
        if prune is not None:
            if spec.skeleton.joints != skeleton.joints:
                raise ValueError(
                    f"{path}: model.prune wants the joints of the trained model in their order, those of skeleton "
                    f"'{spec.skeleton.name}'; the recipe has skeleton '{skeleton.name}'"
                )
            if has_folded_norms(network):
                unfold_batch_norms(network, photos())
            return narrowed(network, facts, skeleton, prune)
        if spec.network != facts or spec.skeleton != skeleton:
            network = _fitting_weights(network, spec.skeleton, build_network(facts, len(skeleton)), skeleton, path)
        if has_folded_norms(network):  # an imported model; live statistics would change what it computes
            unfold_batch_norms(network, photos())
        return network
    if prune is not None:
        raise ValueError(f"{path}: model.prune narrows a trained model of skeleton '{skeleton.name}'; this is none")
    network = build_network(facts, len(skeleton))
    load_classifier(network.backbone, path)
    if has_folded_norms(network.backbone):
        unfold_batch_norms(network.backbone, [batch / 127.5 - 1 for batch in photos()])
    return network


def initial_thresholds(init: str, skeleton: Skeleton) -> dict[str, float]:
    """joint_threshold and pose_threshold of the model that a run starts from; nothing where there is none, or where it does
    not know all of the joints."""
    path = Path(init)
    spec = spec_of(path) if path.suffix.lower() == ".safetensors" and path.is_file() else None
    if spec is None or (joint_mapping(spec.skeleton, skeleton) < 0).any():
        return {}
    return {name: getattr(spec, name) for name in ("joint_threshold", "pose_threshold")}


def _fitting_weights(
    given: nn.Module, joints: Skeleton, network: nn.Module, skeleton: Skeleton, path: Path
) -> nn.Module:
    """`network` with every weight of `given` that has the same name and shape.

    joints: the skeleton of `given`. The heads' last layers are matched joint by joint, by name; joints that the model
    does not know keep their random weights.
    """
    own, place = network.state_dict(), torch.from_numpy(joint_mapping(joints, skeleton))
    fitting = 0
    for name, value in given.state_dict().items():
        if name not in own:
            continue
        rows, rest = len(value) if value.ndim else 0, value.shape[1:]
        if LAST in name and rows > 1 and rows % len(joints) == 0 and own[name].shape[1:] == rest:
            mine, theirs = own[name].view(len(skeleton), -1, *rest), value.view(len(joints), -1, *rest)
            if mine.shape[1:] == theirs.shape[1:]:  # (K, channels per joint, ...)
                mine[place >= 0] = theirs[place[place >= 0]]
                fitting += 1
        elif own[name].shape == value.shape:
            own[name].copy_(value)
            fitting += 1
    if fitting < len(own) / 2:
        raise ValueError(
            f"{path}: only {fitting} of the {len(own)} tensors of the recipe's network are in this model; "
            "name a model of the same system and width"
        )
    return network


def _spec_of_start(path: Path) -> ModelSpec | None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file to start from (model.init)")
    return spec_of(path)
