"""A designed experiment in words and tables, laid out once for a terminal, the page of trials and the report.

What is laid out is a document: that of ``Analysis.to_json``, and under ``experiment`` what ``describe_ratio`` adds.
The record of a search holds more there, see ``components.trial_record``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasall.files import read_json
from kerasall.report.document import (
    Alert,
    Block,
    Cell,
    Check,
    Column,
    Fact,
    FigureBlock,
    Heading,
    KeyValues,
    List,
    Section,
    Table,
    Text,
)
from kerasall.taguchi.analysis import Analysis

if TYPE_CHECKING:
    from kerasall.settings import Settings

_INTRO = (
    "Each row of an orthogonal array is one combination of settings. Because the array is balanced, the mean over "
    "the rows at one level of a factor tells what that level does, whatever the other factors are set to."
)
_SCORED = {
    "validation": "the validation part",
    "out-of-fold": "each held-out fold; a response is the mean over the folds",
    "selection": "the part on which the paper also scores",
}
_CAPTIONS = {
    "main_effects": "Mean ratio at each level; filled: the best level of each factor. Dashed: mean of all rows.",
    "half_normal": "Noise alone lies on a straight line through 0; what stands out is an effect.",
}
_INTERACTION = "Lines that are not parallel: the two factors interact."
_ALIASED = (
    "The two factors of the largest effects. Lines that are not parallel may be their interaction or the effect of "
    "another factor: these runs cannot tell."
)
_SELECTED = (
    "The levels were chosen by scores on the very images that the ensemble is scored on, as in the paper: its score "
    "is too high by what was gained by choosing."
)
_ANOVA = ("Source", "Sum of squares", "df", "Mean square", "F", "p", "Share %", "Share less noise %")


def make_document(analysis: Analysis) -> dict[str, Any]:
    """What ``analysis_blocks`` lays out, for an analysis that no search has recorded."""
    pooled = [asdict(row) for row in analysis.anova.pooled]
    return analysis.to_json() | {"pooled": pooled, "experiment": describe_ratio(analysis)}


def describe_ratio(analysis: Analysis) -> dict[str, Any]:
    """What is said of an analysis beyond its numbers: the ratio, the levels' names, what confirms it."""
    names, best = analysis.level_names, analysis.prediction
    return {
        "factors": [{"name": name, "levels": list(levels)} for name, levels in names.items()],
        "signal": str(analysis.signal),
        "formula": analysis.signal.signal.formula,
        "unit": analysis.signal.signal.unit,
        "confidence": analysis.confidence,
        "significance": analysis.significance,
        "best": {name: names[name][level - 1] for name, level in best.levels.items()},
        "sizes": analysis.describe_sizes(),
        "confirmation": {
            "low": best.confirmation_low,
            "high": best.confirmation_high,
            "as_predicted": best.confirmed_as_predicted,
        },
    }


def ratio_words(made: Mapping[str, Any]) -> str:
    """The ratio that an experiment maximises, its formula and unit."""
    unit = f" in {made['unit']}" if made["unit"] else ""
    return f"{made['signal']}, {made['formula']}{unit}; larger is better"


def analysis_blocks(found: Mapping[str, Any], contents: Mapping[str, bytes] | None = None) -> list[Block]:
    """Warnings, effects and predicted optimum of an analysis, wherever they are read.

    Args:
        found: the document, with ``experiment``; what it lacks of figures, interactions or responses is left out.
        contents: file as ``experiment.figures`` names it -> its content (SVG).
    """
    made = found["experiment"]
    cautions = tuple(map(Check, found["warnings"]))
    return [
        *([Alert("warning", "Before believing it", items=cautions)] if cautions else []),
        Heading("Effects"),
        _response_table(found),
        _anova_table(found),
        *[_figure(figure, (contents or {})[figure["file"]]) for figure in made.get("figures", ())],
        *_interactions(made.get("interactions", "")),
        Heading("Predicted optimum and its confirmation"),
        *_optimum(found),
        *_confirmation_runs(made),
    ]


def taguchi_section(found: Mapping[str, Any], contents: Mapping[str, bytes]) -> Section:
    """The report's section of one experiment.

    Args:
        found: the document that a search recorded.
        contents: file as ``experiment.figures`` names it -> its content (SVG).
    """
    made = found["experiment"]
    selected = made["scored_on"] == "selection"
    blocks = [
        _facts(made),
        _factors(made),
        *([Alert("warning", "Settings chosen on the scored images", _SELECTED)] if selected else []),
        _rows(made),
        *analysis_blocks(found, contents),
    ]
    return Section("tuning", "The designed experiment", _INTRO, tuple(blocks))


def _facts(made: Mapping[str, Any]) -> KeyValues:
    rows, spare = str(len(made["rows"])), ", ".join(map(str, made["spare_columns"])) or "none"
    rows += f", each run {made['repeats']} times" if made["repeats"] > 1 else ""
    rows += f" over {made['folds']} folds" if made["folds"] else ""
    watched = ", which also chose each run's epoch" if made["epoch_chosen"] else ""
    facts = {
        "Array": f"{made['array']}; spare columns: {spare}",
        "Rows": rows,
        "Response": f"{made['response']['title']} on {_SCORED[made['scored_on']]}{watched}",
        "Ratio": ratio_words(made),
        "Time of all trials": duration_words(made["seconds"]),
    }
    return KeyValues(tuple(Fact(label, value) for label, value in facts.items()))


def _factors(made: Mapping[str, Any]) -> Table:
    columns = (Column("Factor"), Column("Setting"), Column("Levels"))
    rows = [(each["name"], each["setting"], ", ".join(each["levels"])) for each in made["factors"]]
    repeated = any(len(set(each["levels"])) < len(each["levels"]) for each in made["factors"])
    notes = ("Levels that are written twice are dummy levels: they fill a column of the array.",)
    return Table("Factors", columns, tuple(rows), notes if repeated else ())


def _rows(made: Mapping[str, Any]) -> Table:
    names = [each["name"] for each in made["factors"]]
    count = max(len(row["responses"]) for row in made["rows"])
    unit = f" ({made['unit']})" if made["unit"] else ""
    runs = [f"Run {number}" for number in range(1, count + 1)]
    columns = (*map(Column, ["Row", *names]), *(Column(title, "right") for title in [*runs, f"Ratio{unit}"]))
    rows = [
        (
            str(row["row"]),
            *(row["levels"][name] for name in names),
            *map(_number, row["responses"]),
            _number(row["ratio"], 3),
        )
        for row in made["rows"]
    ]
    return Table(f"{made['response']['title']} of every run", columns, tuple(rows), tall=len(rows) > 18)


def _response_table(found: Mapping[str, Any]) -> Table:
    table, names = found["response_table"], {f["name"]: f["levels"] for f in found["experiment"]["factors"]}
    columns = (Column("Level"), *(Column(name, "right") for name in table))
    rows: list[tuple[str | Cell | None, ...]] = [
        (str(level), *(_level_cell(found, name, names[name], level) for name in table))
        for level in range(1, 1 + max(map(len, table.values())))
    ]
    rows.append(("Effect", *(_number(found["effects"][name]) for name in table)))
    rows.append(("Rank", *(str(found["ranks"][name]) for name in table)))
    rows.append(("Best level", *(_best_level(found, name, names[name]) for name in table)))
    note = "Mean ratio at each level; the largest is the best. The effect is the largest less the smallest."
    return Table("Response table", columns, tuple(rows), (note,))


def _level_cell(found: Mapping[str, Any], name: str, names: Sequence[str], level: int) -> Cell | None:
    means = found["response_table"][name]
    if level > len(means) or means[level - 1] is None:
        return None
    best = found["best_levels"][name] == level
    return Cell(_number(means[level - 1]) or "", names[level - 1], "good" if best else "")


def _best_level(found: Mapping[str, Any], name: str, names: Sequence[str]) -> str:
    """For example ``adam (1)``; the number alone where the level has no name."""
    level = found["best_levels"][name]
    return str(level) if names[level - 1] == str(level) else f"{names[level - 1]} ({level})"


def _anova_table(found: Mapping[str, Any]) -> Table:
    error, total, limit = found["error"], found["total"], found["experiment"]["significance"]
    corrected = error["corrected_contribution_percent"]
    rows = [_anova_row(row, row["factor"], corrected[row["factor"]], limit) for row in found["anova"]]
    rows += [_anova_row(row, f"({row['factor']}, pooled)", None, limit) for row in found.get("pooled", ())]
    rows.append(_anova_row(error, "Error", corrected["error"], limit))
    rows.append(_anova_row(total, "Total", total["contribution_percent"], limit))
    notes = (f"Taken for error: {', '.join(error['pooled'])}.",) if error["pooled"] else ()
    columns = (Column(_ANOVA[0]), *(Column(title, "right") for title in _ANOVA[1:]))
    return Table("Analysis of variance of the ratios", columns, tuple(rows), notes)


def _anova_row(
    row: Mapping[str, Any], name: str, corrected: float | None, limit: float
) -> tuple[str | Cell | None, ...]:
    p = row.get("p")
    return (
        name,
        _number(row["sum_of_squares"]),
        str(row["df"]),
        _number(row.get("mean_square")),
        _number(row.get("f"), 2),
        None if p is None else Cell(f"{p:.4f}", tone="good" if p <= limit else ""),
        _number(row["contribution_percent"], 2),
        _number(corrected, 2),
    )


def _figure(figure: Mapping[str, str], content: bytes) -> FigureBlock:
    name = figure["file"].rpartition("/")[2]
    default = _ALIASED if name.startswith("aliased_") else _INTERACTION
    caption = _CAPTIONS.get(name.removesuffix(".svg"), default)
    return FigureBlock(f"figures/tuning_{name}", figure["alt"], caption, "half", content)


def _interactions(words: str) -> list[Block]:
    lines = words.splitlines()
    items = tuple(line.strip() for line in lines if line.startswith(" "))
    told = tuple(line for line in lines if not line.startswith(" "))
    return [*([Text(told)] if told else []), *([List(items)] if items else [])]


def _optimum(found: Mapping[str, Any]) -> list[Block]:
    made, best = found["experiment"], found["predicted"]
    own, unit = made["confirmation"], f" {made['unit']}" if made["unit"] else ""
    names = {each["name"]: each["levels"] for each in made["factors"]}
    interval = "no interval: the error has no degree of freedom"
    if best["low"] is not None:
        level = f"{100 * made['confidence']:g}%"
        interval = f"{level} interval of the mean {best['low']:.3f} to {best['high']:.3f}"
    facts = {
        "Best levels": ", ".join(f"{name} = {_best_level(found, name, names[name])}" for name in best["levels"]),
        "Predicted there": f"{best['value']:.3f}{unit} ({interval})",
    }  # fmt: skip
    if best["confirmed"] is not None:
        runs = f" from {len(own['responses'])} runs" if own.get("responses") else ""
        facts["Confirmed there"] = f"{best['confirmed']:.3f}{unit}{runs}{_verdict(own)}"
    if made.get("sizes"):
        facts["In its own unit"] = made["sizes"]
    doubtful = [
        row["factor"] for row in found["anova"] if row["p"] is None or row["p"] > made["significance"]
    ]
    doubt = (
        f"It counts on {', '.join(doubtful)}, not significant here: the best of their levels is partly the luckiest, "
        "so expect a confirmation to fall short of it."
    )
    pairs = KeyValues(tuple(Fact(label, value) for label, value in facts.items()))
    return [pairs, *([Text((doubt,))] if doubtful else [])]


def _verdict(own: Mapping[str, Any]) -> str:
    if own["as_predicted"] is None:
        return ""
    side = "inside" if own["as_predicted"] else "outside"
    return f", {side} the {own['low']:.3f} to {own['high']:.3f} expected of a new row"


def _confirmation_runs(made: Mapping[str, Any]) -> list[Block]:
    responses = made["confirmation"].get("responses", ())
    if not responses:
        return []
    runs = [f"run {number + 1}" for number in range(len(responses))]
    names = made["members"] if len(made["members"]) == len(responses) else runs
    columns = (Column("Run"), *(Column(name, "right") for name in names))
    title = made["response"]["title"]
    note = "These runs are the ensemble's members; each has another seed."
    rows = ((title, *map(_number, responses)),)
    return [Table(f"{title} of the confirmation runs", columns, rows, (note,))]


def _number(value: float | None, digits: int = 4) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def duration_words(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 3600:.2f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"


def read_tuning(record: Path) -> dict[str, Any] | None:
    """The analysis that a record holds with its figures' content under ``contents``, or None.

    Args:
        record: folder of a TrainingRecord.
    """
    from kerasall.data.development import ANALYSIS  # pandas, which a plan at a terminal does without

    path = record / ANALYSIS
    if not path.is_file():
        return None
    found = read_json(path)
    files = [figure["file"] for figure in found["experiment"]["figures"]]
    return found | {"contents": {file: (record / file).read_bytes() for file in files}}


def tuning_sections(tuning: dict[str, Any] | None) -> list[Section]:
    """The report's section on the experiment; none where there was none."""
    return [] if tuning is None else [taguchi_section(tuning, tuning["contents"])]


def analysis_of(tuning: dict[str, Any] | None) -> dict[str, Any] | None:
    """The analysis for programs, without figures."""
    return None if tuning is None else {name: value for name, value in tuning.items() if name != "contents"}


def with_tuned_members(settings: Settings, record: Path) -> Settings:
    """The settings with the members that a designed experiment made, as if they had been stated.

    Args:
        settings: as stated.
        record: folder of a TrainingRecord.
    """
    from kerasall.data.development import MEMBERS_FILE
    from kerasall.settings import MemberSettings

    path = record / MEMBERS_FILE
    if not settings.tune or not path.is_file():
        return settings
    members = tuple(MemberSettings.model_validate(member) for member in read_json(path))
    return settings.model_copy(update={"members": members})


def as_stated(settings: Settings) -> Settings:
    """The settings without the members that ``with_tuned_members`` added: the two exclude one another."""
    return settings.model_copy(update={"members": ()}) if settings.tune else settings
