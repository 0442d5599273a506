"""Another project's network as a torch module gives what OpenVINO gives, for any batch."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
openvino = pytest.importorskip("openvino")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from featherpose.data.teacher.graphs import open_graph  # noqa: E402
from featherpose.skeletons import COCO17  # noqa: E402
from featherpose.train.imitation import _CpuGraph, _DeviceGraph  # noqa: E402
from featherpose.train.ir_network import heatmap_network  # noqa: E402

PP_TINYPOSE = Path(__file__).parents[2] / "shared" / "peers" / "pp_tinypose_256x192" / "model.xml"


class Small(nn.Module):
    """Every operation that is known: two branches, a shuffle of channels, both ways of resizing."""

    def __init__(self, joints=17):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2, bias=False)
        self.pointwise = nn.Conv2d(4, 4, 1)
        self.out = nn.Conv2d(8, joints, 1)
        self.gain = nn.Parameter(torch.rand(1, 8, 1, 1))

    def forward(self, x):
        high = self.stem(x).relu()
        low = self.grouped(F.hardswish(self.depthwise(high)))
        high = high + F.interpolate(low, scale_factor=2, mode="nearest")
        high = high * F.interpolate(low, size=high.shape[2:], mode="bilinear", align_corners=True).sigmoid()
        first, second = high.chunk(2, dim=1)
        joined = torch.cat([first, self.pointwise(second)], dim=1)
        batch, channels, height, width = joined.shape
        mixed = joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(joined.shape)
        return self.out(mixed * self.gain) + 0.5


def write_ir(folder, network, size=(32, 24)):
    """The network as an IR of one picture, in half precision, as PaddleDetection's are."""
    torch.manual_seed(3)
    torch.onnx.export(network.eval(), (torch.zeros(1, 3, *size),), folder / "net.onnx", dynamo=True, verbose=False)
    openvino.save_model(openvino.convert_model(folder / "net.onnx"), folder / "net.xml")
    return folder / "net.xml"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(3)
    return write_ir(tmp_path_factory.mktemp("ir"), Small())


def assert_same(path, size, atol):
    network, graph = heatmap_network(path).eval(), open_graph(path)
    assert network.input_size == size
    x = np.random.default_rng(0).normal(size=(3, 3, size[1], size[0])).astype(np.float32)
    with torch.no_grad():
        plain, last = (network(torch.from_numpy(x).contiguous(memory_format=f)) for f in
                       (torch.contiguous_format, torch.channels_last))  # fmt: skip
    wanted = np.concatenate([graph.run(x[i : i + 1])[0] for i in range(3)])
    assert plain.shape == wanted.shape and np.ptp(wanted) > 100 * atol
    np.testing.assert_allclose(plain, wanted, atol=atol)
    np.testing.assert_allclose(last, wanted, atol=atol)
    return network


def test_a_small_network_is_the_same(small):
    network = assert_same(small, (24, 32), 1e-5)
    assert network.joints == 17
    kinds = [module.bias is not None for module in network.convolutions]
    assert len(kinds) == 5 and kinds.count(False) == 1  # biases became the convolutions' own


@pytest.mark.skipif(not PP_TINYPOSE.is_file(), reason="needs ../shared/peers/pp_tinypose_256x192")
def test_pp_tinypose_is_the_same():
    assert_same(PP_TINYPOSE, (192, 256), 1e-5)


def test_pictures_are_shown_to_it_as_to_openvino(small):
    """But for what rounding to whole grey values costs there."""
    cpu = torch.device("cpu")
    pictures = torch.from_numpy(np.random.default_rng(1).uniform(0, 255, (2, 3, 12, 9)).astype(np.float32)).round()
    one, other = (kind(str(small), COCO17, cpu, "off")(pictures) for kind in (_CpuGraph, _DeviceGraph))
    assert one.shape == other.shape == (2, 17, 16, 12)
    assert float(one.std()) > 0.05 and float((one - other).abs().max()) < 0.02


def test_what_cannot_be_run_is_refused(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model file"):
        heatmap_network(tmp_path / "none.xml")
    (tmp_path / "broken.xml").write_text("<net><layers>")
    (tmp_path / "page.xml").write_text("<html/>")
    (tmp_path / "alone.xml").write_bytes(small.read_bytes())
    for name in ("broken", "page", "alone"):
        with pytest.raises(ValueError, match=f"{name}.xml: not a readable OpenVINO model, or its .bin is missing"):
            heatmap_network(tmp_path / f"{name}.xml")
    with pytest.raises(ValueError, match=r"operation '.*' is not known here"):
        heatmap_network(write_ir(tmp_path, nn.Sequential(nn.Conv2d(3, 17, 3), nn.PReLU())))
    with pytest.raises(ValueError, match="gives 5 joints, skeleton 'coco17' has 17"):
        _DeviceGraph(str(write_ir(tmp_path, Small(5))), COCO17, torch.device("cpu"), "off")
