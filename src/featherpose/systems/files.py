"""A trained network as one file: weights in safetensors, the spec in its header.

The header's key is spec.SPEC_KEY; whoever reads the file rebuilds the network from `spec.network`, nothing else is
needed.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from featherpose.skeletons import did_you_mean
from featherpose.spec import SPEC_KEY, ModelSpec
from featherpose.systems import build_network


def save_model(path: str | Path, network: nn.Module, spec: ModelSpec, *, half: bool = False) -> None:
    """Writes network and spec to `path`: first under a temporary name beside it, then renamed, so never a half file.

    half: the weights of convolutions and dense layers are stored as float16, half the file; reading makes float32 of
    them again.
    ValueError unless the name ends in .safetensors; OSError when the disk is full or the folder is missing.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{path}: a model's file name must end in .safetensors")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder '{path.parent}' to write the model to")
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    if half:
        state = {key: value.half() if value.ndim > 1 else value for key, value in state.items()}
    content = save(state, metadata={SPEC_KEY: spec.to_json()})
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_network(path: str | Path) -> tuple[nn.Module, ModelSpec]:
    """The network of a file that `save_model` wrote, ready to run (eval mode, on the CPU, float32), and its spec.

    ValueError in one sentence for a file that is no safetensors, is truncated, holds other weights or another task.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file")
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no iterator of its own)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or a truncated one ({error})") from error
    if SPEC_KEY not in facts:
        raise ValueError(
            f"{path}: this safetensors file is no featherpose model (its header lacks '{SPEC_KEY}'); weights of a "
            "classifier can initialise a training (key `init` of a recipe)"
        )
    try:
        spec = ModelSpec.from_json(facts[SPEC_KEY])
        if not spec.network:
            raise ValueError("the spec does not say which network the weights belong to (key 'network')")
        network = build_network(spec.network, len(spec.skeleton))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    _fill(network, state, path)
    return network.eval(), spec


def spec_of(path: str | Path) -> ModelSpec | None:
    """The spec in a file that `save_model` wrote, without its weights; None for another safetensors file.

    ValueError for what is no safetensors file, or holds another task.
    """
    try:
        with safe_open(str(path), framework="np") as file:
            facts = file.metadata() or {}
        return ModelSpec.from_json(facts[SPEC_KEY]) if SPEC_KEY in facts else None
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable safetensors file or model ({error})") from error


@torch.no_grad()
def _fill(network: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Copies the file's tensors into the network; ValueError for the first that is missing, too many or ill-shaped."""
    wanted = network.state_dict()
    for key in wanted:
        if key not in state:
            raise ValueError(f"{path}: the tensor '{key}' is missing, though its spec's network has it")
    for key, value in state.items():
        if key not in wanted:
            raise ValueError(f"{path}: its spec's network has no tensor '{key}'{did_you_mean(key, wanted)}")
        if value.shape != wanted[key].shape:
            shapes = f"{tuple(value.shape)}, where its spec's network has {tuple(wanted[key].shape)}"
            raise ValueError(f"{path}: the tensor '{key}' is {shapes}")
        wanted[key].copy_(value)
