"""Runs ONNX files by onnxruntime, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from featherpose.codecs.movenet import MAPS
from featherpose.spec import SPEC_KEY, ModelSpec

LOG_ERRORS_ONLY = 3
"""onnxruntime's level; its warnings speak to authors of graphs, not to users of models."""


class OnnxBackend:
    """An ONNX pose model with its spec in the metadata; see featherpose.runtime.backends for `run`'s contract."""

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        """threads: for one picture. Raises ValueError for a file that is damaged or no featherpose pose model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = LOG_ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own error classes are not public
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{path}: not a readable ONNX file, or a truncated one ({reason})") from error
        facts = self._session.get_modelmeta().custom_metadata_map
        if SPEC_KEY not in facts:
            raise ValueError(
                f"{path}: this ONNX file is no featherpose pose model (its metadata lacks '{SPEC_KEY}'); "
                "make one with featherpose export"
            )
        try:
            self.spec = ModelSpec.from_json(facts[SPEC_KEY])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        self._check_graph(path)

    def _check_graph(self, path: str | Path) -> None:
        """The graph must take and give what the spec promises, so that `run` need not look."""
        width, height = self.spec.input_size
        inputs = self._session.get_inputs()
        fits = (
            len(inputs) == 1 and inputs[0].type == "tensor(uint8)" and list(inputs[0].shape[1:]) == [height, width, 3]
        )
        if not fits:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ValueError(f"{path}: expected one uint8 input (B, {height}, {width}, 3), found {found}")
        wanted = MAPS if self.spec.outputs == "raw" else ("joints", "pose_score")
        self._outputs = [output.name for output in self._session.get_outputs()]
        missing = [name for name in wanted if name not in self._outputs]
        if missing:
            raise ValueError(
                f"{path}: the graph lacks the outputs {', '.join(missing)}; it has {', '.join(self._outputs)}"
            )
        self._input = inputs[0].name
        self._batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Maps or joints by name for images (B, H, W, 3) uint8 RGB; a graph with a fixed batch is run in parts."""
        if self._batch in (None, len(images)):
            return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: images}), strict=True))
        parts = []
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            padded = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), axis=0)])
            outputs = self._session.run(self._outputs, {self._input: padded})
            parts.append([output[: len(part)] for output in outputs])
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(self._outputs)}
