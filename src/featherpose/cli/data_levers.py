"""`featherpose data balance`, `scale`, `augment` and `background`: what the levers on the data would do, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherpose.cli.folder import results_folder

DataPath = Annotated[Path, typer.Argument(help="Label file, or folder with person_keypoints_SPLIT.json.")]
Split = Annotated[str | None, typer.Option(help="Which split of the folder.")]
Skeleton = Annotated[str | None, typer.Option(help="Map the joints onto it: a name, or a .toml or .json file.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")]
OUT = Path("featherpose-out")


def balance(
    path: DataPath,
    split: Split = None,
    strength: Annotated[
        float, typer.Option("--balance", min=0, max=1, help="The recipe's balance: 0 as it is, 1 all groups alike.")
    ] = 1.0,
    groups: Annotated[int, typer.Option(min=1, max=100, help="Groups of poses; training uses 16.")] = 16,
    skeleton: Skeleton = None,
    out: Out = OUT,
) -> None:
    """Group the targets' poses, and show how often each group is seen before and after balancing.

    Writes balance-SPLIT.json and balance-SPLIT.png (shares of an epoch, and each group's mean pose).
    """
    from featherpose.data.balance import balance_report, group_poses, plot_balance

    tag, samples = _samples(path, split, skeleton)
    found = group_poses(samples, groups=groups)
    report = balance_report(found, strength)
    results_folder(out)
    for row in report["groups"]:
        before, after = f"{row['share_before']:.1%}", f"{row['share_after']:.1%}"
        print(f"group {row['group']:>2}: {row['photos']:>6} photos, {before:>6} -> {after:>6}, x {row['times']:.2f}")
    if report["without_group"]:
        print(f"photos in no group (nobody, or too few joints), seen as before: {report['without_group']}")
    _write(out / f"balance-{tag}", report, lambda file: plot_balance(found, report, file, title=f"{path.name} {tag}"))


def scale(
    path: DataPath,
    target: Annotated[
        str, typer.Option(help="LOW,HIGH or LOW,MODE,HIGH in px² at 160 px; or a label file or folder of the target scene.")
    ],
    split: Split = None,
    target_split: Annotated[str | None, typer.Option(help="Which split of the target's folder.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Take \\[augment] of this recipe.")] = None,
    seed: Seed = 0,
    out: Out = OUT,
) -> None:
    """Show how large people come out at the network's input, and how the recipe's joint_area would change that.

    Prints the keys for the recipe. Writes scale-SPLIT.json and scale-SPLIT.png (histograms of the target, before, after).
    """
    from featherpose.data.check import joint_box_areas
    from featherpose.data.scale import plot_scale, scale_report, target_of_areas, target_of_text

    rules = _rules(recipe, [])
    wanted, scene = target_of_text(target), None
    if wanted is None:
        _, scene = _samples(Path(target), target_split, None)
    tag, samples = _samples(path, split, None)
    shared = None
    if scene is not None:
        samples, scene, shared = _on_shared_joints(samples, scene, path, target)
        wanted = target_of_areas(joint_box_areas(scene))
    report = scale_report(samples, rules, wanted, seed=seed, scene=scene)
    if shared is not None:
        report["joints"] = shared
        print(f"the sets have different joints; boxes around those of both are compared: {', '.join(shared)}")
        print("joint_area is right for a recipe whose skeleton has these joints and no others")
    results_folder(out)
    median, common = report["median"], report["common_with_target"]
    print(f"joint-box area, {report['unit']}; median of the target {median['target']:,.0f}")
    for name in ("before", "after"):
        print(f"{name}: median {median[name]:,.0f}, in common with the target {common[name]:.0%}")
    print(f"[augment]\njoint_area = {report['joint_area']}\njoint_area_mode = {report['joint_area_mode']}")
    _write(out / f"scale-{tag}", report, lambda file: plot_scale(report, file, title=f"{path.name} {tag}"))


def augment(
    path: DataPath,
    split: Split = None,
    recipe: Annotated[Path | None, typer.Option(help="Take \\[augment] of this recipe.")] = None,
    rules: Annotated[
        list[str] | None, typer.Option("--set", help="A key of \\[augment], as in drop_joints=1.", metavar="KEY=VALUE")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many photos are drawn.")] = 24,
    input_size: Annotated[int, typer.Option(min=32, help="Network input, pixels.")] = 192,
    skeleton: Skeleton = None,
    seed: Seed = 0,
    out: Out = OUT,
) -> None:
    """Draw what training sees: augmented pictures, without and with the joints the network must find.

    Writes augment-SPLIT.png.
    """
    from featherpose.data.augment_sheet import augment_sheet
    from featherpose.data.target_sheet import save_png

    filled = _rules(recipe, rules or [])
    tag, samples = _samples(path, split, skeleton)
    picture = augment_sheet(samples, filled, size_wh=(input_size, input_size), count=count, seed=seed)
    if picture is None:
        raise ValueError(f"{path}: none of the photos that were drawn can be read")
    results_folder(out)
    print(save_png(out / f"augment-{tag}.png", picture))


def background(
    path: DataPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new set.")],
    split: Split = None,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier set of this name.")] = False,
) -> None:
    """Cut parts that touch nobody's box out of labelled photos, as a set without people.

    For `evaluate --nobody`, or as \\[\\[data]] of a recipe. Look at the pictures: people who are not labelled are in them.
    """
    from functools import partial

    from featherpose.cli.progress import rate_bar
    from featherpose.data.background import write_background
    from featherpose.data.readers import find_labels

    tag, samples = _samples(path, split, None)
    with rate_bar("photos") as bar:
        track = partial(bar.track, description="cut")
        labels, count, unreadable = write_background(
            samples, out, split=tag, seed=seed, overwrite=overwrite, source=find_labels(path, split=split), track=track
        )
    if unreadable:
        print(f"photos that cannot be read: {unreadable} (featherpose data check {path} names them)")
    print(f"parts without people: {count}, from {len(samples)} photos")
    print(labels)


def _samples(path: Path, split: str | None, skeleton: str | None) -> tuple[str, list]:
    """Name of the split and its samples; labels that cannot be true are left out and counted."""
    from featherpose.data.readers import find_labels, read_dataset
    from featherpose.skeletons import load_skeleton

    labels = find_labels(path, split=split)
    problems: list = []
    wanted = None if skeleton is None else load_skeleton(skeleton)
    samples = read_dataset(labels, skeleton=wanted, problems=problems)
    if problems:
        typer.echo(f"{len(problems)} labels cannot be true and were left out: featherpose data check {path}", err=True)
    return labels.stem.removeprefix("person_keypoints_"), samples


def _on_shared_joints(samples: list, scene: list, path: Path, target: str) -> tuple[list, list, list[str] | None]:
    """Both sets with the joints that both have, by name, and these; as they are, and None, when they have the same.

    ValueError when they share fewer than two.
    """
    from featherpose.data.sample import to_skeleton
    from featherpose.skeletons import Skeleton, joint_mapping

    if not samples or not scene:
        return samples, scene, None
    ours, theirs = samples[0].skeleton, scene[0].skeleton
    shared = [joint for joint, place in zip(ours.joints, joint_mapping(theirs, ours), strict=True) if place >= 0]
    if len(shared) == len(ours) == len(theirs):
        return samples, scene, None
    if len(shared) < 2:
        raise ValueError(
            f"{path} and {target} share fewer than two joints ({', '.join(shared) or 'none'}), so areas of their joint boxes "
            "do not compare; give --target as LOW,HIGH"
        )
    skeleton = Skeleton("shared", tuple(shared))
    return [to_skeleton(s, skeleton) for s in samples], [to_skeleton(s, skeleton) for s in scene], shared


def _rules(recipe: Path | None, overrides: list[str]):
    """[augment] of a recipe, or the defaults, with KEY=VALUE overrides; ValueError by name."""
    from featherpose.data.augment import Augmentation
    from featherpose.toml import TOMLDecodeError, loads
    from featherpose.train.fill import fill

    facts: dict = {}
    if recipe is not None:
        try:
            facts = loads(recipe.read_text(encoding="utf-8")).get("augment", {})
        except FileNotFoundError as error:
            raise ValueError(f"{recipe}: there is no such recipe") from error
        except (TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
            raise ValueError(f"{recipe}: not a TOML recipe ({error})") from error
    for override in overrides:
        name, _, text = override.partition("=")
        try:
            facts[name.strip().removeprefix("augment.")] = loads(f"value = {text}")["value"]
        except TOMLDecodeError as error:
            raise ValueError(f"--set '{override}' is not KEY=VALUE, as in drop_joints=1.0") from error
    return fill(Augmentation, facts, "augment")


def _write(stem: Path, report: dict, plot) -> None:
    """STEM.json, and STEM.png where matplotlib is installed."""
    import json

    from featherpose.runtime.report import write_whole

    file = stem.with_name(f"{stem.name}.json")
    write_whole(file, lambda part: part.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", "utf-8"))
    print(file)
    picture = stem.with_name(f"{stem.name}.png")
    try:
        plot(picture)
    except ImportError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        print("no picture: it needs matplotlib (pip install 'featherpose[train]')")
    else:
        print(picture)
