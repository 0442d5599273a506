"""TFLite files read as data: numbers by hand, layouts, and files that are none."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite", reason="needs the package 'tflite' (extra 'train')")

from tflite_writer import TfliteWriter

from featherpose.importers.tflite_file import read_tflite

OFFICIAL = Path(__file__).parents[2] / "shared" / "peers" / "movenet_lightning_int8.tflite"


def one_operator(path, kind="CONV_2D", weight=None, **facts):
    """A graph of one convolution of a (1, 4, 4, C) picture, its weight stored as given."""
    writer = TfliteWriter()
    weight = np.ones((1, 1, 1, 2), "f4") if weight is None else weight
    picture = writer.tensor("image", (1, 4, 4, 2))
    options = {key: facts.pop(key) for key in ("stride", "padding", "activation") if key in facts}
    stored = writer.tensor("weight", numbers=weight, **facts)
    if weight.dtype == np.float16:
        stored = writer.operator("DEQUANTIZE", [stored], "weight32", weight.shape)
    bias = writer.tensor("bias", numbers=np.array([10, 20], "i4"), scale=0.5, zero_point=0)
    output = writer.operator(kind, [picture, stored, bias], "out", (1, 4, 4, 2), **options)
    return writer.write(path, [picture], [output])


# stored (2, 1, 1, 2), how it is scaled, what it means
NUMBERS = {
    "float32": (np.array([[1, -2], [3, 4]], "f4"), {}, [[1, -2], [3, 4]]),
    "float16": (np.array([[0.5, -2], [3, 4]], "f2"), {}, [[0.5, -2], [3, 4]]),
    "uint8 per tensor": (np.array([[0, 128], [129, 255]], "u1"), {"scale": 0.5, "zero_point": 128},
                         [[-64, 0], [0.5, 63.5]]),
    "int8 per channel": (np.array([[-128, 127], [1, 2]], "i1"), {"scale": [0.5, 2.0], "zero_point": [0, 0]},
                         [[-64, 63.5], [2, 4]]),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_weights_come_back_as_the_numbers_they_mean(name, tmp_path):
    stored, facts, meant = NUMBERS[name]
    graph = read_tflite(one_operator(tmp_path / "a.tflite", weight=stored.reshape(2, 1, 1, 2), **facts))
    weight, bias = graph.weight_and_bias(graph.convolutions()[0])
    np.testing.assert_array_equal(weight[:, :, 0, 0], meant)
    np.testing.assert_array_equal(bias, [5, 10])
    assert weight.dtype == np.float32


def test_int8_depthwise_weights_have_their_scales_on_the_last_axis(tmp_path):
    stored = np.array([[1, 2], [3, 4]], "i1").reshape(1, 2, 1, 2)  # rows of the kernel, then channels
    path = one_operator(tmp_path / "a.tflite", "DEPTHWISE_CONV_2D", stored, scale=[10, 100], zero_point=[0, 0], axis=3)
    graph = read_tflite(path)
    weight, _ = graph.weight_and_bias(graph.convolutions()[0])
    assert weight.shape == (2, 1, 2, 1)  # channels, 1, height, width
    np.testing.assert_array_equal(weight[:, 0, :, 0], [[10, 30], [200, 400]])


def test_dense_weights_keep_height_and_width_apart(tmp_path):
    stored = np.arange(2 * 3 * 1 * 2, dtype="f4").reshape(2, 3, 1, 2)  # (Cout, height 3, width 1, Cin)
    graph = read_tflite(one_operator(tmp_path / "a.tflite", weight=stored))
    weight, _ = graph.weight_and_bias(graph.convolutions()[0])
    assert weight.shape == (2, 2, 3, 1)
    np.testing.assert_array_equal(weight[1, 0, :, 0], [6, 8, 10])


def test_operators_come_in_order_with_their_options(tmp_path):
    path = one_operator(tmp_path / "a.tflite", weight=np.ones((2, 1, 1, 2), "f2"), stride=2, activation="relu6")
    graph = read_tflite(path)
    assert [operator.name for operator in graph.operators] == ["DEQUANTIZE", "CONV_2D"]
    assert graph.operators[1].options == {
        "activation": "relu6", "padding": "same", "stride_wh": (2, 2), "dilation_wh": (1, 1)
    }  # fmt: skip
    assert [graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)] == ["image", "out"]
    assert graph.producers[graph.outputs[0]].name == "CONV_2D"
    assert graph.constant(graph.inputs[0]) is None


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a.tflite"
    for content in (b"", b"TFL3", b"# a text file\n" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a TFLite file"):
            read_tflite(path)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    whole = one_operator(tmp_path / "a.tflite", weight=np.ones((2, 5, 5, 2), "f4")).read_bytes()
    path = tmp_path / "b.tflite"
    for size in (8, 12, 40, len(whole) // 4, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"b\.tflite: the TFLite file is truncated or damaged"):
            read_tflite(path)


def test_damaged_bytes_end_in_one_sentence_or_in_other_numbers(tmp_path):
    whole = one_operator(tmp_path / "a.tflite").read_bytes()
    path, rng, refused = tmp_path / "b.tflite", np.random.default_rng(0), 0
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(8, len(whole))] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_tflite(path)
        except ValueError as error:
            refused += str(error).startswith(str(path))
    assert refused > 30


def test_a_file_without_a_graph_is_refused(tmp_path):
    writer = TfliteWriter()
    x = writer.tensor("x", (1,))
    with pytest.raises(ValueError, match="holds no graph"):
        read_tflite(writer.write(tmp_path / "a.tflite", [x], [x], graphs=0))
    with pytest.raises(ValueError, match="empty"):
        read_tflite(writer.write(tmp_path / "b.tflite", [x], [x]))


def test_weights_of_another_size_than_their_shape_are_refused(tmp_path):
    writer = TfliteWriter()
    x = writer.tensor("x", numbers=np.ones(4, "f4"))
    writer.tensors[x] = (writer.tensors[x][0], (5,), *writer.tensors[x][2:])
    y = writer.operator("LOGISTIC", [x], "y", (5,))
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_tflite(writer.write(tmp_path / "a.tflite", [x], [y]))


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="needs ../shared/peers/movenet_lightning_int8.tflite")
def test_the_official_file_has_the_known_numbers():
    graph = read_tflite(OFFICIAL)
    assert len(graph.convolutions()) == 74
    sizes = [sum(values.size for values in graph.weight_and_bias(o)) for o in graph.convolutions()]
    assert sum(sizes) == 2_318_190  # 2,317,974 and the 216 zeros that depthwise layers of neck and heads have as biases
    focus = next(t for t in graph.tensors if t.shape == (48, 48, 1) and t.name.startswith("truediv")).numbers()[:, :, 0]
    y, x = np.mgrid[:48, :48]
    # The table that the centre is multiplied with, in steps of 1/459: docs say 1 / (distance to (24, 24) + 1.8).
    np.testing.assert_allclose(focus, 1 / (np.hypot(y - 24, x - 24) + 1.8), atol=0.0011)


def test_operators_in_a_circle_are_refused(tmp_path):
    writer = TfliteWriter()
    x = writer.tensor("x", (1,))
    late = writer.tensor("late", (1,))
    y = writer.operator("ADD", [late, x], "y", (1,))
    writer.operator("LOGISTIC", [y], "again", (1,))
    code, inputs, _, *rest = writer.operators[-1]
    writer.operators[-1] = (code, inputs, [late], *rest)
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_tflite(writer.write(tmp_path / "a.tflite", [x], [y]))
