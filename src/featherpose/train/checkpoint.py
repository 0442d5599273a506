"""Checkpoints: all that a run needs to go on as if it had never stopped, in one safetensors file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

KEY = "featherpose.checkpoint"


def save_checkpoint(
    path: Path, *, network: nn.Module, average: nn.Module | None, optimizer, facts: dict,
    criterion: nn.Module | None = None, adversary: nn.Module | None = None,
) -> None:  # fmt: skip
    """Writes weights, averaged weights, what losses and adversary learned, optimizer state and `facts` (plain values).

    The old file stays until the new one is complete; OSError (no space left, say) leaves it untouched.
    """
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    if average is not None:
        tensors.update({f"average/{name}": value for name, value in average.state_dict().items()})
    if criterion is not None:
        tensors.update({f"criterion/{name}": value for name, value in criterion.state_dict().items()})
    if adversary is not None:
        tensors.update({f"adversary/{name}": value for name, value in adversary.state_dict().items()})
    names = {parameter: name for name, parameter in _parameters(network, criterion, adversary).items()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer/{names[parameter]}/{key}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    temporary = path.with_name(path.name + ".part")
    try:
        save_file(tensors, str(temporary), metadata={KEY: json.dumps(facts)})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path}: the checkpoint could not be written ({error}); the one before, if any, is untouched: "
            "make room and go on with --resume"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _parameters(
    network: nn.Module, criterion: nn.Module | None, adversary: nn.Module | None
) -> dict[str, nn.Parameter]:
    """Parameters by the names that the optimizer's state goes by."""
    named = dict(network.named_parameters())
    for kind, module in (("criterion", criterion), ("adversary", adversary)):
        if module is not None:
            named.update({f"{kind}.{name}": value for name, value in module.named_parameters()})
    return named


def load_checkpoint(
    path: Path, *, network: nn.Module, average: nn.Module | None, optimizer, criterion: nn.Module | None = None,
    adversary: nn.Module | None = None,
) -> dict:  # fmt: skip
    """Puts a checkpoint back into the same kind of objects and returns its `facts`.

    Raises ValueError when the file is not a checkpoint or holds another network.
    """
    facts = read_facts(path)
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)

    def part(prefix: str) -> dict:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    try:
        network.load_state_dict(part("network/"))
        if average is not None:
            average.load_state_dict(part("average/"))
        if criterion is not None:
            criterion.load_state_dict(part("criterion/"))
        if adversary is not None:
            adversary.load_state_dict(part("adversary/"))
    except RuntimeError as error:
        raise ValueError(f"{path}: the checkpoint holds another network than the recipe describes ({error})") from error
    states = part("optimizer/")
    parameters = _parameters(network, criterion, adversary)
    for name, value in states.items():
        parameter, key = name.rsplit("/", 1)
        target = parameters[parameter]
        value = value.to(target.device)  # the fused optimizer wants its step counters there too
        if value.ndim == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        optimizer.state[target][key] = value
    return facts


def read_facts(path: Path) -> dict:
    """The plain values of a checkpoint; ValueError when the file is missing, truncated or something else."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no checkpoint to resume from; start without --resume")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error})") from error
    if KEY not in metadata:
        raise ValueError(f"{path}: a safetensors file, but not a checkpoint of featherpose")
    return json.loads(metadata[KEY])
