"""Several processes under torchrun: who am I, and how is a network shared."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import torch
from torch import nn

LEAVE_SECONDS = 0.2
"""Time for other threads to finish before a group is closed."""


@dataclass(frozen=True)
class Process:
    """One of `world` processes; rank 0 validates and writes."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


def join(device: str) -> Process:
    """Joins the group that torchrun started (gloo on the CPU, nccl on CUDA), or stands alone.

    device: as in `choose_device`. ValueError when a named device is not there.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = choose_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if world > 1 and not torch.distributed.is_initialized():
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        # Flags travel on the CPU, so that asking for them never waits for the GPU.
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    return Process(rank=rank, world=world, device=chosen)


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device of a recipe's `train.device`; "auto" and "cuda" take the GPU of this process. ValueError."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"train.device must be cpu, cuda, cuda:0, mps or auto; got '{name}'")
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index >= count:
            raise ValueError(f"train.device is '{name}', but torch sees {count} CUDA devices here; use 'cpu' or 'auto'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("train.device is 'mps', but torch has no Metal device here; use 'cpu' or 'auto'")
    return device


def leave(process: Process) -> None:
    """Closes the group that `join` opened."""
    if process.world > 1:
        # Gloo's thread lets go of the last flag with Python's lock, which is held while that thread is ended: without a pause
        # some runs never return (torch 2.13).
        time.sleep(LEAVE_SECONDS)
        torch.distributed.destroy_process_group()


def share(learner: nn.Module, process: Process) -> nn.Module:
    """The module as it is to be called in training: averaged gradients where there are several processes.

    learner: returns the loss itself, so that parameters which no loss reaches are found.
    """
    if process.world == 1:
        return learner
    devices = [process.device.index] if process.device.type == "cuda" else None
    # static_graph: those parameters are looked for in the first step only.
    return nn.parallel.DistributedDataParallel(learner, device_ids=devices, static_graph=True)


def average_gradients(module: nn.Module, process: Process) -> None:
    """For what stands outside `share`: the mean of every process' gradients, in each."""
    if process.world == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= process.world


def same_buffers(module: nn.Module, process: Process) -> None:
    """Gives every process the first one's buffers, batch norms' statistics above all, as `share` does in its forward pass."""
    if process.world == 1:
        return
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
    torch.distributed.broadcast(flat, 0)
    for buffer, values in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view_as(buffer))


def wait(process: Process) -> None:
    """Returns when every process has come here."""
    any_of(False, process)


def any_of(flag: bool, process: Process) -> bool:
    """True in every process when it is true in one."""
    if process.world == 1:
        return flag
    value = torch.tensor([float(flag)])
    torch.distributed.all_reduce(value)
    return bool(value.item() > 0)
