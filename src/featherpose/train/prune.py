"""Pruning: a narrower network out of a trained one, which keeps in every layer the channels that matter most."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from featherpose.skeletons import Skeleton
from featherpose.systems import build_network


def narrowed(
    network: nn.Module, facts: dict, skeleton: Skeleton, losses: Callable[[nn.Module], Iterable[Tensor]]
) -> nn.Module:
    """The network of `facts` (a recipe's `model.network`) with the most important channels of a wider `network`.

    losses: gives the loss of the network it is handed, batch by batch. Layers that are added or multiplied channel by
    channel are pruned together (torch-pruning finds them). Context blocks are left out where `facts` has none. Nothing is
    trained: the result needs that.
    Raises ValueError when `facts` is not the same network with fewer channels.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise ValueError("model.prune needs torch-pruning: pip install 'featherpose[train]'") from error
    slim = build_network(facts, len(skeleton))
    wanted = {name: module.out_channels for name, module in _convolutions(slim)}
    if not len(slim.neck.context):  # blocks that only add to what goes past them
        network.neck.context = slim.neck.context
    mine = {name: module.out_channels for name, module in _convolutions(network)}
    wider = sorted(name for name in wanted.keys() & mine.keys() if wanted[name] > mine[name])
    if wanted.keys() != mine.keys() or wider:
        odd = sorted(wanted.keys() ^ mine.keys()) or wider
        raise ValueError(
            f"model.prune: the trained model cannot be narrowed to the recipe's network, they differ in '{odd[0]}'; "
            "it has to have the same layers, and at least as many channels in each"
        )
    importance = channel_importance(network, losses(network))
    network.cpu().eval()
    graph = _dependencies(network, torch_pruning)
    for name, layer in list(_convolutions(network)):
        surplus = layer.out_channels - wanted[name]
        if surplus <= 0 or layer.groups > 1:
            continue  # depthwise layers follow those before them
        prune = torch_pruning.prune_conv_out_channels
        group = graph.get_pruning_group(layer, prune, idxs=list(range(layer.out_channels)))
        score = sum(
            importance[item.dep.target.module]
            for item in group
            if item.dep.target.module in importance and len(importance[item.dep.target.module]) == layer.out_channels
        )
        if not isinstance(score, Tensor):  # a squeeze, which no norm follows: its weights speak
            score = layer.weight.detach().flatten(1).norm(dim=1)
        weakest = score.argsort()[:surplus]
        group = graph.get_pruning_group(layer, prune, idxs=weakest.tolist())
        keep = torch.ones(layer.out_channels, dtype=torch.bool)
        keep[weakest] = False
        for item in group:  # before its layers shrink
            module = item.dep.target.module
            if module in importance and len(importance[module]) == len(keep):
                importance[module] = importance[module][keep]
        group.prune()
    slim.load_state_dict(network.state_dict())
    return slim


def _dependencies(network: nn.Module, torch_pruning):
    """Which layers' channels hang together. What a map is made into behind its last convolution does not count.

    ValueError for networks that mix channels in a way torch-pruning cannot follow (ShuffleNetV2).
    """
    outputs = []
    handles = [
        module.register_forward_hook(lambda _, __, output: outputs.append(output))
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    try:
        return torch_pruning.DependencyGraph().build_dependency(
            network, torch.zeros(1, 3, 64, 64), output_transform=lambda _: outputs, verbose=False
        )
    except (ArithmeticError, IndexError, RuntimeError) as error:
        raise ValueError(
            "model.prune cannot follow this network's channels (a channel shuffle, say); "
            "MobileNets can be pruned, ShuffleNetV2 cannot"
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def channel_importance(network: nn.Module, losses: Iterable[Tensor]) -> dict[nn.Module, Tensor]:
    """(C,) for each batch norm: how much the loss would change, squared, if a channel were 0 after it.

    To first order: the sum over batches of (weight dL/dweight + bias dL/dbias)^2. Molchanov et al., Importance
    Estimation for Neural Network Pruning, CVPR 2019, equation 8 with gates behind the norms.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    found = {norm: torch.zeros(norm.num_features) for norm in norms}
    for loss in losses:
        network.zero_grad(set_to_none=True)
        loss.backward()
        for norm in norms:
            if norm.weight.grad is not None:
                change = norm.weight * norm.weight.grad + norm.bias * norm.bias.grad
                found[norm] += change.detach().float().cpu() ** 2
    network.zero_grad(set_to_none=True)
    return found


def _convolutions(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
