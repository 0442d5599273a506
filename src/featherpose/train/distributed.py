"""Several processes under torchrun: who am I, and how is a network shared."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn


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

    device: "auto" takes CUDA where there is one. ValueError when a named device is not there.
    """
    cuda = torch.cuda.is_available()
    if device.startswith("cuda") and not cuda:
        raise ValueError(f"train.device is '{device}', but torch sees no CUDA device here; use 'cpu' or 'auto'")
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    use_cuda = cuda and device in ("auto", "cuda") or device.startswith("cuda:")
    name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if use_cuda and device in ("auto", "cuda") else device
    chosen = torch.device("cpu" if name == "auto" else name)
    if world > 1 and not torch.distributed.is_initialized():
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Process(rank=rank, world=world, device=chosen)


def share(network: nn.Module, process: Process) -> nn.Module:
    """The network as it is to be called in training: averaged gradients where there are several processes."""
    if process.world == 1:
        return network
    devices = [process.device.index] if process.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)


def wait(process: Process) -> None:
    """Returns when every process has come here."""
    if process.world > 1:
        torch.distributed.barrier()


def any_of(flag: bool, process: Process) -> bool:
    """True in every process when it is true in one."""
    if process.world == 1:
        return flag
    value = torch.tensor([float(flag)], device=process.device)
    torch.distributed.all_reduce(value)
    return bool(value.item() > 0)
