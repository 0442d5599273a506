"""Pictures of people that nobody photographed: procedural figures with exact joints.

`draw_scene` gives a random picture and its labels; `draw_figures` draws given figures, for tests and moving pictures.
The sample of the demo, data/samples/demo.png, is
`draw_seed(2098, (640, 480), 2, 0, pose="yoga", backdrop="room", effects=False, detail=2)` of version 0.1.0.
"""

from featherpose.data.synthetic.backdrop import BACKDROPS
from featherpose.data.synthetic.body import BodyPose, BodyShape, blend_poses, mirror_pose
from featherpose.data.synthetic.draw import Occluder, draw_figures
from featherpose.data.synthetic.figure import Figure, mirror_figure
from featherpose.data.synthetic.look import Cloth, Look, random_look
from featherpose.data.synthetic.poses import POSES, random_pose, random_shape
from featherpose.data.synthetic.render import Camera, Light, mirror_camera
from featherpose.data.synthetic.scene import draw_scene, draw_seed, random_figure

__all__ = [
    "BACKDROPS", "POSES", "BodyPose", "BodyShape", "Camera", "Cloth", "Figure", "Light", "Look", "Occluder",
    "blend_poses", "draw_figures", "draw_scene", "draw_seed", "mirror_camera", "mirror_figure", "mirror_pose",
    "random_figure", "random_look", "random_pose", "random_shape",
]  # fmt: skip
