"""The command ``kerasall explain``. Heavy imports stand inside it."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasall.cli.console import (
    RESEARCH_ONLY,
    MaxPixelsOption,
    MaxSideOption,
    ModelArgument,
    note,
    require_place,
    show_progress,
)
from kerasall.errors import DecodingError, ModelError, SettingsError, count_of, did_you_mean
from kerasall.files import atomic_path, write_json
from kerasall.paths import runs_folder, shorten_name
from kerasall.shown_text import show
from kerasall.studies.finished_run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kerasall.report.figures_explanation import ExplainedImage
    from kerasall.serving.explanation import ServedExplanation
    from kerasall.serving.predictor import Predictor


SCHEMA_VERSION = 1

MOST_IN_GRID = 48

TITLES = {"grad_cam": "Grad-CAM", "grad_cam_plus_plus": "Grad-CAM++"}


def explain(
    model: ModelArgument,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Image files, folders, patterns.")
    ] = None,
    wrong_member: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In place of PATH: the scored images of a run that this member calls wrongly and the ensemble rightly.",
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Of these so many, the member's surest mistakes.")] = 12,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="Class to explain; default the one that is called."),
    ] = None,
    method: Annotated[str, typer.Option(help="grad_cam or grad_cam_plus_plus.")] = "grad_cam",
    out: Annotated[
        Path | None,
        typer.Option(
            callback=require_place, help="Folder of the pictures; default runs/explanations/<model>."
        ),
    ] = None,
    max_side: MaxSideOption = None,
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Show where in images a model sees its answer; exit status 1 if any failed."""
    from kerasall.decoding import with_limits
    from kerasall.runtime import quiet_tensorflow

    if method not in TITLES:
        cure = did_you_mean(method, TITLES, "choose one of these")
        raise SettingsError(f"the method must be one of {', '.join(TITLES)}, but is {method!r}: {cure}")
    run = Run.find(model)
    paths, told = _choose_images(run, images or [], wrong_member or "", most)
    with quiet_tensorflow():
        from kerasall.serving.explanation import find_class, require_explainable
        from kerasall.serving.predictor import Predictor, describe_verdict

        predictor = Predictor(run.saved_model or run.exported)
    predictor.limits = with_limits(predictor.limits, max_side, max_pixels)
    require_explainable(predictor, run.no_maps)
    chosen = None if class_name is None else find_class(predictor.labels, class_name)
    folder = out or runs_folder() / "explanations" / "_wrong_".join(filter(None, [run.title, wrong_member]))
    if run.saved_model:
        note(describe_verdict(run.saved_model))
    else:
        note(f"run {run.name}: {run.words.get('verdict') or 'no verdict yet'}")
    rows, shown = _explain_all(predictor, paths, chosen, method, folder, told)
    document = {"model": str(predictor.folder), "method": method, "no_maps": run.no_maps, "images": rows}
    _write_summary(folder, document, shown)
    _tell(run, rows, folder, bool(shown))
    if any(row["error"] for row in rows):
        raise typer.Exit(1)


def _tell(run: Run, rows: list[dict[str, Any]], folder: Path, has_grid: bool) -> None:
    """What was explained, what failed, and where it lies."""
    for name, reason in run.no_maps.items():
        note(f"the maps leave out {name}: {reason}")
    failed = [row["error"] for row in rows if row["error"]]
    note(f"{count_of(len(rows), 'file')}, {len(failed)} failed")
    for error in failed:
        note(f"failed: {error}")
    show(f"pictures: {folder}", *([f"grid:     {folder / 'grid.png'}"] if has_grid else []))
    show(f"numbers:  {folder / 'explanations.json'}")
    note(f"A map shows what moved the model, not what a cell is. {RESEARCH_ONLY}")


def _choose_images(run: Run, images: list[str], member: str, most: int) -> tuple[list[Path], dict[Path, str]]:
    """The images that are named, or those that a member gets wrong and the ensemble right, and what it calls each."""
    from kerasall.report.format import format_value
    from kerasall.serving.image_files import find_images
    from kerasall.studies.stated_images import list_put_right

    if bool(images) == bool(member):
        raise SettingsError(
            "the images to explain must be named by PATH or chosen by --wrong-member, but "
            + ("both are given: leave one out" if images else "neither is given: add one")
        )
    if images:
        return find_images(images, note), {}
    found = list_put_right(run, member)
    if not found:
        raise SettingsError(
            f"--wrong-member must be a member that the ensemble puts right somewhere, but {member} is wrong nowhere that "
            "the ensemble is right: name another, or images"
        )
    note(
        f"{member} is wrong and the ensemble right on {count_of(len(found), 'scored image')}; shown: {min(most, len(found))}"
    )
    shown = found[:most]
    told = {each.path: f"{member} called {each.called} {format_value(each.probability)}" for each in shown}
    return list(told), told


def _explain_all(
    predictor: Predictor,
    paths: list[Path],
    chosen: int | None,
    method: str,
    folder: Path,
    told: dict[Path, str],
) -> tuple[list[dict[str, Any]], list[ExplainedImage]]:
    """One row a file, in order, with its picture written; and the first images for the grid."""
    from kerasall.decoding import read_image_bytes
    from kerasall.report.figures_explanation import draw_explanation
    from kerasall.serving.explanation import explain_image
    from kerasall.serving.image_files import as_written

    rows: list[dict[str, Any]] = []
    shown: list[ExplainedImage] = []
    taken: set[str] = set()
    with show_progress(len(paths), "explaining") as advance:
        for path in paths:
            advance(1)
            try:
                data = read_image_bytes(path, predictor.limits)
                found = explain_image(predictor, data, str(path), chosen, method)
            except (DecodingError, ModelError) as error:
                rows.append({"path": as_written(str(path)), "error": as_written(str(error))})
                continue
            file = _name_picture(path, taken)
            image = _to_draw(path, found, predictor.labels, told.get(path, ""))
            figure, words = draw_explanation(image)
            _save(figure, folder / "overlays" / file)
            rows.append(_row(path, found, predictor.labels) | {"picture": f"overlays/{file}", "alt": words})
            if len(shown) < MOST_IN_GRID:
                shown.append(image)
    return rows, shown


def _name_picture(path: Path, taken: set[str]) -> str:
    """A name of its own for an image's picture, also where upper and lower case are one; ``taken`` takes it up."""
    from kerasall.serving.image_files import as_written

    stem, number = as_written(path.stem), 1
    while True:
        file = shorten_name(stem if number == 1 else f"{stem}_{number}", ".png")
        key = unicodedata.normalize("NFC", file).casefold()
        if key not in taken:
            taken.add(key)
            return file
        number += 1


def _to_draw(path: Path, found: ServedExplanation, labels: tuple[str, ...], told: str) -> ExplainedImage:
    from kerasall.report.figures_explanation import ExplainedImage
    from kerasall.serving.image_files import as_written

    called, explained = labels[found.label_index], labels[found.class_index]
    words = f"called {called} {100 * found.probabilities[found.label_index]:.1f}%"
    if called != explained:
        words += f" · evidence for {explained} ({100 * found.probabilities[found.class_index]:.1f}%)"
    words += f" · {told}" if told else ""
    members = tuple(
        (f"{name} · weight {weight:.2f}" + ("" if has else " · no positive evidence"), heatmap)
        for name, weight, has, heatmap in zip(
            found.names, found.weights, found.has_evidence, found.member_heatmaps, strict=True
        )
    )
    return ExplainedImage(
        as_written(path.name), f"{words} · {TITLES[found.method]}", found.pixels, found.heatmap,
        members if len(members) > 1 else (), bool(found.has_evidence.any()),
    )  # fmt: skip


def _row(path: Path, found: ServedExplanation, labels: tuple[str, ...]) -> dict[str, Any]:
    from kerasall.serving.image_files import as_written

    peak = divmod(int(found.heatmap.argmax()), found.heatmap.shape[1])
    networks = [
        {
            "name": name,
            "weight": float(weight),
            "positive_evidence": bool(has),
            "raw": dict(zip(("minimum", "mean", "maximum"), map(float, raw), strict=True)),
        }
        for name, weight, has, raw in zip(
            found.names, found.weights, found.has_evidence, found.raw, strict=True
        )
    ]
    evidence = bool(found.has_evidence.any())
    return {
        "path": as_written(str(path)),
        "label": labels[found.label_index],
        "probability": float(found.probabilities[found.label_index]),
        "explained_class": labels[found.class_index],
        "explained_probability": float(found.probabilities[found.class_index]),
        "positive_evidence": evidence,
        "size": list(found.heatmap.shape),
        "peak": list(peak) if evidence else None,
        "mean": float(found.heatmap.mean()),
        "networks": networks,
        "error": "",
    }


def _write_summary(folder: Path, document: dict[str, Any], shown: list[ExplainedImage]) -> None:
    from kerasall.report.figures_explanation import draw_explanation_grid

    if shown:
        figure, document["grid_alt"] = draw_explanation_grid(shown)
        _save(figure, folder / "grid.png")
        rest = sum(not row["error"] for row in document["images"]) - len(shown)
        if rest:
            note(f"the grid shows the first {MOST_IN_GRID} images; {rest} more have pictures of their own")
    write_json(folder / "explanations.json", {"schema_version": SCHEMA_VERSION, **document})


def _save(figure: Figure, path: Path) -> None:
    from kerasall.report.figures_explanation import DOTS_PER_INCH
    from kerasall.report.figures_style import figure_to_png

    with atomic_path(path) as temporary:
        temporary.write_bytes(figure_to_png(figure, DOTS_PER_INCH))
