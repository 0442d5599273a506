"""Checkpoints: whole or not at all, and nothing else is taken for one."""

import errno

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from featherpose.train import checkpoint
from featherpose.train.checkpoint import load_checkpoint, read_facts, save_checkpoint


def parts(seed):
    """A small network after one step, its average and its optimizer."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    average = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    network(torch.rand(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    return {"network": network, "average": average, "optimizer": optimizer}


def states(objects):
    optimizer = [value for state in objects["optimizer"].state.values() for value in state.values()]
    networks = (*objects["network"].state_dict().values(), *objects["average"].state_dict().values())
    return [*networks, *optimizer]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


def test_loading_gives_back_what_was_saved(path):
    saved, loaded = parts(0), parts(1)
    assert not all(torch.equal(a, b) for a, b in zip(states(saved), states(loaded), strict=True))
    save_checkpoint(path, **saved, facts={"step": 3, "best": 0.1})
    assert load_checkpoint(path, **loaded) == {"step": 3, "best": 0.1}
    assert len(states(saved)) == 7 + 7 + 3 * 4  # buffers and weights twice; step and two moments of four parameters
    assert all(torch.equal(a, b) for a, b in zip(states(saved), states(loaded), strict=True))
    moment = next(iter(loaded["optimizer"].state.values()))["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)  # as the fused step expects it


def test_without_averaging_there_is_no_average(path):
    saved, loaded = ({**parts(seed), "average": None} for seed in (0, 1))
    save_checkpoint(path, **saved, facts={})
    load_checkpoint(path, **loaded)
    assert not [name for name in load_file(path) if name.startswith("average/")]
    one, other = (made["network"].state_dict() for made in (saved, loaded))
    assert all(torch.equal(one[name], other[name]) for name in one)


class Losses(nn.Module):
    """Two learned numbers, as of losses.Criterion."""

    def __init__(self, value):
        super().__init__()
        self.p = nn.ParameterDict({name: nn.Parameter(torch.tensor(value)) for name in ("heatmap", "offset")})


def test_what_the_losses_learned_is_saved_with_its_optimizer_state(path):
    def with_losses(seed, value):
        objects = parts(seed)
        losses = Losses(value)
        objects["optimizer"].add_param_group({"params": list(losses.parameters())})
        sum(p**2 for p in losses.parameters()).backward()
        objects["optimizer"].step()
        return {**objects, "criterion": losses}

    saved, loaded = with_losses(0, 1.0), with_losses(1, 3.0)
    save_checkpoint(path, **saved, facts={})
    load_checkpoint(path, **loaded)
    assert len(states(saved)) == 7 + 7 + 3 * 6
    assert all(torch.equal(a, b) for a, b in zip(states(saved), states(loaded), strict=True))
    assert torch.equal(loaded["criterion"].p["offset"], saved["criterion"].p["offset"])


FAILURES = {
    "no space left": OSError(errno.ENOSPC, "No space left on device"),
    "no space left, told by safetensors": checkpoint.SafetensorError("I/O error: No space left on device"),
}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_else(path, monkeypatch, error):
    save_checkpoint(path, **parts(0), facts={"step": 1})
    before = path.read_bytes()

    def half(tensors, name, metadata):
        with open(name, "wb") as file:
            file.write(before[:100])
        raise error

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(OSError, match=r"checkpoint\.safetensors: .*No space left.*untouched.*--resume"):
        save_checkpoint(path, **parts(1), facts={"step": 2})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_second_ctrl_c_while_writing_leaves_the_old_checkpoint_and_nothing_else(path, monkeypatch):
    save_checkpoint(path, **parts(0), facts={"step": 1})
    save = checkpoint.save_file

    def interrupted(*arguments, **options):
        save(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, **parts(1), facts={"step": 2})
    assert read_facts(path) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_no_checkpoint_is_refused(path):
    with pytest.raises(ValueError, match="no checkpoint to resume from; start without --resume"):
        read_facts(path)
    save_checkpoint(path, **parts(0), facts={})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read_facts(path)
    path.write_text("these are not weights")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read_facts(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read_facts(path)
    save_file({"weight": torch.zeros(3)}, str(path))
    with pytest.raises(ValueError, match="a safetensors file, but not a checkpoint of featherpose"):
        read_facts(path)


def test_another_network_is_refused(path):
    save_checkpoint(path, **parts(0), facts={})
    other = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    with pytest.raises(ValueError, match="holds another network than the recipe describes"):
        load_checkpoint(path, network=other, average=None, optimizer=torch.optim.AdamW(other.parameters()))
