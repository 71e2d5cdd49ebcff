"""What a crossed design says of noise, in sentences and tables: of the document of an analysis with noise factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kerasall.report.format import Row, Table, cell, format_number
from kerasall.taguchi.design import CROSS, EVERY, Plan
from kerasall.taguchi.signal_to_noise import SIGNALS

_SHOWN = 4
"""Interactions that a sentence names."""


def describe_outer_array(noise: Plan, rows: int) -> str:
    """How many noise runs every row has.

    Args:
        noise: the outer array.
        rows: of the inner array.
    """
    array = (
        "Every combination of the noise factors"
        if noise.array == EVERY
        else f"Noise factors in {noise.array}"
    )
    return f"{array}: {len(noise.levels)} noise runs of each of {rows} rows, {len(noise.levels) * rows} runs in all"


def lay_out_noise(found: Mapping[str, Any]) -> tuple[Table, ...]:
    """Tables of the noise factors, of setting x noise, of the sensitivity at every level, and of the two choices."""
    return (_effects_table(found), _means_table(found), _sensitivity_table(found), _choices_table(found))


def _effects_table(found: Mapping[str, Any]) -> Table:
    noise = found["noise"]
    rows: list[Row] = []
    for factor in noise["factors"]:
        effect = noise["effects"][factor["name"]]
        means = ", ".join(
            f"{level}: {mean:.4g}" for level, mean in zip(factor["levels"], effect["means"], strict=True)
        )
        worst = "-" if effect["worst"] is None else factor["levels"][effect["worst"] - 1]
        most = factor["name"] == noise["hurts_most"]
        moved = cell(format_number(effect["deviation"]), tone="warning" if most else "")
        rows.append((factor["name"], means, worst, format_number(effect["range"]), moved))
    note = (
        "Moves a row by: root mean square, over rows and noise runs, of a row's mean at the level less the row's mean, through "
        "interactions too; chance from run to run is part of it."
    )
    columns = ("Noise factor", "Mean response at each level", "Worst level", ">Range", ">Moves a row by")
    return Table("Noise factors", columns, tuple(rows), (note,))


def _means_table(found: Mapping[str, Any]) -> Table:
    noise = found["noise"]
    settings = {each["name"]: each["levels"] for each in found["experiment"]["factors"]}
    means = {(each["setting"], each["noise"]): each["means"] for each in noise["means"]}
    columns = [
        (factor["name"], number) for factor in noise["factors"] for number in range(len(factor["levels"]))
    ]
    titles = [f">{each['name']} = {level}" for each in noise["factors"] for level in each["levels"]]
    rows: list[Row] = [
        (
            f"{name} = {level}",
            *(format_number(means[name, other][place][number]) for other, number in columns),
        )
        for name, levels in settings.items()
        for place, level in enumerate(levels[: len(means[name, columns[0][0]])])
    ]
    note = "Where the distance between two levels of a noise differs from row to row by more than chance, setting and noise interact."
    return Table("Mean response of each setting under each noise", ("Setting", *titles), tuple(rows), (note,))


def _sensitivity_table(found: Mapping[str, Any]) -> Table:
    noise = found["noise"]
    settings = {each["name"]: each["levels"] for each in found["experiment"]["factors"]}
    table = noise["sensitivity"]

    def level_cell(name: str, place: int) -> dict[str, Any] | None:
        value = table[name][place] if place < len(table[name]) else None
        steady = noise["steadiest"][name] == place + 1
        return (
            None
            if value is None
            else cell(format_number(value), settings[name][place], "good" if steady else "")
        )

    most = max(map(len, table.values()))
    rows: tuple[Row, ...] = tuple(
        (str(place + 1), *(level_cell(name, place) for name in table)) for place in range(most)
    )
    note = (
        "Root mean square, over the rows at the level, of how far noise moves the response from the row's mean; the smallest "
        "is the steadiest, which alone does not say that it is more than chance: the lines of setting x noise above test that. In the "
        "responses' own unit: where larger responses also vary more, the ratio weighs both."
    )
    return Table(
        "Sensitivity to noise at each level", ("Level", *(f">{name}" for name in table)), rows, (note,)
    )


def _choices_table(found: Mapping[str, Any]) -> Table:
    noise, made = found["noise"], found["experiment"]
    settings = {each["name"]: each["levels"] for each in made["factors"]}
    unit = f" ({made['unit']})" if made["unit"] else ""
    columns = [
        "Best by",
        *settings,
        ">Mean response",
        ">Spread over noise",
        ">Worst noise run",
        f">Ratio{unit}",
    ]

    def line(title: str, choice: Mapping[str, Any]) -> Row:
        levels = (settings[name][level - 1] for name, level in choice["levels"].items())
        numbers = (format_number(choice["spread"]), format_number(choice["worst"]))
        return (title, *levels, _interval_cell(choice, "mean"), *numbers, _interval_cell(choice, "ratio"))

    steady = "the most robust" if _sees_spread(made) else "its spread over noise does not enter"
    rows = [line(f"ratio: {steady}", noise["robust"])]
    if noise["average"]:
        rows.append(line("mean: the best on average", noise["average"]))
    if noise["difference"]:
        empty = ("",) * len(settings)
        ends = (
            _interval_cell(noise["difference"], "mean"),
            None,
            None,
            _interval_cell(noise["difference"], "ratio"),
        )
        rows.append(("first less second", *empty, *ends))
    note = (
        f"Predicted, with {100 * made['confidence']:g}% intervals of combinations fixed beforehand: choosing the best flatters "
        "both. Spread and worst are of what the model predicts under the noise runs that were made. The intervals tell of other "
        "runs of this experiment, with their chance; not of what was not measured in it, such as other patients."
    )
    return Table("Best by the ratio and best on average", tuple(columns), tuple(rows), (note,))


def _sees_spread(made: Mapping[str, Any]) -> bool:
    """Whether the ratio of an experiment prefers what is steady, or looks at the mean over the noise runs alone."""
    return SIGNALS[made["signal"].partition(":")[0]].sees_spread


def _interval_cell(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return cell(format_number(found[name]), "no interval" if low is None else f"{low:.4f} to {high:.4f}")


def describe_noise(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Which noise hurts most, which setting decides how much, what interacts, and whether being robust costs anything."""
    return (_tell_noise(found["noise"]), _tell_setting(found), _tell_interactions(found), _tell_choice(found))


def _tell_noise(noise: Mapping[str, Any]) -> str:
    name = noise["hurts_most"]
    effect = noise["effects"][name]
    levels = next(each["levels"] for each in noise["factors"] if each["name"] == name)
    worst = ""
    if effect["worst"] is not None:
        place = effect["worst"] - 1
        worst = f"; its worst level is {levels[place]}, with a mean of {effect['means'][place]:.4f}"
    return f"The noise that hurts most is {name}: it moves the response of a row by {effect['deviation']:.4f}{worst}."


def _tell_setting(found: Mapping[str, Any]) -> str:
    noise = found["noise"]
    name = noise["decides_most"]
    levels = next(each["levels"] for each in found["experiment"]["factors"] if each["name"] == name)
    known = {place: value for place, value in enumerate(noise["sensitivity"][name]) if value is not None}
    least, most = min(known, key=lambda p: known[p]), max(known, key=lambda p: known[p])
    if known[least] == known[most]:
        return "Noise moves the response alike at every level of every setting."
    limit = found["experiment"]["significance"]
    own = [p for p, term in _tested_interactions(found) if term.startswith(f"{name}{CROSS}")]
    doubt = "" if own and own[0] <= limit else ", a difference that these runs do not tell from chance"
    return (
        f"Between the levels of {name} it differs most how much noise matters: the least sensitive is {name} = {levels[least]}, where "
        f"noise moves the response by {known[least]:.4f}; at {levels[most]} it moves it by {known[most]:.4f}{doubt}."
    )


def _tested_interactions(found: Mapping[str, Any]) -> list[tuple[float, str]]:
    """p and name of every setting x noise line that could be tested, the smallest p first."""
    names = [each["name"] for each in found["noise"]["factors"]]
    rows = [
        row
        for row in found["raw"]["anova"]
        if row["factor"].rpartition(CROSS)[2] in names and CROSS in row["factor"]
    ]
    return sorted((row["p"], row["factor"]) for row in rows if row["p"] is not None)


def _tell_interactions(found: Mapping[str, Any]) -> str:
    tested, limit = _tested_interactions(found), found["experiment"]["significance"]
    if not tested:
        return "Whether a setting interacts with a noise factor cannot be tested: no degree of freedom is left for the error."
    clear = [f"{name} (p {p:.3g})" for p, name in tested if p <= limit]
    if clear:
        more = f" and {len(clear) - _SHOWN} more" if len(clear) > _SHOWN else ""
        chance = f"; of {len(tested)} tested, {limit * len(tested):.1f} would by chance alone"
        return f"A setting decides how much a noise matters in {', '.join(clear[:_SHOWN])}{more}{chance}."
    return (
        f"No setting interacts with a noise factor so that it could be told from chance (the smallest p of {len(tested)} is "
        f"{tested[0][0]:.3f}, {tested[0][1]}): these runs show none that protects against the noise, and what is best on "
        "average is the best guess of what is robust too."
    )


def _tell_choice(found: Mapping[str, Any]) -> str:
    noise, made = found["noise"], found["experiment"]
    if not _sees_spread(made):
        return (
            f"The signal {made['signal']} looks at the mean over the noise runs alone: what is best by it is best on average, on its own scale, and need "
            "not be the most robust. For a choice that weighs the spread too, analyse with larger, smaller or target-runs:M."
        )
    if noise["average"] is None:
        return f"The signal {made['signal']} asks for no largest or smallest mean: there is no best on average to compare with."
    if noise["difference"] is None:
        return "The most robust combination is also the one that is best on average."
    settings = {each["name"]: each["levels"] for each in made["factors"]}
    robust, average, gap = noise["robust"], noise["average"], noise["difference"]
    changed = [
        f"{name} = {settings[name][level - 1]} in place of {settings[name][average['levels'][name] - 1]}"
        for name, level in robust["levels"].items()
        if level != average["levels"][name]
    ]
    told = f"The most robust combination differs from the best on average in {', '.join(changed)}"
    mean = f"its mean response is {gap['mean']:+.4f} off{_tell_ends(gap, 'mean')}"
    unit = f" {made['unit']}" if made["unit"] else ""
    ratio = f"its ratio {gap['ratio']:+.3f}{unit} higher{_tell_ends(gap, 'ratio')}"
    apart = any(_excludes_zero(gap, name) for name in ("mean", "ratio"))
    doubt = (
        ""
        if apart
        else " These runs do not tell the two apart: take the robust one only if its price is small."
    )
    return f"{told}: {mean}, {ratio}.{doubt}"


def _tell_ends(found: Mapping[str, Any], name: str) -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return (
        " (no interval: the error has no degree of freedom)" if low is None else f" ({low:.4f} to {high:.4f})"
    )


def _excludes_zero(found: Mapping[str, Any], name: str) -> bool:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return low is not None and (low > 0 or high < 0)
