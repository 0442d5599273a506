"""featherpose: from labelled photos to a human-pose model in real time on weak hardware.

    from featherpose import Predictor, Tracker
    pose = Predictor()("photo.jpg")
    track = Tracker(Predictor())  # pose = track(frame, timestamp), frame after frame

Importing this package stays light: torch is only loaded by the parts that train, import or export.
"""

from importlib import import_module

from featherpose.pose import Pose
from featherpose.skeletons import COCO17, LSP14, MPII16, Skeleton, load_skeleton

__version__ = "0.1.0"
__all__ = [
    "COCO17", "LSP14", "MPII16", "Pose", "Predictor", "SeveralTracker", "Skeleton", "Tracker", "__version__", "load_skeleton",
]  # fmt: skip

LATER = {
    "Predictor": "featherpose.runtime.predictor",
    "SeveralTracker": "featherpose.runtime.several",
    "Tracker": "featherpose.runtime.tracker",
}
"""Name -> module of what is imported when it is first asked for."""


def __getattr__(name: str):
    if name not in LATER:
        raise AttributeError(f"module 'featherpose' has no attribute '{name}'")
    return getattr(import_module(LATER[name]), name)
