"""Graphs of other projects: ONNX by onnxruntime, OpenVINO IR by openvino, one picture or batch in, arrays out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LOG_ERRORS_ONLY = 3
"""onnxruntime's level; its warnings speak to authors of graphs."""


def open_graph(path: str | Path, threads: int = 1, *, bf16: bool = False):
    """The graph of a .onnx or .xml file: `input_shape`, `input_dtype`, `output_shapes`, `metadata`, `run(batch)`.

    Shapes are tuples with None where a size is free. bf16: OpenVINO may compute in bfloat16 where the CPU has it. Raises
    FileNotFoundError, ValueError for a file that is no graph with one input, ImportError without the library that runs it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file")
    graphs = {".onnx": OnnxGraph, ".xml": OpenVinoGraph}
    if path.suffix.lower() not in graphs:
        raise ValueError(f"{path}: '{path.suffix}' is no graph that can be run here; known: {', '.join(graphs)}")
    return graphs[path.suffix.lower()](path, threads, bf16)


class OnnxGraph:
    """An ONNX file in onnxruntime, on the CPU."""

    def __init__(self, path: Path, threads: int, bf16: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = LOG_ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own error classes are not public
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path}: not a readable ONNX file, or a truncated one ({reason})") from error
        inputs = self._session.get_inputs()
        _check_one_input(path, [i.name for i in inputs])
        self._name = inputs[0].name
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.input_shape = tuple(v if isinstance(v, int) else None for v in inputs[0].shape)
        self.input_dtype = np.uint8 if inputs[0].type == "tensor(uint8)" else np.float32
        outputs = self._session.get_outputs()
        self.output_shapes = [tuple(v if isinstance(v, int) else None for v in o.shape) for o in outputs]

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Every output for one input array."""
        return self._session.run(None, {self._name: batch})


class OpenVinoGraph:
    """An OpenVINO IR (.xml with its .bin beside it) on the CPU."""

    def __init__(self, path: Path, threads: int, bf16: bool) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ImportError(
                f"{path}: running an OpenVINO model needs openvino (pip install 'featherpose[openvino]')",
                name=error.name or "openvino",
            ) from error
        # Left alone it would take bf16 where the CPU has it, which moves joints by pixels; pinned,
        # several processes would share one core.
        precision = "bf16" if bf16 else "f32"
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise ValueError(f"{path}: not a readable OpenVINO model, or its .bin is missing ({reason})") from error
        _check_one_input(path, compiled.inputs)
        self._request = compiled.create_infer_request()
        self._outputs = len(compiled.outputs)
        self.metadata: dict[str, str] = {}
        self.input_shape = _sizes(compiled.inputs[0])
        self.input_dtype = np.uint8 if compiled.inputs[0].element_type.get_type_name() == "u8" else np.float32
        self.output_shapes = [_sizes(output) for output in compiled.outputs]

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Every output for one input array; copies, as the request reuses its memory."""
        self._request.infer([batch])
        return [self._request.get_output_tensor(i).data.copy() for i in range(self._outputs)]


def _sizes(port) -> tuple[int | None, ...]:
    return tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())


def _check_one_input(path: Path, inputs: list) -> None:
    if len(inputs) != 1:
        raise ValueError(f"{path}: a teacher takes one picture, this graph has {len(inputs)} inputs")
