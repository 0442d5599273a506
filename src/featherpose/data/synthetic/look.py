"""What people wear: colours, cuts and patterns of cloth, hair, and how to draw lots for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Colour = tuple[float, float, float]
"""RGB in [0, 1]."""


@dataclass(frozen=True)
class Cloth:
    """One kind of cloth."""

    colour: Colour = (0.3, 0.35, 0.5)
    second: Colour = (0.9, 0.9, 0.9)
    pattern: str = "plain"
    """One of PATTERNS."""
    size: float = 0.06
    """Metres of one repeat of the pattern."""
    thickness: float = 0.006
    """Metres between skin and cloth."""
    loose: float = 0.2
    """0 tight to 1 wide."""
    waves: tuple[tuple[float, float, int, float], ...] = ()
    """Folds as (depth as share of the radius, radians per metre along, waves around, phase)."""
    seed: int = 0
    """Of the fine grain."""

    def paint(self, along: np.ndarray, across: np.ndarray) -> np.ndarray:
        """(..., 3) float64 colours at places of the cloth in metres (along the limb, round it)."""
        repeat = 2 * np.pi / self.size
        if self.pattern == "stripes":
            share = np.sin(repeat * along) > 0.1
        elif self.pattern == "pinstripes":
            share = np.sin(2 * repeat * across) > 0.6
        elif self.pattern == "checks":
            share = 0.5 * (np.sin(repeat * along) > 0.2) + 0.5 * (np.sin(repeat * across) > 0.2)
        elif self.pattern == "dots":
            share = np.sin(repeat * along) * np.sin(repeat * across) > 0.45
        elif self.pattern == "camouflage":
            share = np.sin(21 * along + 3 * np.sin(17 * across)) + np.sin(26 * across + 2 * np.sin(23 * along)) > 0.3
        elif self.pattern == "fade":
            share = np.clip(0.5 + along, 0, 1)
        else:
            share = np.zeros_like(along)
        colour = np.asarray(self.colour) + np.asarray(share, dtype=np.float64)[..., None] * np.subtract(
            self.second, self.colour
        )
        return colour * (0.98 + 0.04 * self.grain(*along.shape))[..., None]

    def grain(self, rows: int, columns: int) -> np.ndarray:
        """(rows, columns) in [0, 1): the same every time."""
        return np.random.default_rng(self.seed).random((rows, columns))


PATTERNS = ("plain", "stripes", "pinstripes", "checks", "dots", "camouflage", "fade")


@dataclass(frozen=True)
class Look:
    """Skin, hair and clothes of a person. The units of cuts are those of the body tables in `figure.py`."""

    skin: Colour = (0.80, 0.60, 0.48)
    hair: Colour = (0.16, 0.10, 0.06)
    hair_style: str = "short"
    """One of HAIR_STYLES."""
    eyes: Colour = (0.25, 0.16, 0.08)
    lips: Colour = (0.70, 0.38, 0.36)
    smile: float = 0.3
    beard: float = 0.0
    hat: Colour | None = None
    glasses: Colour | None = None
    top: Cloth = field(default_factory=Cloth)
    sleeve: float = 0.5
    """Where the sleeve ends: 0 none, 1 elbow, 2 wrist."""
    hem: float = 0.05
    """Share of the spine where the top ends (0 hips, 0.4 waist)."""
    neckline: float = 0.04
    """Depth of the neckline, share of the spine."""
    open_front: Colour | None = None
    """What shows between the halves of an open jacket."""
    logo: Colour | None = None
    bottom: Cloth = field(default_factory=lambda: Cloth(colour=(0.15, 0.18, 0.28)))
    leg_end: float = 1.93
    """Where the trousers end: 0.4 shorts, 1 knee, 2 ankle, below 0 none."""
    skirt: float = 0.0
    """Length of a skirt in thighs, 0 for none."""
    skirt_flare: float = 0.5
    dress: bool = False
    """The skirt is cut from the cloth of the top."""
    shoe: Colour | None = (0.1, 0.1, 0.1)
    sole: Colour | None = (0.85, 0.85, 0.85)
    gloves: Colour | None = None


HAIR_STYLES = ("bald", "short", "short", "crop", "bob", "long", "bun", "ponytail", "curly")

SKINS = np.array([
    (0.96, 0.80, 0.70), (0.92, 0.73, 0.61), (0.86, 0.66, 0.52), (0.78, 0.57, 0.43), (0.66, 0.46, 0.33),
    (0.53, 0.36, 0.25), (0.41, 0.27, 0.19), (0.29, 0.19, 0.14),
])  # fmt: skip
"""From light to dark, by eye."""

HAIRS = ((0.06, 0.05, 0.05), (0.14, 0.09, 0.06), (0.28, 0.17, 0.09), (0.45, 0.28, 0.14), (0.72, 0.55, 0.32),
         (0.55, 0.22, 0.10), (0.62, 0.61, 0.60), (0.85, 0.84, 0.82))  # fmt: skip


EYES = ((0.25, 0.16, 0.08), (0.2, 0.35, 0.45), (0.2, 0.3, 0.18))


def random_colour(rng: np.random.Generator) -> Colour:
    """A colour of clothes: much black, white, grey and navy, some bright ones."""
    kind = rng.random()
    if kind < 0.45:
        base = np.full(3, rng.choice([0.07, 0.12, 0.25, 0.5, 0.85, 0.93])) + rng.normal(0, 0.02, 3)
    elif kind < 0.62:
        base = np.array([0.12, 0.17, 0.32]) * rng.uniform(0.6, 2.2) + rng.normal(0, 0.02, 3)
    elif kind < 0.75:
        base = np.array([0.55, 0.45, 0.32]) * rng.uniform(0.5, 1.4) + rng.normal(0, 0.03, 3)
    else:
        hue, value, chroma = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.95), rng.uniform(0.4, 0.9)
        base = value * (1 - chroma * (0.5 - 0.5 * np.cos(hue - np.array([0.0, 2.09, 4.19]))))
    return tuple(float(v) for v in np.clip(base, 0.03, 0.97))


def random_cloth(rng: np.random.Generator, *, plain: float, loose: tuple[float, float]) -> Cloth:
    """Cloth of random colours and folds; `plain` is the chance of no pattern."""
    pattern = "plain" if rng.random() < plain else str(rng.choice(PATTERNS[1:]))
    width = float(rng.uniform(*loose))
    waves = tuple(
        (
            float(rng.uniform(0.004, 0.022) * (0.4 + width)),
            float(rng.uniform(-60, 60)),
            int(rng.integers(1, 5)),
            float(rng.uniform(0, 6.3)),
        )
        for _ in range(4)
    )
    return Cloth(
        colour=random_colour(rng), second=random_colour(rng), pattern=pattern, size=float(rng.uniform(0.05, 0.16)),
        thickness=float(rng.uniform(0.004, 0.014)), loose=width, waves=waves, seed=int(rng.integers(2**31)),
    )  # fmt: skip


def random_look(rng: np.random.Generator, *, woman: bool = False, child: bool = False) -> Look:
    """Somebody's skin, hair and clothes."""
    place = rng.uniform(0, len(SKINS) - 1)
    skin = np.array([np.interp(place, np.arange(len(SKINS)), SKINS[:, i]) for i in range(3)]) + rng.normal(0, 0.012, 3)
    hair = HAIRS[int(rng.integers(4 if place > 4 else 6 if child else len(HAIRS)))]
    styles = (
        ("bob", "long", "long", "bun", "ponytail", "short", "curly")
        if woman
        else ("short", "short", "crop", "curly", "bald")
    )
    if child and not woman:
        styles = ("short", "crop", "curly")
    top = random_cloth(rng, plain=0.6, loose=(0.0, 0.6))
    bottom = random_cloth(rng, plain=0.9, loose=(0.0, 0.5))
    sport = rng.random() < 0.12
    cut = rng.random()
    skirted = woman and rng.random() < 0.3
    leg_end = 0.0 if skirted else 1.95 if cut < 0.62 else rng.uniform(0.35, 0.9) if cut < 0.9 else rng.uniform(1.2, 1.7)
    coat = not skirted and not sport and rng.random() < 0.1
    sleeve = float(rng.choice([0.0, 0.42, 0.5, 0.6, 1.3, 1.94, 1.94, 1.94]))
    if coat:
        sleeve = 1.94
    return Look(
        skin=tuple(float(v) for v in np.clip(skin, 0.08, 0.98)),
        hair=tuple(float(v) for v in np.clip(np.array(hair) + rng.normal(0, 0.015, 3), 0.02, 1)),
        hair_style=str(rng.choice(styles)), eyes=EYES[int(rng.integers(3)) if place < 3 else 0],
        lips=tuple(float(v) for v in np.clip(skin * np.array([0.92, 0.62, 0.65]), 0, 1)),
        smile=float(rng.uniform(-0.1, 1.0)),
        beard=float(rng.uniform(0.4, 1)) if not (woman or child) and rng.random() < 0.3 else 0.0,
        hat=random_colour(rng) if rng.random() < 0.16 else None,
        glasses=random_colour(rng) if rng.random() < 0.15 else None,
        top=top, sleeve=sleeve, hem=float(rng.uniform(-0.12, 0.22)), neckline=float(rng.choice([0.0, 0.03, 0.08, 0.2])),
        open_front=random_colour(rng) if sleeve > 1.5 and rng.random() < 0.3 else None,
        logo=random_colour(rng) if rng.random() < 0.2 else None, bottom=bottom,
        leg_end=float(leg_end), skirt=float(rng.uniform(0.45, 1.5) if skirted else rng.uniform(0.5,
        1.1) if coat else 0),
        skirt_flare=float(rng.uniform(0.1, 0.9)) if skirted else 0.2, dress=coat or bool(rng.random() < 0.5),
        shoe=None if rng.random() < 0.12 else random_colour(rng),
        sole=None if rng.random() < 0.4 else (0.88, 0.88, 0.86),
        gloves=random_colour(rng) if rng.random() < 0.05 else None,
    )  # fmt: skip
