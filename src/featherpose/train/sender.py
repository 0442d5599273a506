"""Batches from the CPU's memory to the device."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import torch
from torch import Tensor

from featherpose.data.crew import HELD, Crew


class Sender:
    """Arrays to tensors on a device; to CUDA on a stream of its own, so that a copy runs beside the step before it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._copies: list[torch.cuda.Event] = []
        self.pinned: list[Crew] = []

    def pin(self, crew: Crew) -> None:
        """Keeps the memory of a crew where a GPU can read it by itself; a step then costs this side no copy."""
        if self._stream is None or crew in self.pinned:
            return
        memory = np.frombuffer(crew.memory, np.uint8)
        code = int(torch.cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0))
        if code:
            warnings.warn(f"{memory.nbytes >> 20} MiB of batches could not be pinned (CUDA error {code}): slower", stacklevel=2)
        else:
            self.pinned.append(crew)

    def unpin(self) -> None:
        """Lets go of the memory of all crews, when it is not read any more."""
        while self.pinned:
            memory = np.frombuffer(self.pinned.pop().memory, np.uint8)
            with contextlib.suppress(RuntimeError):  # after a broken step nothing works on the device
                self._stream.synchronize()
                torch.cuda.cudart().cudaHostUnregister(memory.ctypes.data)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """The arrays on the device. Returns when the copies begun HELD - 1 calls ago are over: a loader writes over those."""
        tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
        if self._stream is None:
            return {name: tensor.to(self.device) for name, tensor in tensors.items()}
        with torch.cuda.stream(self._stream):
            tensors = {
                name: (tensor if tensor.is_pinned() else tensor.pin_memory()).to(self.device, non_blocking=True)
                for name, tensor in tensors.items()
            }
            self._copies.append(self._stream.record_event())
        step = torch.cuda.current_stream(self.device)
        step.wait_event(self._copies[-1])
        for tensor in tensors.values():
            tensor.record_stream(step)
        if len(self._copies) >= HELD:
            self._copies.pop(0).synchronize()
        return tensors
