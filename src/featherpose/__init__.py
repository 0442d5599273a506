"""featherpose: from labelled photos to a human-pose model in real time on weak hardware.

    from featherpose import Predictor
    pose = Predictor()("photo.jpg")

Importing this package stays light: torch is only loaded by the parts that train, import or export.
"""

from featherpose.pose import Pose
from featherpose.skeletons import COCO17, LSP14, MPII16, Skeleton, load_skeleton

__version__ = "0.1.0"
__all__ = ["COCO17", "LSP14", "MPII16", "Pose", "Predictor", "Skeleton", "__version__", "load_skeleton"]


def __getattr__(name: str):
    if name == "Predictor":
        from featherpose.runtime.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'featherpose' has no attribute '{name}'")
