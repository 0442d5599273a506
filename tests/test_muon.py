"""Muon: orthogonal updates for dense layers, AdamW for the rest."""

import pytest

pytest.importorskip("torch")
import torch
from torch import nn

from featherpose.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix).float()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5 and values.max() < 1.3
    assert torch.allclose(u.mT @ found @ v.mT, torch.diag(torch.diag(u.mT @ found @ v.mT)), atol=0.1)


def test_a_matrix_of_zeros_stays_zero():
    assert orthogonal(torch.zeros(4, 6)).abs().max() == 0


def parameters():
    generator = torch.Generator().manual_seed(1)
    dense = nn.Parameter(torch.randn(6, 4, 1, 1, generator=generator))
    vector = nn.Parameter(torch.randn(5, generator=generator))
    for parameter in (dense, vector):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return dense, vector


def test_the_first_step_by_hand():
    dense, vector = parameters()
    groups = [
        {"params": [dense], "lr": 0.1, "weight_decay": 0.5, "muon": True},
        {"params": [vector], "lr": 0.1, "weight_decay": 0.0, "muon": False},
    ]
    before, gradient = dense.detach().clone(), dense.grad.flatten(1)
    expected_vector = vector.detach() - 0.1 * vector.grad.sign()  # the first step of Adam
    Muon(groups).step()
    # Nesterov's momentum of the first step is the gradient times a number, which the iteration does not see.
    update = orthogonal(gradient).float().view_as(dense)
    expected = before * (1 - 0.1 * 0.5) - 0.2 * 0.1 * 6**0.5 * update
    assert torch.allclose(dense, expected, atol=3e-3)
    assert torch.allclose(vector, expected_vector, atol=1e-5)


def test_the_second_step_has_nesterovs_momentum():
    dense, _ = parameters()
    optimizer = Muon([{"params": [dense], "lr": 0.1, "weight_decay": 0.0, "muon": True}])
    first = dense.grad.clone()
    optimizer.step()
    before, second = dense.detach().clone(), torch.randn(dense.shape, generator=torch.Generator().manual_seed(3))
    dense.grad = second.clone()
    optimizer.step()
    momentum = 0.95 * (0.05 * first) + 0.05 * second
    ahead = 0.05 * second + 0.95 * momentum
    expected = before - 0.2 * 0.1 * 6**0.5 * orthogonal(ahead.flatten(1)).float().view_as(dense)
    assert torch.allclose(dense, expected, atol=3e-3)
    assert not torch.allclose(dense, before - 0.2 * 0.1 * 6**0.5 * orthogonal(second.flatten(1)).view_as(dense), atol=6e-3)


def test_updates_are_as_large_as_adamw_s():
    generator = torch.Generator().manual_seed(2)
    dense = nn.Parameter(torch.zeros(96, 48, 1, 1))
    dense.grad = 1e-3 * torch.randn(dense.shape, generator=generator)
    Muon([{"params": [dense], "lr": 1.0, "weight_decay": 0.0, "muon": True}]).step()
    assert 0.15 < dense.detach().square().mean().sqrt() < 0.25


def test_a_layer_without_a_gradient_stays():
    dense = nn.Parameter(torch.ones(4, 4, 1, 1))
    Muon([{"params": [dense], "lr": 1.0, "weight_decay": 0.1, "muon": True}]).step()
    assert torch.equal(dense.detach(), torch.ones(4, 4, 1, 1))
