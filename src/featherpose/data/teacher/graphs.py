"""Graphs of other projects: ONNX by onnxruntime, OpenVINO IR by openvino, TFLite by LiteRT, a batch in, arrays out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LOG_ERRORS_ONLY = 3
"""onnxruntime's level; its warnings speak to authors of graphs."""


def open_graph(path: str | Path, threads: int = 1, *, bf16: bool = False):
    """The graph of a .onnx, .xml or .tflite file: `input_shape`, `input_dtype`, `output_shapes`, `metadata`, `run(batch)`.

    Shapes are tuples with None where a size is free. bf16: OpenVINO may compute in bfloat16 where the CPU has it. Raises
    FileNotFoundError, ValueError for a file that is no graph with one input, ImportError without the library that runs it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file")
    graphs = {".onnx": OnnxGraph, ".xml": OpenVinoGraph, ".tflite": TfliteGraph}
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


class TfliteGraph:
    """A TFLite file in LiteRT. Quantised inputs are fed and quantised outputs given as the numbers they stand for.

    Outputs of four axes are given as (B, K, H, W): TFLite has the channels last, unless a converter kept another order,
    which is seen from the joints being fewer than the cells of a side.
    """

    def __init__(self, path: Path, threads: int, bf16: bool) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                f"{path}: running a .tflite model needs LiteRT (pip install 'featherpose[tflite]')", name=error.name
            ) from error
        try:
            self._interpreter = Interpreter(model_content=path.read_bytes(), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path}: not a readable TFLite file, or a truncated one ({reason})") from error
        inputs = self._interpreter.get_input_details()
        _check_one_input(path, inputs)
        self._input, self._outputs = inputs[0], self._interpreter.get_output_details()
        self.metadata: dict[str, str] = {}
        self.input_shape = tuple(int(v) for v in self._input["shape"])
        self.input_dtype = np.uint8 if _takes_pixels(path, self._input) else np.float32
        shapes = [tuple(int(v) for v in output["shape"]) for output in self._outputs]
        self._last = [len(shape) == 4 and shape[3] < min(shape[1:3]) for shape in shapes]
        self.output_shapes = [
            (shape[0], shape[3], *shape[1:3]) if last else shape for shape, last in zip(shapes, self._last, strict=True)
        ]

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Every output for one input array."""
        self._interpreter.set_tensor(self._input["index"], _stored(batch, self._input))
        self._interpreter.invoke()
        found = []
        for output, last in zip(self._outputs, self._last, strict=True):
            values = _meant(self._interpreter.get_tensor(output["index"]), output)
            found.append(values.transpose(0, 3, 1, 2) if last else values)
        return found


NORMALISED = (-2.0, 2.5)
"""What a picture less ImageNet's mean, by its deviation, reaches at least: -2.12 to 2.64."""


def _takes_pixels(path: Path, tensor: dict) -> bool:
    """Whether an input is 0..255 itself; ValueError where it is neither that nor wide enough for normalised pictures."""
    scale, zero = tensor["quantization"]
    if not scale:
        return tensor["dtype"] == np.uint8
    bounds = np.iinfo(tensor["dtype"])
    low, high = ((bound - zero) * scale for bound in (bounds.min, bounds.max))
    if tensor["dtype"] == np.uint8 and (low, high) == (0, 255):
        return True
    if low > NORMALISED[0] or high < NORMALISED[1]:
        raise ValueError(
            f"{path}: its quantised input holds {low:.2f} to {high:.2f}, which is neither pixels (0 to 255) nor a picture less "
            "ImageNet's mean, by its deviation (-2.1 to 2.6), so what it was trained with is not known"
        )
    return False


def _stored(values: np.ndarray, tensor: dict) -> np.ndarray:
    """Numbers as a TFLite tensor stores them: quantised if it is."""
    scale, zero = tensor["quantization"]
    if scale:
        bounds = np.iinfo(tensor["dtype"])
        values = np.clip(np.rint(values / scale + zero), bounds.min, bounds.max)
    return values.astype(tensor["dtype"])


def _meant(values: np.ndarray, tensor: dict) -> np.ndarray:
    """What the numbers of a TFLite tensor stand for."""
    scale, zero = tensor["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def _sizes(port) -> tuple[int | None, ...]:
    return tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())


def _check_one_input(path: Path, inputs: list) -> None:
    if len(inputs) != 1:
        raise ValueError(f"{path}: a teacher takes one picture, this graph has {len(inputs)} inputs")
