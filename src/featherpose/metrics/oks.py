"""Object keypoint similarity, and the recall and precision built on it (cocodataset.org/#keypoints-eval)."""

from __future__ import annotations

import contextlib
import importlib.util
import io

import numpy as np

from featherpose.metrics.truth import Truth, distances, mean
from featherpose.skeletons import Skeleton

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's: .50, .55, ... .95."""

AREA_FACTOR = 0.53
"""Object area in box areas where a set has no masks; the factor CrowdPose's and COCO's tools use for people."""

COCO_FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "COCO_AR")
"""What `average_precision` tells, in the order in which the library does."""

FAR_AWAY = 1e6
"""Pixels; where a joint that was not found is placed for the library, which knows no missing joints."""


def box_area(box_xyxy: np.ndarray, area_factor: float = AREA_FACTOR) -> np.ndarray:
    """(N,) px^2: the object area that OKS uses, estimated from boxes (N, 4)."""
    box = np.asarray(box_xyxy, np.float64)
    return area_factor * (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def nearness(squared: np.ndarray, area: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(..., K) in [0, 1]: exp(-d^2 / (2 area (2 sigma)^2)) of squared distances (..., K) on objects of area (...), px^2."""
    spread = 2 * (2 * np.array(skeleton.sigmas)) ** 2  # (K,)
    return np.exp(-squared / (spread * (area[..., None] + np.spacing(1))))


def oks_per_joint(pred_xy: np.ndarray, truth: Truth) -> np.ndarray:
    """(N, K) in [0, 1]: `nearness` of each labelled joint, NaN elsewhere.

    pred_xy: (N, K, 2) photo pixels; NaN means "not found" and gives 0.
    """
    return nearness(distances(pred_xy, truth) ** 2, truth.area, truth.skeleton)


def oks(pred_xy: np.ndarray, truth: Truth) -> np.ndarray:
    """(N,) in [0, 1]: mean over a person's labelled joints, whatever their scores; NaN for persons without any."""
    return mean(oks_per_joint(pred_xy, truth), axis=1)


def average_precision_is_there() -> bool:
    """Whether the library that `average_precision` asks is installed."""
    return importlib.util.find_spec("faster_coco_eval") is not None


def average_recall(similarity: np.ndarray) -> dict[str, float]:
    """AR, AR50 and AR75 of one prediction per target: the share of targets whose OKS reaches a threshold.

    similarity: (N,) as `oks` gives it; NaN targets do not count. AR is the mean over OKS_THRESHOLDS. This is COCO's AR
    when every photo has one target and one prediction. It differs where a photo has several: COCO lets a prediction
    match any person, here it is held against the person it was meant for.
    """
    counted = similarity[np.isfinite(similarity)]
    if not len(counted):
        return {"AR": float("nan"), "AR50": float("nan"), "AR75": float("nan")}
    share = (counted[:, None] >= OKS_THRESHOLDS).mean(axis=0)
    return {"AR": float(share.mean()), "AR50": float(share[0]), "AR75": float(share[5])}


def average_precision(
    pred_xy: np.ndarray, pred_score: np.ndarray, pred_photo: np.ndarray, truth: Truth, truth_photo: np.ndarray
) -> dict[str, float]:
    """COCO's AP, AP50, AP75, APM, APL and COCO_AR of any number of predictions and persons per photo.

    pred_xy: (D, K, 2) photo pixels. pred_score: (D,), by which predictions are ranked over the whole set.
    pred_photo: (D,), truth_photo: (N,) integers that say which photo each belongs to. APM and APL take objects of area
    32^2 to 96^2 and above; NaN where a set has none. COCO keeps the 20 best predictions of a photo.
    Computed by faster-coco-eval (extra `train`); ImportError without it.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    labelled = truth.labelled
    photos = sorted({int(p) for p in truth_photo} | {int(p) for p in pred_photo})
    flat = np.concatenate([np.where(labelled[..., None], truth.xy, 0), np.where(labelled, 2, 0)[..., None]], axis=2)
    persons = [
        {
            "id": n + 1,
            "image_id": int(truth_photo[n]),
            "category_id": 1,
            "iscrowd": 0,
            "keypoints": flat[n].ravel().tolist(),
            "num_keypoints": int(labelled[n].sum()),
            "area": float(truth.area[n]),
            "bbox": [*truth.box_xyxy[n, :2].tolist(), *(truth.box_xyxy[n, 2:] - truth.box_xyxy[n, :2]).tolist()],
        }
        for n in range(len(truth.xy))
    ]
    found = np.asarray(pred_xy, np.float64)
    found = np.where(np.isfinite(found).all(axis=2, keepdims=True), found, -FAR_AWAY)
    found = np.concatenate([found, np.ones((*found.shape[:2], 1))], axis=2)
    detections = [
        {"image_id": int(photo), "category_id": 1, "keypoints": joints_xys.ravel().tolist(), "score": float(score)}
        for photo, joints_xys, score in zip(pred_photo, found, pred_score, strict=True)
    ]
    if not persons or not detections:
        return dict.fromkeys(COCO_FIGURES, 0.0 if persons else float("nan"))
    category = {"id": 1, "name": "person", "keypoints": list(truth.skeleton.joints), "skeleton": []}
    images = [{"id": photo, "width": 1, "height": 1, "file_name": str(photo)} for photo in photos]
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its own table
        labels = COCO({"images": images, "annotations": persons, "categories": [category]})
        results = labels.loadRes(detections)
        run = COCOeval_faster(labels, results, "keypoints", kpt_oks_sigmas=np.array(truth.skeleton.sigmas))
        run.evaluate()
        run.accumulate()
        run.summarize()
    values = [float(v) if v >= 0 else float("nan") for v in run.stats[:6]]
    return dict(zip(COCO_FIGURES, values, strict=True))
