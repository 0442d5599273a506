"""Losses on maps of 2 x 2 cells, computed by hand; what the targets do not know has no gradient."""

import numpy as np
import pytest

# ruff: noqa: E402
torch = pytest.importorskip("torch")

from featherpose.codecs.movenet import MAPS, MoveNetCodec
from featherpose.losses import FORMS, Criterion, masked_l1, mirrored, weighted_mse
from featherpose.skeletons import COCO17, Skeleton

TRIO = Skeleton("trio", ("a", "b", "c"), bones=(("a", "b"), ("b", "c")))
PAIR = Skeleton("pair", ("a", "b"), bones=(("a", "b"),))


def grid(*rows):
    return torch.tensor(rows, dtype=torch.float32)[None, None]  # (1, 1, H, W)


# --- by hand -------------------------------------------------------------------------------------------------------


def test_weighted_mse_by_hand():
    """Target 1 and .5, k = 2: emphases 3, 2, 1, 1. Mass 3 x 1 + 2 x .25 = 3.5.
    Errors .5, .5, .2, 0: 3 x .25 + 2 x .25 + 1 x .04 = 1.29."""
    target = grid([1, 0.5], [0, 0])
    found = grid([0.5, 0], [0.2, 0])
    assert weighted_mse(found, target, torch.ones(1, 1, 2, 2), k=2).item() == pytest.approx(1.29 / 3.5)


def test_weighted_mse_weighs_cells():
    """The same with weights 1, .5, .25, 0: (.75 + .25 + .01) / (3 + .25)."""
    target = grid([1, 0.5], [0, 0])
    found = grid([0.5, 0], [0.2, 9])
    weight = grid([1, 0.5], [0.25, 0])
    assert weighted_mse(found, target, weight, k=2).item() == pytest.approx(1.01 / 3.25)


@pytest.mark.parametrize("k", [0, 2, 7])
def test_an_empty_map_costs_1_and_a_perfect_one_nothing(k):
    target = grid([1, 0.5], [0.25, 0])
    weight = torch.ones(1, 1, 2, 2)
    assert weighted_mse(torch.zeros(1, 1, 2, 2), target, weight, k=k).item() == pytest.approx(1)
    assert weighted_mse(target.clone(), target, weight, k=k).item() == 0


def test_without_any_target_the_background_still_counts():
    """Nothing to find: the mass is 0, so the plain sum of squares remains."""
    found = grid([0.5, 0], [0, 0.1])
    assert weighted_mse(found, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), k=7).item() == pytest.approx(0.26)


def test_a_mirror_twin_counts_by_hand():
    """Left, right and a nose without a twin; k = swap = 2. The left joint's cell 0 has 1, the right joint's cell 1."""
    skeleton = Skeleton("three", ("left", "right", "nose"), flip_pairs=(("left", "right"),))
    target = torch.zeros(1, 3, 1, 4)
    target[0, 0, 0, 0] = target[0, 1, 0, 1] = target[0, 2, 0, 2] = 1
    targets = {"heatmap": target, "heatmap_weight": torch.ones(1, 3, 1, 4)}

    def cost(channel, cell, swap):
        maps = {"heatmap": target.clone()}
        maps["heatmap"][0, channel, 0, cell] = abs(target[0, channel, 0, cell] - 0.5)
        return Criterion({"heatmap": 1}, skeleton, k=2.0, swap=swap)(maps, targets)[0].item()

    # mass: three peaks of emphasis 3; half a peak missed costs 3 x .25, half a peak at the twin's place 1 or 3 x .25
    assert cost(0, 0, 0.0) == pytest.approx(0.75 / 9) and cost(0, 1, 0.0) == pytest.approx(0.25 / 9)
    assert cost(0, 1, 2.0) == pytest.approx(0.75 / 9) == cost(1, 0, 2.0) == cost(0, 0, 2.0)
    assert cost(0, 3, 2.0) == pytest.approx(0.25 / 9), "elsewhere as before"
    assert cost(2, 0, 2.0) == cost(2, 1, 2.0) == pytest.approx(0.25 / 9), "the nose has no twin"
    with pytest.raises(ValueError, match=r"loss\.swap must be a number from 0 on"):
        Criterion({"heatmap": 1}, skeleton, swap=-1.0)


FORMS_BY_HAND = {
    # target 1, .5, 0 and k = 2: emphases 3, 2, 1; found .5, .25, .25
    "mse": (3 * 0.25 + 2 * 0.0625 + 0.0625) / (3 + 2 * 0.25),
    "l1": (3 * 0.5 + 2 * 0.25 + 0.25) / (3 + 2 * 0.5),
    # one peak: .5^2 log 2; beside it .5^4 .25^2 log(4/3); background .25^2 log(4/3)
    "focal": 0.25 * np.log(2) + 0.0625 * (0.0625 + 1) * np.log(4 / 3),
    "quality_focal": (0.25 * np.log(2) + 0.0625 * 0.5 * (np.log(4) + np.log(4 / 3)) + 0.0625 * np.log(4 / 3)) / 1.5,
    "cross_entropy": (3 * np.log(2) + 2 * (0.5 * (np.log(4) + np.log(4 / 3)) - np.log(2)) + np.log(4 / 3)) / 4,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_by_hand(form):
    target, found = grid([1, 0.5, 0, 0]), grid([0.5, 0.25, 0.25, 0.9])
    weight = grid([1, 1, 1, 0])
    assert FORMS[form](found, target, weight, k=2).item() == pytest.approx(FORMS_BY_HAND[form], rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_leads_a_map_to_its_maximum(form):
    """Gradient descent on the logits of a surely wrong map finds the target's peak, and the target itself but for focal."""
    target = grid([1, 0.5, 0.1, 0])
    logits = grid([-5.0, 5.0, 0, 5.0]).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(1500):
        optimizer.zero_grad()
        FORMS[form](logits.sigmoid(), target, torch.ones(1, 1, 1, 4), k=2).backward()
        optimizer.step()
    found = logits.detach().sigmoid().flatten()
    assert found.argmax() == 0 and found[3] < 0.1
    if form != "focal":
        assert found.numpy() == pytest.approx(target.flatten().numpy(), abs=0.08)


@pytest.mark.parametrize("form", ["cross_entropy", "quality_focal"])
def test_a_cross_entropy_pulls_where_a_sigmoid_is_surely_wrong(form):
    """Missed at a logit of -12 and seen where nothing is at 12: the gradient of the cross entropy is the error, 1."""
    logits = grid([-12.0, 12.0]).requires_grad_()
    FORMS[form](logits.sigmoid(), grid([1.0, 0.0]), torch.ones(1, 1, 1, 2), k=0).backward()
    assert logits.grad.flatten().tolist() == pytest.approx([-1, 1], rel=0.01)
    for sure in (40.0, -40.0):  # where float32 has no more numbers, nothing breaks
        logits = grid([sure, -sure]).requires_grad_()
        FORMS[form](logits.sigmoid(), grid([0.0, 1.0]), torch.ones(1, 1, 1, 2), k=0).backward()
        assert torch.isfinite(logits.grad).all()


def test_masked_l1_by_hand():
    """Cells 0 and 3 are known: |1 - 0| + |2 - 4| = 3 and |0 - 1| + |0 - 1| = 2, over two cells and two axes: 5 / 4."""
    found = torch.zeros(1, 1, 2, 2, 2)
    target = torch.zeros(1, 1, 2, 2, 2)
    found[0, 0, :, 0, 0] = torch.tensor([1.0, 2.0])
    target[0, 0, :, 0, 0] = torch.tensor([0.0, 4.0])
    target[0, 0, :, 1, 1] = 1
    found[0, 0, :, 0, 1] = 100  # unknown
    assert masked_l1(found, target, grid([1, 0], [0, 1])).item() == pytest.approx(5 / 4)


def test_masked_l1_of_nothing_known_is_nothing():
    assert masked_l1(torch.ones(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2)).item() == 0


def regression_maps(*ways):
    """Ways (K, 2) of a single cell as maps of 1 x 1 cells."""
    return torch.tensor(ways, dtype=torch.float32)[None, :, :, None, None]


def test_bone_loss_by_hand():
    """True bones a-b (2, 0) and b-c (0, 3), found (1, 0) and (0, 5): |1| + |2| over two bones and two axes: 3 / 4."""
    targets = {"regression": regression_maps((2, 0), (0, 0), (0, -3)), "regression_weight": torch.ones(1, 3, 1, 1)}
    maps = {"regression": regression_maps((1, 0), (0, 0), (0, -5))}
    loss, _ = Criterion({"bone": 1}, TRIO)(maps, targets)
    assert loss.item() == pytest.approx(3 / 4)


def test_bone_loss_does_not_mind_a_shift_of_the_whole_person():
    targets = {"regression": regression_maps((2, 0), (0, 0), (0, -3)), "regression_weight": torch.ones(1, 3, 1, 1)}
    loss, _ = Criterion({"bone": 1}, TRIO)({"regression": targets["regression"] + 7}, targets)
    assert loss.item() == pytest.approx(0)


def test_a_bone_counts_only_with_both_ends():
    targets = {"regression": regression_maps((2, 0), (0, 0), (0, 0)), "regression_weight": torch.ones(1, 3, 1, 1)}
    targets["regression_weight"][0, 2] = 0
    maps = {"regression": regression_maps((1, 0), (0, 0), (90, 90))}
    loss, _ = Criterion({"bone": 1}, TRIO)(maps, targets)
    assert loss.item() == pytest.approx(1 / 2)


def test_a_skeleton_without_bones_has_no_bone_loss():
    targets = {"regression": torch.zeros(1, 2, 2, 1, 1), "regression_weight": torch.ones(1, 2, 1, 1)}
    loss, _ = Criterion({"bone": 1}, Skeleton("dots", ("a", "b")))({"regression": torch.ones(1, 2, 2, 1, 1)}, targets)
    assert loss.item() == 0


# --- with the codec's targets --------------------------------------------------------------------------------------

CODEC = MoveNetCodec((64, 64), 2)


def encoded():
    """Targets of one picture whose second joint is unlabelled, with an ignored corner."""
    xy = np.array([[[30, 30], [np.nan, np.nan]]])
    targets = CODEC.encode(xy, np.array([[2, -1]]), None, np.array([[0, 0, 12, 12]]))
    return {name: torch.from_numpy(values[None]) for name, values in targets.items()}


ALL = dict.fromkeys(("heatmap", "center", "regression", "offset", "bone"), 1.0)
"""Those that only need labels."""


def test_perfect_maps_cost_nothing_and_empty_ones_1():
    targets = encoded()
    loss, parts = Criterion(ALL, PAIR)({name: targets[name].clone() for name in MAPS}, targets)
    assert loss.item() == 0
    assert parts.keys() == ALL.keys()
    _, parts = Criterion(ALL, PAIR)({name: torch.zeros_like(targets[name]) for name in MAPS}, targets)
    assert parts["heatmap"].item() == pytest.approx(1)
    assert parts["center"].item() == pytest.approx(1)


def test_what_is_not_known_has_no_gradient():
    targets = encoded()
    maps = {name: torch.full_like(targets[name], 0.3).requires_grad_() for name in MAPS}
    Criterion(ALL, PAIR)(maps, targets)[0].backward()
    for name in ("center", "heatmap"):
        unknown = targets[f"{name}_weight"] == 0
        assert unknown.any()
        assert (maps[name].grad[unknown] == 0).all()
        assert (maps[name].grad[~unknown] != 0).all()
    for name in ("regression", "offset"):
        known = (targets[f"{name}_weight"] > 0)[:, :, None].expand_as(maps[name])
        assert (maps[name].grad[~known] == 0).all()
        assert (maps[name].grad[known] != 0).any()
    assert (maps["heatmap"].grad[:, 1] == 0).all()  # the joint nobody labels
    assert (maps["regression"].grad[:, 1] == 0).all()


def test_the_gradient_points_to_the_target():
    targets = encoded()
    maps = {name: torch.zeros_like(targets[name]).requires_grad_() for name in MAPS}
    Criterion(ALL, PAIR)(maps, targets)[0].backward()
    with torch.no_grad():
        before = Criterion(ALL, PAIR)(maps, targets)[0]
        after = Criterion(ALL, PAIR)({name: values - 0.1 * values.grad for name, values in maps.items()}, targets)[0]
    assert after < before


def test_low_precision_maps_are_summed_in_float32():
    targets = encoded()
    maps = {name: torch.full_like(targets[name], 0.25) for name in MAPS}
    wanted = Criterion(ALL, PAIR)(maps, targets)[0]
    found = Criterion(ALL, PAIR)({name: values.bfloat16() for name, values in maps.items()}, targets)[0]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted.item())


# --- in the measure of OKS -----------------------------------------------------------------------------------------


def scattered(count=40, seed=0):
    """Maps (B, 2, 24, 24) with a hill within two cells of each joint, and what the loader says of the targets."""
    rng = np.random.default_rng(seed)
    codec = MoveNetCodec((96, 96), 2, subcell=True, offset_radius=2, vote_radius=1, softening=1e6)  # blind to distance
    xy = rng.uniform(4, 92, (count, 2, 2)).astype(np.float32)
    several = []
    for joints in xy:
        maps = codec.encode((joints + rng.normal(0, 2.5, (2, 2))).clip(0, 95)[None], np.full((1, 2), 2))
        maps["regression"] = np.broadcast_to(0, maps["regression"].shape).astype(np.float32)
        maps["offset"] = maps["offset"] + rng.normal(0, 0.2, maps["offset"].shape).astype(np.float32)
        several.append(maps)
    maps = {name: torch.from_numpy(np.stack([one[name] for one in several])) for name in MAPS}
    told = {
        "target_cells": torch.from_numpy(xy / 4),
        "target_spread": torch.from_numpy(rng.uniform(0.5, 3, (count, 2)).astype(np.float32)),
        "target_trust": torch.ones(count, 2),
    }
    return codec, xy, maps, told


def test_the_oks_loss_reads_joints_as_the_decoder_does():
    codec, xy, maps, told = scattered()
    places = []  # the decoder is led to the true joints by its regression
    for b in range(len(xy)):
        one = {name: values[b].numpy().copy() for name, values in maps.items()}
        one["center"][:] = 0
        one["center"][0, 12, 12] = 1
        one["regression"][:, :, 12, 12] = xy[b] / 4 - 12.5
        places.append(codec.decode(one)[0])
    error = np.linalg.norm(np.array(places) - xy, axis=2) / 4
    wanted = 1 - np.exp(-(error**2) / (2 * told["target_spread"].numpy() ** 2))
    assert 0.1 < wanted.mean() < 0.5
    found, _ = Criterion({"oks": 1}, PAIR, vote_radius=1)(maps, told)
    assert found.item() == pytest.approx(wanted.mean(), rel=1e-4)


def test_the_oks_of_a_person_is_the_mean_over_trusted_joints_and_people_count_alike():
    """One person with one joint that is lost (OKS 0), one with two: .1 of a person's trust on the one that is right."""
    right = {"heatmap": torch.zeros(3, 2, 8, 8), "offset": torch.full((3, 2, 2, 8, 8), 0.5)}
    right["heatmap"][:, :, 4, 4] = 1
    told = {
        "target_cells": torch.full((3, 2, 2), 4.5),
        "target_spread": torch.full((3, 2), 0.01),
        "target_trust": torch.tensor([[1, 0], [0.9, 0.1], [0, 0.5]]),
    }
    told["target_cells"][:2, 0] += 3  # far from what any cell says
    loss, _ = Criterion({"oks": 1}, PAIR)(right, told)
    assert loss.item() == pytest.approx((1 * 1 + 0.9 * 0.9 + 0.5 * 0) / (1 + 0.9 + 0.5), abs=1e-3)


def test_the_oks_loss_moves_votes_towards_the_joint():
    _, _, maps, told = scattered()
    maps = {name: maps[name].clone().requires_grad_() for name in ("heatmap", "offset")}
    criterion = Criterion({"oks": 1}, PAIR, vote_radius=1)
    before = criterion(maps, told)[0]
    before.backward()
    for name in maps:
        moved = {**maps, name: (maps[name] - 20 * maps[name].grad).detach()}
        assert criterion(moved, told)[0] < before - 0.001
    assert (maps["heatmap"].grad != 0).flatten(2).sum(dim=2).max() <= 9
    assert (maps["offset"].grad != 0).flatten(3).sum(dim=3).max() <= 9


@pytest.mark.parametrize("radius", [0, 2])
def test_the_oks_loss_of_nobody_of_the_untrusted_and_of_joints_outside_is_0(radius):
    _, _, maps, told = scattered(count=3)
    maps = {name: maps[name].clone().requires_grad_() for name in ("heatmap", "offset")}
    told["target_cells"][0] = torch.nan
    told["target_spread"][0] = torch.nan
    told["target_trust"][1] = 0
    told["target_cells"][2] = torch.tensor([[-0.1, 5], [5, 24.0]])
    loss, _ = Criterion({"oks": 1}, PAIR, vote_radius=radius)(maps, told)
    loss.backward()
    assert loss.item() == 0
    assert not maps["heatmap"].grad.any() and not maps["offset"].grad.any()


def test_the_oks_loss_at_the_rim_and_on_an_empty_map_is_finite():
    """An offset that is right has an OKS of 1, in a corner and without any score too."""
    maps = {"heatmap": torch.zeros(1, 1, 8, 8, requires_grad=True), "offset": torch.zeros(1, 1, 2, 8, 8)}
    columns = torch.arange(8.0)
    maps["offset"][0, 0, 0], maps["offset"][0, 0, 1] = 0.25 - columns, 7.5 - columns[:, None]
    told = {"target_cells": torch.tensor([[[0.25, 7.5]]]), "target_spread": torch.ones(1, 1), "target_trust": torch.ones(1, 1)}
    loss, _ = Criterion({"oks": 1}, Skeleton("one", ("a",)), vote_radius=1)(maps, told)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(maps["heatmap"].grad).all()


# --- the sum -------------------------------------------------------------------------------------------------------


def test_the_total_is_the_weighted_sum_of_the_parts():
    targets = encoded()
    maps = {name: torch.full_like(targets[name], 0.3) for name in MAPS}
    weights = {"heatmap": 2.0, "center": 0.5, "regression": 0.1, "offset": 0.0}
    total, parts = Criterion(weights, PAIR)(maps, targets)
    assert list(parts) == ["heatmap", "center", "regression"]  # a weight of 0 leaves the loss out
    assert total.item() == pytest.approx(sum(weights[name] * part.item() for name, part in parts.items()))
    assert not any(part.requires_grad for part in parts.values())


def test_joint_weights_go_by_name():
    """Joint a counts double: errors 1 and 2 in x give (2 x 1 + 2) / (2 + 1) / 2 instead of (1 + 2) / 2 / 2."""
    targets = {"offset": torch.zeros(1, 2, 2, 1, 1), "offset_weight": torch.ones(1, 2, 1, 1)}
    maps = {"offset": torch.tensor([[1.0, 0], [2, 0]])[None, :, :, None, None]}
    assert Criterion({"offset": 1}, PAIR)(maps, targets)[0].item() == pytest.approx(3 / 4)
    assert Criterion({"offset": 1}, PAIR, joint_weights={"a": 2})(maps, targets)[0].item() == pytest.approx(4 / 6)


MAPS_BY_LOSS = {
    "heatmap": ("heatmap",), "regression": ("regression",), "distillation": ("teacher_heatmap", "teacher_offset"),
    "imitation": ("imitation_heatmap",),
}  # fmt: skip


@pytest.mark.parametrize("loss", MAPS_BY_LOSS)
def test_joint_weights_hold_in_every_loss_of_maps(loss):
    """Joint a is wrong and b right: of weights 3 and 1 three quarters of the weight are wrong, not a half."""
    shape = {"heatmap": (1, 2, 1, 4), "regression": (1, 2, 2, 1, 4), "offset": (1, 2, 2, 1, 4)}
    targets = {}
    for name in MAPS_BY_LOSS[loss]:
        targets[name] = torch.ones(shape[name.rpartition("_")[2]])
        targets[f"{name}_weight"] = torch.ones(1, 2, 1, 4)
    maps = {name: torch.ones(shape[name]) for name in shape}
    for name in maps:
        maps[name][:, 0] = 0.5
    plain, weighted = (
        Criterion({loss: 1}, PAIR, joint_weights=weights)(maps, targets)[0].item() for weights in ({}, {"a": 3})
    )
    assert weighted / plain == pytest.approx((3 / 4) / (1 / 2), rel=1e-3)


def test_k_emphasises_peaks():
    """A missed peak of 1 against a false alarm of 1: with k the first one costs k + 1 times as much."""
    targets = {"center": grid([1, 0]), "center_weight": torch.ones(1, 1, 1, 2)}
    for k in (0, 5, 10):
        missed = Criterion({"center": 1}, PAIR, k=k)({"center": grid([0, 0])}, targets)[0].item()
        alarm = Criterion({"center": 1}, PAIR, k=k)({"center": grid([1, 1])}, targets)[0].item()
        assert missed / alarm == pytest.approx(k + 1)


# --- other models as teachers --------------------------------------------------------------------------------------


def test_distillation_by_hand():
    """Target .5 with k = 2 and weights 1, 1, 0: (2 x .0625 + .04) / (2 x .25), but for the mass of at least 1. Offset:
    |1| + |2| at weight .5 over .5 and two axes, where the sum of weights counts as 1 at least."""
    targets = {"teacher_heatmap": grid([0.5, 0, 0]), "teacher_heatmap_weight": grid([1, 1, 0]),
               "teacher_offset": torch.zeros(1, 1, 2, 1, 3), "teacher_offset_weight": grid([0.5, 0, 0])}  # fmt: skip
    maps = {"heatmap": grid([0.25, 0.2, 9]), "offset": torch.zeros(1, 1, 2, 1, 3)}
    maps["offset"][0, 0, :, 0, 0] = torch.tensor([1.0, -2.0])
    maps["offset"][0, 0, :, 0, 1] = 100  # not said
    loss, _ = Criterion({"distillation": 1}, Skeleton("one", ("a",)), k=2)(maps, targets)
    assert loss.item() == pytest.approx((2 * 0.0625 + 0.04) / 1 + 0.5 * 3 / 1)


def test_the_best_map_lies_between_truth_and_teacher():
    """Halves of both with k = 0: where the truth is 1 and the teacher says .4, .7 costs least."""
    def loss(value):
        targets = {"heatmap": grid([1.0] * 4), "heatmap_weight": grid([1.0] * 4),
                   "teacher_heatmap": grid([0.4] * 4), "teacher_heatmap_weight": grid([1.0] * 4),
                   "teacher_offset": torch.zeros(1, 1, 2, 1, 4), "teacher_offset_weight": grid([0.0] * 4)}  # fmt: skip
        maps = {"heatmap": grid([value] * 4), "offset": torch.zeros(1, 1, 2, 1, 4)}
        # The truth's mass is 4; the teacher's .64 counts as 1, so its half is given a quarter of the weight.
        return Criterion({"heatmap": 0.5, "distillation": 0.125}, Skeleton("one", ("a",)), k=0)(maps, targets)[0].item()

    assert loss(0.7) < min(loss(0.65), loss(0.75))


def imitation_targets():
    """A teacher's maps of 1 x 4 cells for two joints: sure of cells 0 (centre) and 1 (joints)."""
    teacher = {"center": grid([0.8, 0.05, 0, 0]), "heatmap": grid([0, 0.5, 0.05, 0]).repeat(1, 2, 1, 1),
               "regression": torch.zeros(1, 2, 2, 1, 4), "offset": torch.zeros(1, 2, 2, 1, 4)}  # fmt: skip
    return {f"imitation_{name}": values for name, values in teacher.items()}


def test_imitating_the_teacher_exactly_costs_nothing():
    targets = imitation_targets()
    maps = {name: targets[f"imitation_{name}"].clone() for name in MAPS}
    assert Criterion({"imitation": 1}, PAIR)(maps, targets)[0].item() == 0


def test_imitation_by_hand():
    """Regression off by 1 everywhere, counted in cell 0 at .8, offset by 2, counted in cell 1 at .5: L1 1 and 2."""
    targets = imitation_targets()
    maps = {name: targets[f"imitation_{name}"].clone() for name in MAPS}
    maps["regression"] += 1
    maps["offset"] += 2
    loss, _ = Criterion({"imitation": 1}, PAIR)(maps, targets)
    assert loss.item() == pytest.approx(0.1 * 1 + 1.0 * 2)
    maps["regression"][..., 0], maps["offset"][..., 1] = 0, 0  # what is left is where the teacher is not sure
    assert Criterion({"imitation": 1}, PAIR)(maps, targets)[0].item() == 0
    maps["heatmap"][0, 0, 0, 3] = 0.5  # a false alarm in a cell where the teacher sees nothing
    assert Criterion({"imitation": 1}, PAIR, k=2)(maps, targets)[0].item() == pytest.approx(0.25 / 1.01, rel=0.01)


def test_a_teacher_is_heard_where_its_weight_says():
    """A false alarm of .5 costs .25 over the mass where the teacher is heard, and nothing where it is not."""
    heatmap = grid([0, 0.5, 0, 0]).repeat(1, 2, 1, 1)
    maps = {"heatmap": heatmap.clone()}
    maps["heatmap"][0, 0, 0, 3] = 0.5
    heard = torch.ones(1, 2, 1, 4)
    for weight in (1.0, 0.0):
        heard[0, 0, 0, 3] = weight
        loss = Criterion({"imitation": 1}, PAIR)(maps, {"imitation_heatmap": heatmap, "imitation_weight": heard})[0].item()
        assert (loss > 0.1) == (weight > 0)
    assert loss == 0


@torch.no_grad()
def test_maps_of_a_mirrored_picture_are_the_mirrored_targets():
    """The codec's targets of mirrored joints, where they say something, are the mirrored maps of the joints themselves."""
    rng = np.random.default_rng(0)
    codec = MoveNetCodec((64, 64), offset_radius=1, subcell=True)
    xy = rng.uniform(8, 56, (2, 17, 2))
    other = xy.copy()
    other[..., 0] = 64 - other[..., 0]
    seen = np.full((2, 17), 2)
    targets, wanted = (
        {name: torch.from_numpy(values)[None] for name, values in codec.encode(joints, seen).items()}
        for joints in (xy, other[:, COCO17.flip_index()])
    )
    found = mirrored(targets, torch.as_tensor(COCO17.flip_index()))
    for name in ("heatmap", "center"):
        assert (found[name] - wanted[name]).abs().max() < 1e-5
    for name in ("regression", "offset"):
        here = wanted[f"{name}_weight"][:, :, None] > 0
        assert here.any() and ((found[name] - wanted[name]).abs() * here).max() < 1e-4
    again = mirrored(found, torch.as_tensor(COCO17.flip_index()))
    assert all((again[name] - targets[name]).abs().max() < 1e-6 for name in MAPS)


def test_an_answer_that_is_its_mirror_costs_nothing():
    targets = {name.replace("imitation", "mirror"): values for name, values in imitation_targets().items()}
    maps = {name: targets[f"mirror_{name}"].clone() for name in MAPS}
    assert Criterion({"mirror": 1}, PAIR)(maps, targets)[0].item() == 0
    maps["regression"] += 1
    maps["offset"] += 2
    assert Criterion({"mirror": 1}, PAIR)(maps, targets)[0].item() == pytest.approx(0.1 * 1 + 1.0 * 2)


# --- the sum with learned weights ----------------------------------------------------------------------------------


def test_automatic_weights_by_hand():
    """L = .26 and 1 with p = 2 and .5: .5 / 4 x .26 + log 5 + .5 / .25 x 1 + log 1.25; it begins at the weights."""
    targets = {"center": grid([0, 0]), "center_weight": torch.ones(1, 1, 1, 2),
               "offset": torch.zeros(1, 2, 2, 1, 1), "offset_weight": torch.ones(1, 2, 1, 1)}  # fmt: skip
    maps = {"center": grid([0.5, 0.1]), "offset": torch.ones(1, 2, 2, 1, 1)}
    criterion = Criterion({"center": 2.0, "offset": 0.1}, PAIR, automatic=True)
    assert criterion.learned_weights() == pytest.approx({"center": 2, "offset": 0.1}, rel=1e-3)
    criterion.p["center"].data.fill_(2.0)
    criterion.p["offset"].data.fill_(0.5)
    total, parts = criterion(maps, targets)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx({"center": 0.26, "offset": 1})
    assert total.item() == pytest.approx(0.125 * 0.26 + np.log(5) + 2 * 1 + np.log(1.25), rel=1e-3)
    assert criterion.learned_weights() == pytest.approx({"center": 0.125, "offset": 2}, rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.01, 0.5, 8.0])
def test_a_learned_p_ends_where_its_gradient_vanishes(value):
    """p^4 / (1 + p^2) = L / 2. A loss of 0 is weighted ever more, but not without end."""
    targets = {"offset": torch.zeros(1, 2, 2, 1, 1), "offset_weight": torch.ones(1, 2, 1, 1)}
    criterion = Criterion({"offset": 1.0}, PAIR, automatic=True)
    optimizer = torch.optim.Adam(criterion.parameters(), lr=0.02)
    for _ in range(2000):
        optimizer.zero_grad()
        criterion({"offset": torch.full((1, 2, 2, 1, 1), value)}, targets)[0].backward()
        optimizer.step()
    p = criterion.p["offset"].item()
    assert p**4 / (1 + p**2) == pytest.approx(value / 2, abs=1e-3)
    assert np.isfinite(criterion.learned_weights()["offset"]) and criterion.learned_weights()["offset"] <= 5001


def test_weights_are_not_learned_unless_asked():
    criterion = Criterion(ALL, PAIR)
    assert not list(criterion.parameters()) and not criterion.state_dict() and criterion.learned_weights() == {}


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "options", "sentence"),
    [
        ({"heatmaps": 1}, {}, "unknown loss 'heatmaps'; did you mean 'heatmap'"),
        ({"heatmap": -1}, {}, "loss weight of 'heatmap' must be a number from 0 on, got -1"),
        ({"heatmap": float("nan")}, {}, "loss weight of 'heatmap' must be a number"),
        ({"heatmap": 0}, {}, "every loss has weight 0"),
        ({}, {}, "every loss has weight 0"),
        ({"heatmap": 1}, {"k": -1}, "loss.k must be a number from 0 on"),
        ({"heatmap": 1}, {"joint_weights": {"left_writs": 2}}, "did you mean 'left_wrist'"),
        ({"heatmap": 1}, {"joint_weights": {"left_wrist": -2}}, "joint_weights of 'left_wrist' must be a number"),
    ],
    ids=["misspelt", "negative", "not a number", "all zero", "none", "negative k", "misspelt joint", "negative joint"],
)
def test_impossible_losses_are_refused(weights, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Criterion(weights, COCO17, **options)


# --- the choices of decoding ------------------------------------------------------------------------------------------


def crowded(count=8, seed=3):
    """Maps of two people in each picture, the second of whom decoding would take, and the targets: the first ones."""
    rng = np.random.default_rng(seed)
    codec = MoveNetCodec((96, 96), 2, subcell=True, offset_radius=2, vote_radius=1, center_sigma=1.0, softening=4.0)
    maps, told = [], {"cells": [], "middle": [], "box": []}
    for _ in range(count):
        middle = np.array([30, 30]) + rng.uniform(-6, 6, 2)
        target = np.stack([middle - 12, middle + 12]) + rng.uniform(-3, 3, (2, 2))
        other = target + 36
        both = np.stack([target, other]).astype(np.float32)
        one = codec.encode(both, np.full((2, 2), 2))
        seen = codec.encode(both[1:], np.full((1, 2), 2))
        for name in ("heatmap", "center"):  # of the second person twice what there is of the first
            one[name] = (0.2 + 0.6 * seen[name] + 0.2 * one[name]).astype(np.float32) - 0.19
        maps.append({name: one[name] for name in MAPS})
        told["cells"].append(target / 4)
        told["middle"].append(codec.middle(target / 4))
        told["box"].append(np.concatenate([target.min(axis=0), target.max(axis=0)]) / 4)
    maps = {name: torch.from_numpy(np.stack([one[name] for one in maps])) for name in MAPS}
    told = {f"target_{name}": torch.from_numpy(np.stack(values).astype(np.float32)) for name, values in told.items()}
    told["target_spread"], told["target_trust"] = torch.full((count, 2), 0.6), torch.ones(count, 2)
    return codec, maps, told


def right_joints(codec, maps, told):
    """Share of pictures whose two decoded joints are within a cell of the target's."""
    xy, _, _ = codec.decode_batch({name: values.detach().numpy() for name, values in maps.items()})
    return (np.linalg.norm(xy / 4 - told["target_cells"].numpy(), axis=2) < 1).all(axis=1).mean()


def test_both_choices_lead_decoding_from_a_stranger_to_the_target():
    codec, maps, told = crowded()
    assert right_joints(codec, maps, told) == 0
    criterion = Criterion({"joint_choice": 1, "person_choice": 1}, PAIR, softening=codec.softening)
    maps = {name: values.clone().requires_grad_() for name, values in maps.items()}
    first = None
    for _ in range(60):
        loss, _ = criterion(maps, told)
        first = loss.item() if first is None else first
        grads = dict(zip(maps, torch.autograd.grad(loss, list(maps.values()), allow_unused=True), strict=True))
        assert grads.pop("offset") is None
        maps = {n: (v - 2 * grads[n]).detach().requires_grad_() if n in grads else v for n, v in maps.items()}
    assert right_joints(codec, maps, told) == 1
    assert loss.item() < first / 4


def test_the_choice_of_a_joint_by_hand():
    """Two hills of one cell, of .8 and .4, 1 and 5 cells from where the regression expects the joint; softening 2."""
    maps = {"heatmap": torch.zeros(1, 1, 12, 12), "regression": torch.zeros(1, 1, 2, 12, 12)}
    maps["heatmap"][0, 0, 6, 5], maps["heatmap"][0, 0, 6, 11] = 0.4, 0.8
    maps["regression"][0, 0, :, 3, 2] = torch.tensor([4.0, 3.0])  # from cell (2, 3) to (6, 6)
    told = {
        "target_cells": torch.tensor([[[5.5, 6.5]]]), "target_middle": torch.tensor([[2.9, 3.1]]),
        "target_spread": torch.full((1, 1), 0.1), "target_trust": torch.ones(1, 1),
    }  # fmt: skip
    loss, _ = Criterion({"joint_choice": 1}, Skeleton("one", ("a",)), softening=2)(maps, told)
    right, wrong = (0.4 / 3) ** 4, (0.8 / 7) ** 4
    chance = right / (right + wrong)
    assert loss.item() == pytest.approx(-np.log((chance + 0.05) / 1.05), abs=1e-4)


def test_the_choice_of_a_person_by_hand():
    """The target's middle has .3, 1 cell from the picture's middle; somebody 5 cells from it has .9."""
    maps = {"center": torch.zeros(1, 1, 12, 12)}
    maps["center"][0, 0, 6, 5], maps["center"][0, 0, 6, 11] = 0.3, 0.9
    told = {
        "target_middle": torch.tensor([[5.5, 6.5]]),
        "target_box": torch.tensor([[4.0, 4, 7, 9]]),
        "target_trust": torch.ones(1, 1),
    }
    one = Skeleton("one", ("a",))
    for options, added in (({"softening": 1}, 1), ({"softening": 1, "center_softening": 3}, 3)):
        loss, _ = Criterion({"person_choice": 1}, one, **options)(maps, told)
        right, wrong = (0.3 / (1 + added)) ** 4, (0.9 / (5 + added)) ** 4
        right += wrong * np.exp(-0.5 * (6 - 1.5) ** 2)  # somebody else stands 6 cells away, 4.5 spreads beyond the reach
        chance = right / ((0.3 / (1 + added)) ** 4 + wrong)
        assert loss.item() == pytest.approx(-np.log((chance + 0.05) / 1.05), abs=1e-4)


@pytest.mark.parametrize("name", ["joint_choice", "person_choice"])
def test_a_choice_without_a_target_costs_nothing(name):
    codec, maps, told = crowded(count=3)
    maps = {key: values.requires_grad_() for key, values in maps.items()}
    for key in ("target_cells", "target_middle", "target_box", "target_spread"):
        told[key][0] = torch.nan
    told["target_trust"][:2] = 0
    told["target_trust"][2] = 0 if name == "person_choice" else 1
    told["target_cells"][2] = torch.tensor([[-0.1, 5], [5, 24.0]])  # outside, so that no joint is in the picture
    told["target_middle"][2] = torch.nan
    loss, _ = Criterion({name: 1}, PAIR, softening=codec.softening)(maps, told)
    loss.backward()
    assert loss.item() == 0
    assert not any(values.grad.any() for values in maps.values() if values.grad is not None)
