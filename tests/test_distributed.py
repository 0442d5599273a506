"""Several processes under torchrun: one run, equal weights everywhere, one writer."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
import torch
from safetensors.torch import load_file
from tiny_training import log_lines, write_task

from featherpose.skeletons import load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import save_model
from featherpose.train.config import read_recipe
from featherpose.train.distributed import Process, any_of, choose_device
from featherpose.train.loop import train

SCRIPT = """
import os, sys
from safetensors.torch import save_file
from featherpose.cli import run
from featherpose.train.distributed import same_buffers
from featherpose.train.loop import Run

go = Run.go

def go_and_keep(self, *arguments):  # what each process has in the end
    path = go(self, *arguments)
    parameters = [*self.network.named_parameters(), *self.adversary.named_parameters("adversary")]
    for buffer in self.network.buffers():  # as if each had statistics of its own
        buffer += int(os.environ["RANK"])
    same_buffers(self.network, self.process)
    statistics = {f"buffer.{name}": value for name, value in self.network.named_buffers() if value.is_floating_point()}
    weights = statistics | {name: value.detach().contiguous() for name, value in parameters}
    save_file(weights, sys.argv[1] + f"/rank{os.environ['RANK']}.safetensors")
    return path

Run.go = go_and_keep
sys.exit(run(sys.argv[2:]))
"""


def test_a_cpu_is_always_there_and_other_devices_are_told():
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="got 'gpu'"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        assert choose_device("auto") == torch.device("cpu")
        with pytest.raises(ValueError, match=r"train\.device is 'cuda', but torch sees 0 CUDA devices"):
            choose_device("cuda")


def test_a_process_alone_asks_nobody():
    alone = Process(rank=0, world=1, device=torch.device("cpu"))
    assert any_of(True, alone) and not any_of(False, alone) and alone.first


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_end_with_equal_weights_and_one_folder(tmp_path):
    """With frozen early layers, and heads and levels that no loss reaches: neither may make a process wait for ever."""
    task = write_task(tmp_path, photos=16)
    recipe = read_recipe(task)
    init = tmp_path / "first.safetensors"
    torch.manual_seed(5)
    spec = ModelSpec(name="first", skeleton=load_skeleton(recipe.model.skeleton), input_size=(64, 64),
                     codec={"name": "movenet"}, network=recipe.model.network)  # fmt: skip
    save_model(init, build_network(recipe.model.network, 3), spec)

    unused = "losses={heatmap=1, center=1}"  # offset and regression
    pasting = ["augment.paste_parts=1.0", "augment.paste_adversary=true"]
    overrides = [f"model.init='{init}'", "train.freeze=4", "train.optimizer=muon", unused, *pasting]
    options = [option for override in overrides for option in ("--set", override)]
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        *torchrun,
        str(tmp_path / "script.py"),
        str(tmp_path),
        "train",
        str(task),
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240
    )
    assert done.returncode == 0, done.stderr

    one, other = load_file(tmp_path / "rank0.safetensors"), load_file(tmp_path / "rank1.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["adversary.choose.2.weight"].any()  # 0 at first
    assert sum(name.startswith("buffer.") for name in one) > 20
    first = load_file(init)
    assert not torch.equal(one["heads.heatmap.out.weight"], first["heads.heatmap.out.weight"])
    assert torch.equal(one["backbone.stem.conv.weight"], first["backbone.stem.conv.weight"])

    # 16 photos, 2 processes of 4: 2 steps an epoch, each line once
    start = log_lines(tmp_path / "run", "start")
    assert [(line["world"], line["batches"]) for line in start] == [(2, 4)]
    assert [line["step"] for line in log_lines(tmp_path / "run", "validation")] == [2, 4]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) <= 2  # add_image's time stamp may open a second file
    assert done.stderr.count("model: ") == 1

    # the batches of one process alone would be others
    with pytest.raises(ValueError, match="was written by 2 processes, this run has 1"):
        train(read_recipe(task, [*overrides, "data.0.repeat=1"]), tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["train"]["freeze"] == 4
