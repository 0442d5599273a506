"""A trained network as a teacher: its maps of the pictures of a step are the targets of the loss `imitation`."""

from __future__ import annotations

import torch
from torch import Tensor

from featherpose.codecs import build_codec
from featherpose.losses import IMITATED
from featherpose.skeletons import Skeleton
from featherpose.systems.files import load_network


class Teacher:
    """A frozen model of ours, of any size, with the joints and the grid of the network that learns."""

    def __init__(self, path: str, skeleton: Skeleton, codec: dict, device: torch.device, amp: str) -> None:
        """path: a .safetensors model. codec, amp: the recipe's model.codec and train.amp.

        FileNotFoundError or ValueError when it is not there, no model, or one of other joints or another grid.
        """
        network, spec = load_network(path)
        if spec.skeleton.joints != skeleton.joints:
            raise ValueError(
                f"{path}: the teacher's joints are those of skeleton '{spec.skeleton.name}', the recipe's of "
                f"'{skeleton.name}'; a teacher must have the same joints in the same order"
            )
        theirs, own = (build_codec(facts, spec.input_size, len(skeleton)) for facts in (spec.codec, codec))
        if type(theirs) is not type(own) or theirs.stride != own.stride:
            raise ValueError(
                f"{path}: the teacher's maps are those of codec {spec.codec}, the recipe's of {codec}; a teacher must "
                "have the same codec and stride"
            )
        self.network = network.requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.amp = amp

    @torch.no_grad()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Targets `imitation_<map>`, float32, for pictures (B, 3, H, W) RGB, 0..255."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
            maps = self.network(image)
        return {f"imitation_{name}": maps[name].float() for name in IMITATED}
