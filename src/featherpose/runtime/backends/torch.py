"""Runs featherpose's own .safetensors files by torch: the slow way, for models that are not exported yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class TorchBackend:
    """A network with its spec in the file's header; see featherpose.runtime.backends for `run`'s contract."""

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        """threads: for one picture. ImportError without torch, ValueError for a file that is no featherpose model."""
        try:
            import torch

            from featherpose.systems.files import load_network
        except ImportError as error:
            raise ImportError(
                f"{path}: running a .safetensors model needs torch and safetensors (pip install 'featherpose[train]'); "
                "an exported .onnx model runs without",
                name=error.name,
            ) from error
        network, self.spec = load_network(path)
        if self.spec.outputs != "raw":
            raise ValueError(f"{path}: a .safetensors model gives raw maps, but its spec says '{self.spec.outputs}'")
        self._network = network.to(memory_format=torch.channels_last)
        self._threads = threads

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Maps by name for images (B, H, W, 3) uint8 RGB."""
        import torch

        before = torch.get_num_threads()  # torch has one number for the whole process
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                # (B, H, W, 3) seen as (B, 3, H, W) is channels_last already.
                maps = self._network(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float())
                return {name: value.contiguous().numpy() for name, value in maps.items()}
        finally:
            torch.set_num_threads(before)
