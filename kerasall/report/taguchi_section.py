"""The report's section on a designed experiment: runs, response table, variance, optimum, confirmation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def taguchi_section(found: Mapping[str, Any], figures: Mapping[str, bytes]) -> Section:
    """The section of one experiment.

    Args:
        found: the JSON of an analysis with, under ``experiment``, what ``trial_record`` adds to it.
        figures: file as ``experiment.figures`` names it -> its content (SVG).
    """
    made = found["experiment"]
    blocks: list[Block] = [_facts(made), _factors(made)]
    if made["scored_on"] == "selection":
        text = (
            "The levels were chosen by scores on the very images that the ensemble is scored on, as in the paper: "
            "its score is too high by what was gained by choosing."
        )
        blocks.append(Alert("warning", "Settings chosen on the scored images", text))
    if found["warnings"]:
        items = tuple(Check(text) for text in found["warnings"])
        blocks.append(Alert("warning", "Before believing it", "", items))
    blocks += [_rows(made), Heading("Effects"), _responses(found), _anova(found)]
    blocks += [_figure(figure, figures[figure["file"]]) for figure in made["figures"]]
    blocks += [*_interactions(made["interactions"]), Heading("Predicted optimum and its confirmation")]
    blocks += [_optimum(found), *_confirmation(made)]
    return Section("tuning", "The designed experiment", _INTRO, tuple(blocks))


def _facts(made: Mapping[str, Any]) -> KeyValues:
    response = made["response"]
    spare = ", ".join(map(str, made["spare_columns"])) or "none"
    watched = ", which also chose each run's epoch" if made["epoch_chosen"] else ""
    rows = (
        f"{len(made['rows'])}, each run {made['repeats']} times"
        if made["repeats"] > 1
        else str(len(made["rows"]))
    )
    return KeyValues(
        (
            Fact("Array", f"{made['array']}; spare columns: {spare}"),
            Fact("Rows", rows + (f" over {made['folds']} folds" if made["folds"] else "")),
            Fact("Response", f"{response['title']} on {_SCORED[made['scored_on']]}{watched}"),
            Fact("Ratio", f"{made['signal']}: {made['formula']}; larger is better"),
            Fact("Time of all trials", _duration(made["seconds"])),
        )
    )


def _factors(made: Mapping[str, Any]) -> Table:
    rows = tuple((each["name"], each["setting"], ", ".join(each["levels"])) for each in made["factors"])
    notes = ("Levels that are written twice are dummy levels: they fill a column of the array.",)
    repeated = any(len(set(each["levels"])) < len(each["levels"]) for each in made["factors"])
    columns = (Column("Factor"), Column("Setting"), Column("Levels"))
    return Table("Factors", columns, rows, notes if repeated else ())


def _rows(made: Mapping[str, Any]) -> Table:
    names = [each["name"] for each in made["factors"]]
    count = max(len(row["responses"]) for row in made["rows"])
    columns = [Column("Row"), *(Column(name) for name in names)]
    columns += [Column(f"Run {number + 1}", "right") for number in range(count)]
    unit = f" ({made['unit']})" if made["unit"] else ""
    rows = tuple(
        (
            str(row["row"]),
            *(row["levels"][name] for name in names),
            *(_number(value) for value in row["responses"]),
            _number(row["ratio"], 3),
        )
        for row in made["rows"]
    )
    title = made["response"]["title"]
    return Table(
        f"{title} of every run", (*columns, Column(f"Ratio{unit}", "right")), rows, tall=len(rows) > 18
    )


def _responses(found: Mapping[str, Any]) -> Table:
    table, levels = found["response_table"], {f["name"]: f["levels"] for f in found["experiment"]["factors"]}
    deepest = max(map(len, table.values()))
    columns = (Column("Level"), *(Column(name, "right") for name in table))
    rows: list[tuple[Any, ...]] = [
        (str(number + 1), *(_level_cell(found, name, levels[name], number) for name in table))
        for number in range(deepest)
    ]
    rows.append(("Effect", *(_number(found["effects"][name]) for name in table)))
    rows.append(("Rank", *(str(found["ranks"][name]) for name in table)))
    notes = (
        "Mean ratio at each level; the largest is the best. The effect is the largest less the smallest.",
    )
    return Table("Response table", columns, tuple(rows), notes)


def _level_cell(found: Mapping[str, Any], name: str, levels: Sequence[str], number: int) -> Cell | None:
    means = found["response_table"][name]
    if number >= len(means) or means[number] is None:
        return None
    best = found["best_levels"][name] == number + 1
    return Cell(_number(means[number]) or "", levels[number], "good" if best else "")


def _anova(found: Mapping[str, Any]) -> Table:
    labels = ("Sum of squares", "df", "Mean square", "F", "p", "Contribution")
    columns = (Column("Source"), *(Column(label, "right") for label in labels))
    limit = found["experiment"]["significance"]
    rows: list[tuple[str | Cell | None, ...]] = [
        (
            each["factor"], _number(each["sum_of_squares"]), str(each["df"]), _number(each["mean_square"]),
            _number(each["f"], 2),
            None if each["p"] is None else Cell(_number(each["p"]) or "", tone="good" if each["p"] <= limit else ""),
            _percent(each["contribution_percent"]),
        )
        for each in found["anova"]
    ]  # fmt: skip
    error, total = found["error"], found["total"]
    rows.append(
        (
            "Error", _number(error["sum_of_squares"]), str(error["df"]), _number(error["mean_square"]), None, None,
            _percent(error["contribution_percent"]),
        )
    )  # fmt: skip
    rows.append(("Total", _number(total["sum_of_squares"]), str(total["df"]), None, None, None, None))
    pooled = error["pooled"]
    notes = [f"Taken for error: {', '.join(pooled)}."] if pooled else []
    if not any(each["p"] is not None and each["p"] <= limit for each in found["anova"]):
        notes.append(f"No factor is significant at {limit:g}: the differences between levels may be chance.")
    return Table("Analysis of variance of the ratios", columns, tuple(rows), tuple(notes))


def _interactions(words: str) -> list[Block]:
    first, *lines = words.splitlines()
    items = tuple(line.strip() for line in lines)
    return [Text((first,)), *([List(items)] if items else [])]


def _figure(figure: Mapping[str, str], content: bytes) -> FigureBlock:
    name = figure["file"].rpartition("/")[2]
    default = _ALIASED if name.startswith("aliased_") else _INTERACTION
    caption = _CAPTIONS.get(name.removesuffix(".svg"), default)
    return FigureBlock(f"figures/tuning_{name}", figure["alt"], caption, "half", content)


def _optimum(found: Mapping[str, Any]) -> KeyValues:
    made, best = found["experiment"], found["predicted"]
    unit, own = (f" {made['unit']}" if made["unit"] else ""), made["confirmation"]
    level = f"{100 * made['confidence']:g}%"
    interval = (
        "no interval: the error has no degree of freedom"
        if best["low"] is None
        else f"{level} interval of the mean {best['low']:.3f} to {best['high']:.3f}"
    )
    facts = [
        Fact("Best levels", ", ".join(f"{name} = {value}" for name, value in made["best"].items())),
        Fact("Predicted", f"{best['value']:.3f}{unit} ({interval})"),
    ]
    if best["confirmed"] is not None:
        runs = len(own["responses"])
        facts.append(Fact("Confirmed", f"{best['confirmed']:.3f}{unit}, from {runs} runs{_verdict(own)}"))
    if made.get("sizes"):
        facts.append(Fact("In its own unit", made["sizes"]))
    return KeyValues(tuple(facts))


def _verdict(own: Mapping[str, Any]) -> str:
    if own["as_predicted"] is None:
        return ""
    side = "inside" if own["as_predicted"] else "outside"
    return f"; {side} the {own['low']:.3f} to {own['high']:.3f} expected of a new row"


def _confirmation(made: Mapping[str, Any]) -> list[Block]:
    responses = made["confirmation"]["responses"]
    names = made["members"] if len(made["members"]) == len(responses) else [
        f"run {number + 1}" for number in range(len(responses))
    ]  # fmt: skip
    columns = tuple(Column(name, "right") for name in names)
    row = tuple(_number(value) for value in responses)
    title = made["response"]["title"]
    note = "These runs are the ensemble's members; each has another seed."
    return [Table(f"{title} of the confirmation runs", (Column("Run"), *columns), ((title, *row),), (note,))]


def _number(value: float | None, digits: int = 4) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}%"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"
