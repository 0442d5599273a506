"""Whether scores mean anything: do right joints have higher ones, and is a joint of score .8 right 8 times in 10?"""

from __future__ import annotations

import numpy as np


def auc(score: np.ndarray, right: np.ndarray) -> float:
    """Chance that a right one scores higher than a wrong one, ties half (the area under the ROC curve).

    score, right: (N,), the second bool. 1 is perfect, .5 says nothing; NaN when all are right or all wrong.
    """
    score, right = np.asarray(score, np.float64), np.asarray(right, bool)
    rights, wrongs = int(right.sum()), int((~right).sum())
    if not rights or not wrongs:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # mean rank of equal scores, from 1
    return float((rank[right].sum() - rights * (rights + 1) / 2) / (rights * wrongs))


def reliability(score: np.ndarray, right: np.ndarray) -> list[dict]:
    """A row for each tenth of the score axis that holds any: from, to, count, mean_score and share_right."""
    score, right = np.asarray(score, np.float64), np.asarray(right, bool)
    place = np.clip((score * 10).astype(int), 0, 9)
    return [
        {
            "from": b / 10,
            "to": (b + 1) / 10,
            "count": int((place == b).sum()),
            "mean_score": float(score[place == b].mean()),
            "share_right": float(right[place == b].mean()),
        }
        for b in range(10)
        if (place == b).any()
    ]
