"""What only a GPU runs: copies beside the step, a recorded teacher, a whole training fed by processes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from tiny_training import log_lines, write_task  # noqa: E402

from featherpose.data.crew import Crew  # noqa: E402
from featherpose.train.config import read_recipe  # noqa: E402
from featherpose.train.loop import train  # noqa: E402
from featherpose.train.sender import Sender  # noqa: E402

DEVICE = torch.device("cuda", 0)


def example(epoch, position):
    return {"value": np.full((64, 1024), 100 * epoch + position, np.float32)}


def test_batches_arrive_whole_while_the_device_is_busy():
    crew, sender = Crew(example, batch=8, count=2), Sender(DEVICE)
    sender.pin(crew)
    busy, arrived = torch.rand(4096, 4096, device=DEVICE), []
    try:
        for batch in crew.batches(1, [8 * number for number in range(20)]):
            value = sender(batch)["value"]
            for _ in range(20):
                busy = torch.tanh(busy @ busy)
            arrived.append(value.mean(dim=(1, 2)).clone())
        found = torch.cat(arrived).tolist()
    finally:
        crew.close()
        sender.unpin()
    assert found == [100 + i for i in range(160)]


def test_a_recorded_teacher_says_what_the_network_says(tmp_path):
    pytest.importorskip("openvino")
    from test_ir_network import Small, write_ir

    from featherpose.skeletons import COCO17
    from featherpose.train.imitation import _DeviceGraph

    path = str(write_ir(tmp_path, Small()))
    graph, other = (_DeviceGraph(path, COCO17, device, "off") for device in (DEVICE, torch.device("cpu")))
    for count in (8, 3, 12, 12):
        pictures = torch.rand(count, 3, 64, 48) * 255
        with torch.no_grad():
            found, wanted = graph(pictures.to(DEVICE)).cpu(), other(pictures)
        torch.testing.assert_close(found, wanted, atol=1e-2, rtol=0)  # tf32
        assert wanted.std() > 0.05


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_a_training_fed_by_processes_learns(tmp_path, compiled):
    task = write_task(tmp_path)
    overrides = ["train.processes=2", "train.draw=device", f"train.compile={compiled}", "data.0.repeat=20"]
    train(read_recipe(task, overrides), tmp_path / "run")
    losses = [line["loss"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    assert losses[-1] < losses[0] / 1.5
