"""What the dry run at full size took, in words and a table."""

from __future__ import annotations

from kerasall.errors import count_of
from results.pages import tabulate


def section(document: dict) -> list[str]:
    """The section of the results page, written from full_size.json alone."""
    images = document["images"]
    lines = [
        "## Dry run at full size: time and memory", "",
        f"Rendered cells, {images['training']:,} for training and {images['preliminary']:,} of the preliminary part, 450 px, in the "
        f"archive's layout ({_gib(document['bytes_images'])}): what the set's size asks of a machine, and nothing about leukaemia. Shipped "
        "configs with small networks from random weights; each run was killed (SIGKILL) in the step named, and the same command "
        "given again.",
    ]  # fmt: skip
    return [*lines, "", *table(document), "", f"`{document['command']}`"]


def table(document: dict) -> list[str]:
    """What each run took, as docs/data.md shows it too."""
    heads = (
        "run", "smaller, or otherwise", "minutes, both tries", "of one core", "load", "memory", "without pages of files",
        "images scored", "killed in",
    )  # fmt: skip
    rows = []
    for found in document["systems"].values():
        tries = " + ".join(f"{each / 60:.1f}" for each in found["seconds_of_tries"])
        tries += " (broken off before)" if found["begun_before"] else ""
        cells = (
            f"`kerasall {found['command']} {found['config']}`", found["says"], tries,
            f"{found['seconds_of_processor'] / 60:.1f}", f"{found['load']:.1f}", _gib(found["bytes_peak"]),
            _gib(found["bytes_peak_own"]), f"{found['images']:,} ({found['scored']})", found["killed_in"],
        )  # fmt: skip
        rows.append(cells)
    cores = document["hardware"]["cores"]
    return [
        *tabulate(heads, rows), "",
        f"On {count_of(cores, 'core')}; load is the mean number of threads that wanted one, those of other work among them. Memory: "
        "resident bytes of the process and all below it, at their highest; pages of files among them the system takes back when it must. The first run reads and compares all images, the others find that done. The runs left "
        f"{_gib(document['bytes_runs'])} in their folder.",
    ]  # fmt: skip


def _gib(number: float) -> str:
    return f"{number / (1 << 30):.1f} GiB"
