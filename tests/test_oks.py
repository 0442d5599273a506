"""OKS, AR and AP against values computed by hand and against the libraries that the field trusts."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest

from featherpose.metrics.oks import average_precision, average_recall, box_area, oks, oks_per_joint
from featherpose.metrics.truth import Truth
from featherpose.skeletons import COCO17, Skeleton

PAIR = Skeleton("pair", ("left_hand", "right_hand"), (("left_hand", "right_hand"),), sigmas=(0.05, 0.1))


def truth_of(xy, *, skeleton=PAIR, area=10_000.0, visibility=None, box=(0, 0, 100, 100)) -> Truth:
    xy = np.asarray(xy, float)
    labelled = np.isfinite(xy).all(axis=2)
    persons = len(xy)
    return Truth(
        skeleton=skeleton,
        xy=xy,
        visibility=np.where(labelled, 2, 0) if visibility is None else visibility,
        box_xyxy=np.tile(np.asarray(box, float), (persons, 1)),
        area=np.broadcast_to(np.asarray(area, float), persons),
        crop_side=np.full(persons, 125.0),
    )


def test_oks_of_an_exact_answer_is_one():
    truth = truth_of([[[10, 20], [30, 40]]])
    assert oks(truth.xy, truth) == [1.0]


@pytest.mark.parametrize(
    ("name", "shift", "expected"),
    [
        ("one sigma of the small joint, exp(-10^2 / (2 10^4 .1^2))", [[10, 0], [0, 0]], (math.exp(-0.5) + 1) / 2),
        ("one sigma of the large joint", [[0, 0], [0, 20]], (1 + math.exp(-0.5)) / 2),
        ("both, in any direction", [[-6, 8], [12, -16]], math.exp(-0.5)),
        ("a bad answer is near zero", [[100, 0], [200, 0]], math.exp(-50)),
    ],
)
def test_oks_by_hand(name, shift, expected):
    truth = truth_of([[[10, 20], [30, 40]]])
    assert oks(truth.xy + np.array(shift), truth)[0] == pytest.approx(expected, abs=1e-12)


def test_a_larger_person_forgives_more():
    truth = truth_of([[[10, 20], [30, 40]]] * 2, area=[10_000, 40_000])
    small, large = oks_per_joint(truth.xy + np.array([10, 0]), truth)[:, 0]
    assert small == pytest.approx(math.exp(-0.5)) and large == pytest.approx(math.exp(-0.125))


def test_swapped_sides_are_punished():
    truth = truth_of([[[10, 20], [90, 20]]])
    assert oks(truth.xy[:, ::-1], truth)[0] < 0.001


def test_unlabelled_joints_count_neither_for_nor_against():
    truth = truth_of([[[10, 20], [np.nan, np.nan]]])
    for nonsense in ([10, 20], [999, 999], [np.nan, np.nan]):
        assert oks(np.array([[[20, 20], nonsense]]), truth)[0] == pytest.approx(math.exp(-0.5))


def test_a_coordinate_without_visibility_is_unlabelled():
    truth = truth_of([[[10, 20], [30, 40]]], visibility=[[1, 0]])
    assert oks(np.array([[[10, 20], [500, 500]]]), truth) == [1.0]


def test_a_joint_that_was_not_found_is_a_miss():
    truth = truth_of([[[10, 20], [30, 40]]])
    assert oks(np.array([[[10, 20], [np.nan, np.nan]]]), truth) == [0.5]


def test_a_person_without_labels_is_not_counted():
    truth = truth_of([[[10, 20], [30, 40]], [[np.nan] * 2] * 2])
    similarity = oks(np.tile([[[10.0, 20.0], [30.0, 40.0]]], (2, 1, 1)), truth)
    assert np.isnan(similarity[1])
    assert average_recall(similarity) == {"AR": 1.0, "AR50": 1.0, "AR75": 1.0}


def test_average_recall_by_hand():
    # .62 reaches .50 .55 .60, .72 reaches five thresholds, .75 six, .78 six, .10 none, 1 all ten: 30 of 60
    assert average_recall(np.array([0.62, 0.72, 0.75, 0.78, 0.10, 1.0])) == pytest.approx(
        {"AR": 30 / 60, "AR50": 5 / 6, "AR75": 3 / 6}
    )


def test_average_recall_of_nothing_is_unknown():
    assert all(math.isnan(value) for value in average_recall(np.array([np.nan])).values())


def test_box_area_takes_a_share_of_the_box():
    assert box_area(np.array([[10, 10, 30, 60]])) == pytest.approx([0.53 * 20 * 50])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must be \(1, 2, 2\)"):
        oks(np.zeros((1, 3, 2)), truth_of([[[10, 20], [30, 40]]]))
    with pytest.raises(ValueError, match="area must be"):
        Truth(PAIR, np.zeros((1, 2, 2)), np.ones((1, 2)), np.zeros((1, 4)), area=np.ones(2), crop_side=np.ones(1))


# --- agreement with the libraries ------------------------------------------------------------------------------------


def random_problem(rng: np.random.Generator, persons: int, photos: int):
    """Predictions from perfect to hopeless, some joints unlabelled; photo n % photos holds person n."""
    size = rng.uniform(40, 400, persons)
    xy = rng.uniform(0, 1, (persons, 17, 2)) * size[:, None, None] + rng.uniform(0, 500, (persons, 1, 2))
    xy[rng.uniform(size=(persons, 17)) < 0.3] = np.nan
    xy[:, 0] = 100.0  # somebody without any label would be another test
    box = np.concatenate([np.nanmin(xy, axis=1), np.nanmax(xy, axis=1)], axis=1)
    labelled = np.isfinite(xy).all(axis=2)
    area = box_area(box)
    truth = Truth(COCO17, xy, np.where(labelled, 2, 0), box, area, crop_side=size)
    spread = rng.uniform(0, 0.12, (persons, 1, 1)) * size[:, None, None]
    pred = np.nan_to_num(xy) + rng.normal(size=xy.shape) * spread
    return pred, rng.uniform(size=persons), np.arange(persons) % photos, truth


def by_pycocotools(pred, score, photo, truth, photo_of_truth) -> list[float]:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    annotations = [
        {
            "id": n + 1,
            "image_id": int(photo_of_truth[n]),
            "category_id": 1,
            "iscrowd": 0,
            "area": truth.area[n],
            "bbox": [*truth.box_xyxy[n, :2], *(truth.box_xyxy[n, 2:] - truth.box_xyxy[n, :2])],
            "num_keypoints": int(truth.labelled[n].sum()),
            "keypoints": [v for k in range(17) for v in ((*truth.xy[n, k], 2) if truth.labelled[n, k] else (0, 0, 0))],
        }
        for n in range(len(truth.xy))
    ]
    found = [
        {
            "image_id": int(photo[n]),
            "category_id": 1,
            "score": score[n],
            "keypoints": [v for x, y in pred[n] for v in (x, y, 1)],
        }
        for n in range(len(pred))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        labels = coco.COCO()
        images = [{"id": int(p)} for p in sorted(set(photo_of_truth))]
        labels.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        labels.createIndex()
        run = cocoeval.COCOeval(labels, labels.loadRes(found), "keypoints")
        run.evaluate(), run.accumulate(), run.summarize()
    return [float(v) for v in run.stats[:6]]


def test_one_prediction_per_target_gives_the_librarys_recall():
    pytest.importorskip("faster_coco_eval")
    pred, score, photo, truth = random_problem(np.random.default_rng(0), persons=60, photos=60)
    theirs = average_precision(pred, score, photo, truth, photo)
    ours = average_recall(oks(pred, truth))
    assert 0.2 < ours["AR"] < 0.8
    assert ours["AR"] == pytest.approx(theirs["COCO_AR"], abs=1e-9)
    alone = [average_recall(oks(pred[n : n + 1], one(truth, n)))["AR"] for n in range(60)]
    assert ours["AR"] == pytest.approx(np.mean(alone))


def one(truth: Truth, n: int) -> Truth:
    cut = slice(n, n + 1)
    return Truth(
        truth.skeleton,
        truth.xy[cut],
        truth.visibility[cut],
        truth.box_xyxy[cut],
        area=truth.area[cut],
        crop_side=truth.crop_side[cut],
    )


def test_precision_of_several_people_per_photo_agrees_with_pycocotools():
    pytest.importorskip("faster_coco_eval")
    pred, score, photo, truth = random_problem(np.random.default_rng(1), persons=80, photos=25)
    ours = average_precision(pred, score, photo, truth, photo)
    theirs = by_pycocotools(pred, score, photo, truth, photo)
    assert 0.1 < ours["AP"] < 0.9
    assert list(ours.values()) == pytest.approx(theirs, abs=1e-9)


def test_the_library_forgives_a_mix_up_of_people_that_average_recall_does_not():
    pytest.importorskip("faster_coco_eval")
    first, second = np.zeros((17, 2)) + 50, np.zeros((17, 2)) + 400
    truth = truth_of([first, second], skeleton=COCO17)
    mixed_up = np.stack([second, first])
    photo = np.array([7, 7])
    assert average_precision(mixed_up, np.array([0.9, 0.8]), photo, truth, photo)["COCO_AR"] == pytest.approx(1)
    assert average_recall(oks(mixed_up, truth))["AR"] == 0


def test_a_confident_wrong_detection_costs_precision():
    pytest.importorskip("faster_coco_eval")
    truth = truth_of([np.zeros((17, 2)) + 50], skeleton=COCO17)
    pred = np.stack([np.zeros((17, 2)) + 50, np.zeros((17, 2)) + 900])
    photo = np.array([1, 1])

    def precision(*scores):
        return average_precision(pred, np.array(scores), photo, truth, np.array([1]))["AP"]

    assert precision(0.9, 0.1) == pytest.approx(1) and precision(0.1, 0.9) == pytest.approx(0.5)
    assert average_precision(pred[:0], np.zeros(0), np.zeros(0, int), truth, np.array([1]))["AP"] == 0
