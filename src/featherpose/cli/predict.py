"""`featherpose predict`: joints of the target person in photos, as drawings, JSON and CSV."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherpose.cli.folder import results_folder

if TYPE_CHECKING:
    from featherpose.runtime.predictor import Predictor


def predict(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.", metavar="PHOTO|FOLDER")],
    model: Annotated[str | None, typer.Option(help="Model file, or the name of one that comes along.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("featherpose-out"),
    point: Annotated[str | None, typer.Option(metavar="X,Y", help="Take the person nearest this point.")] = None,
    box: Annotated[str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="Take the person in this box.")] = None,
    people: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Find up to N people, surest first, instead of one.")
    ] = None,
    refine: Annotated[bool, typer.Option(help="Look a second time, closer.")] = True,
    threads: Annotated[int, typer.Option(help="Threads for one photo.")] = 1,
    threshold: Annotated[float | None, typer.Option(help="Draw joints from this score on, not the model's.")] = None,
    drawing: Annotated[bool, typer.Option(help="Draw the pose over each photo.")] = True,
) -> None:
    """Find the joints of the target person: the one nearest the middle, or --point, or --box, in photo pixels; or of
    several with --people.

    Writes poses.json, poses.csv and a drawing of each photo. A photo that cannot be read is reported and left out, and
    the exit code is 1.
    """
    from featherpose.runtime.photos import list_photos
    from featherpose.runtime.predictor import Predictor
    from featherpose.runtime.several import SeveralTracker

    place = {
        "point": None if point is None else parse_numbers(point, "--point", "X,Y"),
        "box": None if box is None else parse_numbers(box, "--box", "X1,Y1,X2,Y2"),
    }
    if point is not None and box is not None:
        raise ValueError("give --point or --box, not both")
    if people is not None and (point is not None or box is not None):
        raise ValueError("give --people, or --point or --box of one person, not both")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold must lie in [0, 1], got {threshold:g}")
    paths = list_photos(photos)
    predictor = Predictor(model, threads=threads, refine=refine)
    results_folder(out)
    if people is not None:
        SeveralTracker(predictor)  # refuses models that find one person, before anything is written
    skipped = predict_all(predictor, paths, place, out, threshold=threshold, drawing=drawing, people=people)
    if skipped:
        raise typer.Exit(1)


def predict_all(
    predictor: Predictor,
    photos: list[Path],
    place: dict,
    out: Path,
    *,
    threshold: float | None,
    drawing: bool,
    people: int | None = None,
) -> int:
    """Writes the report and the drawings into `out`; returns how many photos were skipped.

    place: `point` and `box` as Predictor takes them. people: up to so many instead of one. Ctrl-C still writes what was
    found until then.
    """
    from featherpose.cli.progress import rate_bar
    from featherpose.runtime.draw import draw_people, draw_pose
    from featherpose.runtime.photos import DRAWN_SUFFIX, read_photo
    from featherpose.runtime.report import Finding, Skipped, drawing_names, is_found, write_picture, write_report
    from featherpose.runtime.several import everybody

    spec = predictor.spec
    threshold = spec.joint_threshold if threshold is None else threshold
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    found = 0

    def finish() -> None:
        write_report(out, findings, skipped, spec, asked=len(photos))

    start = time.perf_counter()
    try:
        with rate_bar("photos") as bar:
            names = drawing_names(photos, DRAWN_SUFFIX)
            for photo, name in bar.track(list(zip(photos, names, strict=True)), description="predict"):
                try:
                    image = read_photo(photo)
                    poses = [predictor(image, **place)] if people is None else everybody(predictor, image, people)
                except (OSError, ValueError) as error:
                    reason = str(error) if str(photo) in str(error) else f"{photo}: {error}"
                    skipped.append(Skipped(photo, reason))
                    bar.console.print(f"error: {reason}", markup=False, highlight=False, soft_wrap=True)
                    continue
                seen = [pose for pose in poses if is_found(pose, spec)]
                found += bool(seen)
                if drawing and people is not None:
                    write_picture(out / name, draw_people(image, dict(enumerate(seen, 1)), threshold))
                elif drawing:
                    write_picture(out / name, draw_pose(image, seen[0], threshold) if seen else image)
                who = {"pose": poses[0]} if people is None else {"people": seen}
                height, width = image.shape[:2]
                findings.append(Finding(photo, (width, height), drawing=name if drawing else None, **who))
    except KeyboardInterrupt:
        finish()
        raise
    finish()
    seconds = time.perf_counter() - start
    drawings = " and the drawings" if drawing and findings else ""
    print(
        f"{len(findings)} of {len(photos)} photos done, somebody found in {found} "
        f"({len(photos) / seconds:.1f} photos/s); {len(skipped)} skipped"
    )
    print(f"{out}: poses.json, poses.csv{drawings}")
    return len(skipped)


def parse_numbers(text: str, option: str, form: str) -> tuple[float, ...]:
    """The numbers of an option such as `--point 320,240`; form says how many: "X,Y"."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != form.count(",") + 1 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{option} must be {form} in photo pixels, without spaces, got '{text}'")
    return values
