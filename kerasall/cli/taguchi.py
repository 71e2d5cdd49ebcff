"""The commands ``kerasall taguchi plan`` and ``kerasall taguchi analyze``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasall.cli.console import ExcelOption, JsonOption, note, print_found, require_place
from kerasall.errors import DataError, SettingsError

if TYPE_CHECKING:
    from kerasall.taguchi.analysis import Analysis

taguchi_app = typer.Typer(
    name="taguchi",
    help="Plan experiments on orthogonal arrays, and analyse anybody's results.",
    no_args_is_help=True,
)


InteractionsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="A*B", help="An interaction of two factors that is to be estimated; repeat it."),
]
ScoredAloneOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A noise factor under which nothing was made anew, only measured or scored anew; repeat it.",
    ),
]


@taguchi_app.command()
def plan(
    factors: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LEVEL,LEVEL,...", help="A factor, or a YAML file of factors; repeat it."),
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=LEVEL,...]...", help="Further factors.")
    ] = None,
    array: Annotated[
        str, typer.Option(help="auto (fewest runs) or a name such as L9 or L18(2^1 3^7).")
    ] = "auto",
    error_df: Annotated[int, typer.Option(min=0, help="Degrees of freedom to leave for the error.")] = 0,
    interactions: InteractionsOption = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LEVEL,LEVEL,...",
            help="A noise factor: every row is run under each of its levels, or all their combinations; repeat it.",
        ),
    ] = None,
    noise_array: Annotated[
        str, typer.Option(help="Of the noise factors: every (all combinations), auto or a name such as L8.")
    ] = "every",
    repeats: Annotated[
        int | None,
        typer.Option(
            min=0, help="Empty response columns in the file of --out; 3, with noise 1.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(callback=require_place, help="CSV file to fill in for taguchi analyze.")
    ] = None,
    excel: ExcelOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the runs of the smallest orthogonal array that fits the factors."""
    from kerasall.files import write_text
    from kerasall.report.taguchi import describe_plan
    from kerasall.taguchi.design import plan as make_plan

    given, outer = _read_factors([*(factors or []), *(more or [])]), _read_factors(noise or [])
    made = make_plan(
        given,
        array=array,
        error_df=error_df,
        interactions=_split_all(interactions),
        noise=outer,
        noise_array=noise_array,
    )
    print_found(as_json, made.to_json(), lambda: describe_plan(made))
    if out:
        repeats = (1 if outer else 3) if repeats is None else repeats
        write_text(out, ("\ufeff" if excel else "") + made.to_csv(repeats))
        named = {**made.factors, **(made.noise.factors if made.noise else {})}
        levels = " ".join(f'--levels "{n}={",".join(map(str, v))}"' for n, v in named.items())
        levels += "".join(f' --interactions "{a}*{b}"' for a, b in made.crossed)
        note(f"Fill in {out}, then: kerasall taguchi analyze {out} {levels}")


@taguchi_app.command()
def analyze(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Level numbers by factor; noise:NAME, ...; y1, y2, ...")
    ],
    signal: Annotated[
        str, typer.Option(help="larger, smaller, nominal, target:M, target-runs:M, omega or mean.")
    ] = "larger",
    levels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A=adam,sgdm,adam", help="Names of a factor's levels; equal ones are dummy levels."
        ),
    ] = None,
    levels_as: Annotated[
        str, typer.Option(help="dummy merges levels of equal name; separate does not.")
    ] = "dummy",
    pool: Annotated[
        str, typer.Option(metavar="F1,F2", help="Factors to take for error; half: the smallest.")
    ] = "",
    interactions: InteractionsOption = None,
    confirm: Annotated[
        str, typer.Option(metavar="Y,Y,...", help="Responses of runs made at the predicted optimum.")
    ] = "",
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images behind every response, for signal omega.")
    ] = None,
    scored_alone: ScoredAloneOption = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures, as SVG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Signal-to-noise ratios, response table, analysis of variance and predicted optimum."""
    from kerasall.report.taguchi import describe_analysis
    from kerasall.taguchi import analysis
    from kerasall.taguchi.design import NOISE
    from kerasall.taguchi.result_file import read_results

    results = read_results(file)
    pooled = _split(pool)
    twice = "--levels must name a factor once, but names {name} twice: leave one out"
    named = _collect(map(_read_factor, levels or []), twice)
    options: dict[str, Any] = {
        "levels": {name.removeprefix(NOISE): values for name, values in named.items()},
        "noise": results.noise,
        "levels_as": levels_as,
        "pool": analysis.HALF if pooled == [analysis.HALF] else pooled,
        "confirmation": _read_numbers(confirm) if confirm else None,
        "confidence": confidence,
        "images": images,
        "interactions": _split_all(interactions),
        "scored_alone": [name.removeprefix(NOISE) for name in _split_all(scored_alone)],
    }
    try:
        found = analysis.analyze(results.levels, results.responses, signal=signal, **options)
    except DataError as error:
        one = "row 1 has the levels of the first line" if results.noise else "row 1 is the first"
        raise DataError(f"{file} ({one} below the names): {error}") from None
    print_found(as_json, found.to_json(), lambda: describe_analysis(found))
    if figures:
        _write_figures(found, figures)


def _write_figures(found: Analysis, folder: Path) -> None:
    from kerasall.files import write_text
    from kerasall.report.figures_taguchi import draw_analysis

    for name, (svg, _) in draw_analysis(found).items():
        write_text(folder / f"{name}.svg", svg.decode("utf-8"))
        note(f"figure: {folder / name}.svg")


def _read_factors(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Factors written out, in one word or several, or in a YAML file."""
    pairs: list[tuple[str, list[Any]]] = []
    for text in texts:
        if Path(text).suffix in (".yaml", ".yml", ".json"):
            pairs += _read_factor_file(Path(text))
        else:
            pairs += map(_read_factor, re.split(r"[;\s]+(?=[^\s=;,]+=)", text.strip()))
    return _collect(pairs, "a factor must be given once, but {name} is given twice: rename one")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _split_all(texts: Iterable[str] | None) -> list[str]:
    return [part for text in texts or () for part in _split(text)]


def _read_factor(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip() or not _split(values):
        raise SettingsError(f"a factor must be written NAME=level,level,..., but is {text!r}")
    return name.strip(), _split(values)


def _collect(pairs: Iterable[tuple[str, list[Any]]], message: str) -> dict[str, list[Any]]:
    """Factor -> levels; the message says of {name} that it must not come twice."""
    found: dict[str, list[Any]] = {}
    for name, values in pairs:
        if name in found:
            raise SettingsError(message.format(name=name))
        found[name] = values
    return found


def _read_factor_file(path: Path) -> list[tuple[str, list[Any]]]:
    from kerasall.settings.yaml_text import read_yaml

    content = read_yaml(path, kind="a YAML file of factors")
    if not isinstance(content, dict) or not all(isinstance(values, list) for values in content.values()):
        raise SettingsError(f"{path} must map each factor to a list of levels, but holds {content!r}")
    return [(str(name), values) for name, values in content.items()]


def _read_numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in _split(text)]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise SettingsError(f"--confirm must be numbers separated by commas, but is {text!r}: correct it")
    return numbers
