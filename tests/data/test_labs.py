"""Folders and tables as labs have them, with real cells where there are some: understood, or refused with a cure that works.

Every row is read twice: as it is, and, where it must be refused, again with the very setting that the message names.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kerasall.components.example_gen import read_collection_of
from kerasall.errors import KerasallError
from kerasall.settings import DataSettings

PATIENTS = ("P01", "P02", "P03", "P07", "P11", "P12")
"""The first three have leukaemia."""
CELLS = [("ALL" if p in PATIENTS[:3] else "normal", p, n) for p in PATIENTS for n in range(1, 5)]
"""Class, patient and number of every cell."""

SHARED = Path(os.environ.get("KERASALL_TEST_SHARED", Path(__file__).parents[3] / "shared"))
REAL = sorted((SHARED / "data" / "cnmc_sample").glob("*.bmp"))
DRAWN = [np.random.default_rng(n).integers(0, 255, (48, 48, 3), np.uint8) for n in range(8)]
PICTURES = [
    *(Image.open(file).convert("RGB").resize((48, 48)) for file in REAL),
    *map(Image.fromarray, DRAWN),
]
"""Readers of names need no two images to differ."""
TURN = itertools.cycle(PICTURES)

Write = Callable[[Path], Path]
"""Empty folder -> what a lab brings: that folder, one in it, or a table."""


@dataclass(frozen=True)
class Layout:
    """One way in which a lab has its cells.

    Attributes:
        write: makes it.
        settings: that the lab gives at once.
        patients: how many are known; 0: none.
        said: what notes or warnings must say, a regular expression.
        parts: of a ready-made split.
        classes: images of every class, as read.
        refused: what the message must say, regular expressions; () where it is read as it is.
        cured: the settings that the message advises; read with them, it must be understood.
    """

    write: Write
    settings: dict[str, Any] = field(default_factory=dict)
    patients: int = 6
    said: str = ""
    parts: tuple[str, ...] = ()
    classes: dict[str, int] = field(default_factory=lambda: {"ALL": 12, "normal": 12})
    refused: tuple[str, ...] = ()
    cured: dict[str, Any] = field(default_factory=dict)


def put(*paths: Path) -> None:
    """Lays a cell under each name."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        next(TURN).save(path, {".jpe": "JPEG", ".jfif": "JPEG"}.get(path.suffix))


def tree(
    pattern: str, named: Callable[[str, str, int], str] = lambda c, p, n: "", beside: tuple[str, ...] = ()
) -> Write:
    """Cells below names such as ``{c}/{p}/{n}.png``, ``{q}`` as ``named`` gives it, and other images beside them."""

    def write(root: Path) -> Path:
        for place, (c, p, n) in enumerate(CELLS):
            part = ("train", "train", "test")[PATIENTS.index(p) % 3]
            put(root / pattern.format(c=c, p=p, n=n, k=place, part=part, f=place % 3, q=named(c, p, n)))
        put(*(root / name for name in beside))
        return root

    return write


def table(
    header: str, row: str = "{f},{c},{p}", named: Callable[[str, str, int], str] = lambda c, p, n: "", *,
    file: str = "cells.csv", encoding: str = "utf-8", end: str = "\n", more: str = "", missing: str = "",
) -> Write:  # fmt: skip
    """A table, a line a cell: ``{f}`` is its file, ``{w}`` that on Windows, ``{q}`` what ``named`` gives."""

    def write(root: Path) -> Path:
        lines = [header]
        for c, p, n in CELLS:
            name = f"img/{p}_{n}.png"
            put(root / name)
            lines.append(row.format(f=name, w=name.replace("/", "\\"), c=c, p=p, q=named(c, p, n)))
        (root / file).write_bytes((end.join([*lines, *([more] if more else [])]) + end).encode(encoding))
        if missing:
            (root / missing).unlink()
        return root / file

    return write


def frame(file: str) -> Write:
    def write(root: Path) -> Path:
        rows = [(f"img/{p}_{n}.png", c, p) for c, p, n in CELLS]
        put(*(root / name for name, *_ in rows))
        data = pd.DataFrame(rows, columns=["filename", "diagnosis", "patient_id"])
        (data.to_excel if file.endswith("xlsx") else data.to_parquet)(root / file, index=False)
        return root / file

    return write


NESTED, ROWS, WHO = tree("{c}/{p}/{n}.png"), "path,label,subject", "where,what,who"
MAPPED = {"columns": {"path": "where", "label": "what", "subject": "who"}}
LAYOUTS = {
    # folders
    "class": Layout(tree("{c}/{p}_{n}.png"), patients=0, said="[Nn]o patient"),
    "class, patient": Layout(NESTED, said=r"ALL/P01/.*"),
    "class, numbers for patients": Layout(tree("{c}/{q}/{n}.png", lambda c, p, n: str(100 + int(p[1:])))),
    "class, codes for patients": Layout(tree("{c}/{q}/{n}.png", lambda c, p, n: f"{c[0]}{p[1:]}")),
    "class, patient, slide": Layout(tree("{c}/{p}/slide{f}/{k}.png")),
    "class, patient, images": Layout(tree("{c}/{p}/images/{n}.png")),
    "patient, class": Layout(
        tree("{p}/{c}/{n}.png"), refused=("data.label: folder:2", "data.subject: folder:1", "P01/ALL/"),
        cured={"label": "folder:2", "subject": "folder:1"},
    ),
    "patient, class, told at once": Layout(tree("{p}/{c}/{n}.png"), {"label": "folder:2", "subject": "folder:1"}),
    "patient, class, the patient by pattern": Layout(
        tree("{p}/{c}/{n}.png"), {"label": "folder:2", "subject": r"pattern:^(?P<subject>P\d+)/"}
    ),
    "parts, class": Layout(tree("{part}/{c}/{p}_{n}.png"), patients=0, parts=("test", "train"), said="given"),
    "parts, class, patient": Layout(tree("{part}/{c}/{p}/{n}.png"), parts=("test", "train"), said="given"),
    "Training, Validation": Layout(
        tree("{q}/{c}/{p}/{n}.png", lambda c, p, n: "Training" if p in ("P01", "P07") else "Validation"),
        parts=("Training", "Validation"),
    ),
    "wrapped": Layout(tree("data/{c}/{p}/{n}.png")),
    "wrapped twice": Layout(tree("export/2024/{c}/{p}/{n}.png")),
    "classes in German": Layout(
        tree("{q}/{p}/{n}.png", lambda c, p, n: {"ALL": "Leukämie", "normal": "gesund"}[c]), classes={"Leukämie": 12, "gesund": 12}
    ),
    "one class spelt twice": Layout(tree("{q}/{p}/{n}.png", lambda c, p, n: "all" if p == "P02" else c), said="all"),
    "one patient spelt four times": Layout(
        tree("{c}/{q}/{n}.png", lambda c, p, n: ("P01", "p01", "P 01", "P_01")[n - 1] if p == "P01" else p), said="P01"
    ),
    "a patient called unknown": Layout(
        tree("{c}/{q}/{n}.png", lambda c, p, n: "unknown" if p == "P12" else p), patients=5, said="unknown"
    ),
    "depths mixed": Layout(
        tree("{c}/{p}/{n}.png", beside=("normal/1.png", "normal/2.png", "normal/3.png")), said="3", classes={"ALL": 12, "normal": 15}
    ),
    "lenses are no patients": Layout(tree("{c}/{q}/{p}_{n}.png", lambda c, p, n: ("10x", "40x", "100x")[n % 3]), patients=0),
    "junk beside": Layout(
        tree("{c}/{p}/{n}.png", beside=("@eaDir/ALL/P99/x.png", ".trash/y.png", "ALL/P01/.hidden.png", "__MACOSX/ALL/z.png"))
    ),
    "patients in file names": Layout(tree("{c}/{p}-cell{n}.png"), {"subject": r"pattern:/(?P<subject>P\d+)-"}),
    "class in file names": Layout(
        tree("{p}/{c}_{n}.png"), {"label": r"pattern:(?P<label>ALL|normal)_\d", "subject": "folder:1"}
    ),
    "all in one folder": Layout(
        tree("{c}_{p}_{n}.png"), patients=0, refused=(r"data\.label=pattern:\^",), cured={"label": r"pattern:^(?P<label>[^_]+)_"}
    ),
    "all in one folder, by patterns": Layout(
        tree("{c}_{p}_{n}.png"), {"label": r"pattern:^(?P<label>[^_]+)_", "subject": r"pattern:_(?P<subject>P\d+)_"}
    ),
    "no patients, waived": Layout(tree("{c}/{p}_{n}.png"), {"subject": "none"}, patients=0, said="data.subject: none"),
    "patients waived though known": Layout(NESTED, {"subject": "none"}, patients=0),
    "a bad pattern": Layout(
        NESTED, {"subject": "pattern:(?P<patient>P"}, refused=("data.subject", "subject"), cured={"subject": r"pattern:/(?P<subject>P\d+)/"}
    ),
    "a level too deep": Layout(NESTED, {"subject": "folder:5"}, refused=("data.subject", "2"), cured={"subject": "folder:2"}),
    "classes picked": Layout(tree("{c}/{p}/{n}.png", beside=("debris/x/1.png",)), {"classes": ["normal", "ALL"]}, said="debris"),
    "classes joined": Layout(
        tree("{q}/{p}/{n}.png", lambda c, p, n: f"{c}-{'a' if p in ('P01', 'P07') else 'b'}"),
        {"classes": {"ALL": ["ALL-a", "ALL-b"], "normal": ["normal-a", "normal-b"]}},
    ),
    "other suffixes": Layout(tree("{c}/{p}/{n}{q}", lambda c, p, n: (".jpe", ".jfif", ".webp", ".TIF")[n - 1])),
    # tables
    "path,label,subject": Layout(table(ROWS)),
    "column patient": Layout(table("path,label,patient")),
    "semicolons": Layout(table("filename;diagnosis;patient_id", "{f};{c};{p}")),
    "Excel's CSV": Layout(table("Dateiname;Diagnose;Patient", "{f};{c};{p}", end="\r\n", encoding="utf-8-sig")),
    "tabs": Layout(table("image\tclass\tcase_id", "{f}\t{c}\t{p}", file="cells.tsv")),
    "UTF-16": Layout(table(ROWS, encoding="utf-16")),
    "Latin-1": Layout(
        table("Datei;Befund;Fall;Färbung", "{f};{c};{p};üblich", encoding="latin-1"), said="(?i)latin-1|cp1252"
    ),
    "French": Layout(table("fichier;diagnostic;sujet", "{f};{c};{p}")),
    "Spanish": Layout(table("archivo;diagnóstico;paciente", "{f};{c};{p}")),
    "xlsx": Layout(frame("cells.xlsx")),
    "Parquet": Layout(frame("cells.parquet")),
    "Windows paths": Layout(table(ROWS, "{w},{c},{p}")),
    "drive letters": Layout(table(ROWS, "D:\\lab\\{w},{c},{p}")),
    "other column names": Layout(table(WHO), refused=("data.columns", "where.*what.*who"), cured=MAPPED),
    "other column names, mapped": Layout(table(WHO), MAPPED),
    "two patient columns": Layout(
        table("path,label,patient,patient_id", "{f},{c},{p},{p}"), refused=(r"data\.columns.*\{subject: ", "patient.*patient_id"),
        cured={"columns": {"subject": "patient"}},
    ),
    "numbers as a spreadsheet leaves them": Layout(
        table(ROWS, "{f},{c},{q}", lambda c, p, n: f"{int(p[1:])}{'.0' if n % 2 else ''}"), said="11"
    ),
    "patients nan": Layout(
        table(ROWS, "{f},{c},{q}", lambda c, p, n: "nan" if p in ("P03", "P12") else p), patients=4, said="nan"
    ),
    "a split column": Layout(
        table(f"{ROWS},split", "{f},{c},{p},{q}", lambda c, p, n: "test" if p in ("P03", "P12") else "train"),
        parts=("test", "train"), said="given",
    ),
    "a missing file": Layout(table(ROWS, missing="img/P01_1.png"), refused=("line 2", "P01_1.png")),
    "a row twice": Layout(table(ROWS, more="img/P01_1.png,ALL,P01"), said="2"),
    "a row twice with two labels": Layout(table(ROWS, more="img/P01_1.png,normal,P01"), refused=("26", "P01_1.png")),
    "an old .xls": Layout(table("path,label", "{f},{c}", file="cells.xls"), refused=(".xlsx",)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_is_understood_or_refused_with_a_cure_that_works(name: str, tmp_path: Path):
    layout = LAYOUTS[name]
    path, settings = layout.write(tmp_path), layout.settings
    if layout.refused:
        with pytest.raises(KerasallError) as refusal:
            read_collection_of(DataSettings(path=str(path), **settings), Path())
        for expected in layout.refused:
            assert re.search(expected, str(refusal.value), re.DOTALL), str(refusal.value)
        if not layout.cured:
            return
        settings = settings | layout.cured
    collection = read_collection_of(DataSettings(path=str(path), **settings), Path())
    examples = collection.examples
    assert examples["label"].value_counts().to_dict() == layout.classes
    assert examples["subject"][examples["subject"] != ""].nunique() == layout.patients
    assert collection.subject_kind == ("subject" if layout.patients else "none")
    assert tuple(sorted(set(examples["fold"]) - {""})) == layout.parts
    told = "\n".join([*collection.notes, *collection.read_warnings])
    assert re.search(layout.said, told), told
