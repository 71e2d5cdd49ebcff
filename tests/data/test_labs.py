"""Folders and tables as labs have them, with real cells where there are some: understood, or refused with a cure that works.

Every row is read twice: as it is, and, where it must be refused, again with the very setting that the message names.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kerasall.components.example_gen import read_collection_of
from kerasall.data.examples import Collection
from kerasall.errors import KerasallError
from kerasall.settings import DataSettings

PATIENTS = ("P01", "P02", "P03", "P07", "P11", "P12")
"""The first three have leukaemia."""
CELLS = 4
"""Of every patient."""

SHARED = Path(os.environ.get("KERASALL_TEST_SHARED", Path(__file__).parents[3] / "shared"))
REAL = sorted((SHARED / "data" / "cnmc_sample").glob("*.bmp"))
DRAWN = [np.random.default_rng(n).integers(0, 255, (48, 48, 3), np.uint8) for n in range(8)]
TURN = itertools.cycle(
    [*(Image.open(file).convert("RGB").resize((48, 48)) for file in REAL), *map(Image.fromarray, DRAWN)]
)
"""Real cells where they are at hand, and others; readers of names need no two to differ."""

Write = Callable[[Path], Path]
"""Empty folder -> what a lab brings: that folder, one in it, or a table."""


@dataclass(frozen=True)
class Layout:
    """One way in which a lab has its cells.

    Attributes:
        name: of the test.
        write: makes it.
        classes: images of every class, as read.
        patients: how many are known; 0: none.
        settings: that the lab gives at once.
        refused: what the message must say, regular expressions; () where it is read as it is.
        cured: the settings that the message advises; read with them, it must be understood.
        said: what notes or warnings must say, a regular expression.
        parts: of a ready-made split.
    """

    name: str
    write: Write
    classes: dict[str, int] = field(default_factory=lambda: {"ALL": 12, "normal": 12})
    patients: int = 6
    settings: dict[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    cured: dict[str, Any] = field(default_factory=dict)
    said: str = ""
    parts: tuple[str, ...] = ()


def cells() -> Iterator[tuple[str, str, int]]:
    """Class, patient and number of every cell."""
    for place, patient in enumerate(PATIENTS):
        for number in range(1, CELLS + 1):
            yield ("ALL" if place < 3 else "normal"), patient, number


def put(path: Path) -> Path:
    """Lays one cell under a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    next(TURN).save(path, {".jpe": "JPEG", ".jfif": "JPEG"}.get(path.suffix))
    return path


def tree(pattern: str, wrap: str = "", **names: Any) -> Write:
    """Cells below names such as ``{c}/{p}/cell_{n}.png``."""

    def write(root: Path) -> Path:
        for place, (label, patient, number) in enumerate(cells()):
            part = ("train", "train", "test")[PATIENTS.index(patient) % 3]
            values = {"c": label, "p": patient, "n": number, "k": place, "part": part, "f": place % 3}
            values |= {key: change(label, patient, number) for key, change in names.items()}
            put(root / pattern.format(**values))
        return root / wrap

    return write


def many(first: Write, *more: Callable[[Path], Any]) -> Write:
    """What ``first`` writes, and what else is done in its folder."""

    def write(root: Path) -> Path:
        brought = first(root)
        for each in more:
            each(root)
        return brought

    return write


def table(
    text: Callable[[list[tuple[str, str, str]]], str], file: str = "cells.csv", encoding: str = "utf-8",
    images: str = "img/{p}_{n}.png",
) -> Write:  # fmt: skip
    """A table of (name of the file, class, patient), written by ``text``."""

    def write(root: Path) -> Path:
        rows = [(images.format(p=p, n=n), c, p) for c, p, n in cells()]
        for name, *_ in rows:
            put(root / name)
        (root / file).write_bytes(text(rows).encode(encoding))
        return root / file

    return write


def lines(header: str, row: str, end: str = "\n") -> Callable[[list[tuple[str, str, str]]], str]:
    return lambda rows: end.join([header, *(row.format(f=f, c=c, p=p) for f, c, p in rows)]) + end


def changed(change: Callable[[str, str, str], tuple[Any, ...]]) -> Write:
    """A plain table, with what ``change`` makes of every row."""
    return table(lambda rows: lines("path,label,subject", "{f},{c},{p}")([change(*row) for row in rows]))


def frame(file: str, columns: Sequence[str] = ("filename", "diagnosis", "patient_id")) -> Write:
    def write(root: Path) -> Path:
        rows = [(put(root / f"img/{p}_{n}.png").relative_to(root).as_posix(), c, p) for c, p, n in cells()]
        data = pd.DataFrame(rows, columns=list(columns))
        (data.to_excel if file.endswith("xlsx") else data.to_parquet)(root / file, index=False)
        return root / file

    return write


def spelt(label: str, patient: str, number: int) -> str:
    return ("P01", "p01", "P 01", "P_01")[number - 1] if patient == "P01" else patient


LAYOUTS = [
    # folders
    Layout("class", tree("{c}/{p}_{n}.png"), patients=0, said="[Nn]o patient"),
    Layout("class/patient", tree("{c}/{p}/{n}.png"), said=r"ALL/P01/.*"),
    Layout("class/patient, numbers for patients", tree("{c}/{q}/{n}.png", q=lambda c, p, n: str(100 + int(p[1:])))),
    Layout("class/patient, codes for patients", tree("{c}/{q}/{n}.png", q=lambda c, p, n: f"{c[0]}{p[1:]}")),
    Layout("class/patient/slide", tree("{c}/{p}/slide{f}/{k}.png")),
    Layout("class/patient/images", tree("{c}/{p}/images/{n}.png")),
    Layout(
        "patient/class", tree("{p}/{q}/{n}.png", q=lambda c, p, n: c),
        refused=("data.label: folder:2", "data.subject: folder:1", "P01/ALL/"),
        cured={"label": "folder:2", "subject": "folder:1"},
    ),
    Layout("patient/class, told at once", tree("{p}/{c}/{n}.png"), settings={"label": "folder:2", "subject": "folder:1"}),
    Layout(
        "patient/class, the patient alone by pattern", tree("{p}/{c}/{n}.png"),
        settings={"label": "folder:2", "subject": r"pattern:^(?P<subject>P\d+)/"},
    ),
    Layout("parts/class", tree("{part}/{c}/{p}_{n}.png"), patients=0, parts=("test", "train"), said="given"),
    Layout("parts/class/patient", tree("{part}/{c}/{p}/{n}.png"), parts=("test", "train"), said="given"),
    Layout(
        "Training/Validation",
        tree("{q}/{c}/{p}/{n}.png", q=lambda c, p, n: "Training" if p in ("P01", "P07") else "Validation"),
        parts=("Training", "Validation"),
    ),
    Layout("wrapped", tree("data/{c}/{p}/{n}.png")),
    Layout("wrapped twice", tree("export/2024/{c}/{p}/{n}.png")),
    Layout(
        "classes in German", tree("{q}/{p}/{n}.png", q=lambda c, p, n: {"ALL": "Leukämie", "normal": "gesund"}[c]),
        classes={"Leukämie": 12, "gesund": 12},
    ),
    Layout("one class spelt twice", tree("{q}/{p}/{n}.png", q=lambda c, p, n: "all" if p == "P02" else c), said="all"),
    Layout("one patient spelt four times", tree("{c}/{q}/{n}.png", q=spelt), said="P01"),
    Layout(
        "a patient called unknown", tree("{c}/{q}/{n}.png", q=lambda c, p, n: "unknown" if p == "P12" else p), patients=5,
        said="unknown",
    ),
    Layout(
        "depths mixed", many(tree("{c}/{p}/{n}.png"), lambda root: [put(root / f"normal/loose{n}.png") for n in range(3)]),
        classes={"ALL": 12, "normal": 15}, said="3",
    ),
    Layout(
        "lenses are no patients", tree("{c}/{q}/{p}_{n}.png", q=lambda c, p, n: ("10x", "40x", "100x")[n % 3]), patients=0,
    ),
    Layout(
        "junk beside",
        many(tree("{c}/{p}/{n}.png"), lambda root: [put(root / "@eaDir/ALL/P99/x.png"), put(root / ".trash/y.png"), put(root / "ALL/P01/.hidden.png"), put(root / "__MACOSX/ALL/z.png")]),
    ),
    Layout("patients in file names", tree("{c}/{p}-cell{n}.png"), settings={"subject": r"pattern:/(?P<subject>P\d+)-"}),
    Layout(
        "class in file names", tree("{p}/{c}_{n}.png"),
        settings={"label": r"pattern:(?P<label>ALL|normal)_\d", "subject": "folder:1"},
    ),
    Layout(
        "all in one folder", tree("{c}_{p}_{n}.png"), refused=(r"data\.label=pattern:\^",), patients=0,
        cured={"label": r"pattern:^(?P<label>[^_]+)_"},
    ),
    Layout(
        "all in one folder, by patterns", tree("{c}_{p}_{n}.png"),
        settings={"label": r"pattern:^(?P<label>[^_]+)_", "subject": r"pattern:_(?P<subject>P\d+)_"},
    ),
    Layout(
        "no patients, waived", tree("{c}/{p}_{n}.png"), patients=0, settings={"subject": "none"}, said="data.subject: none",
    ),
    Layout("patients waived though known", tree("{c}/{p}/{n}.png"), patients=0, settings={"subject": "none"}),
    Layout(
        "a bad pattern", tree("{c}/{p}/{n}.png"), settings={"subject": "pattern:(?P<patient>P"},
        refused=("data.subject", "subject"), cured={"subject": r"pattern:/(?P<subject>P\d+)/"},
    ),
    Layout(
        "a level too deep", tree("{c}/{p}/{n}.png"), settings={"subject": "folder:5"}, refused=("data.subject", "2"),
        cured={"subject": "folder:2"},
    ),
    Layout(
        "classes picked", many(tree("{c}/{p}/{n}.png"), tree("debris/{p}/{n}.png")), settings={"classes": ["normal", "ALL"]},
        said="debris",
    ),
    Layout(
        "classes joined", tree("{q}/{p}/{n}.png", q=lambda c, p, n: f"{c}-{'a' if p in ('P01', 'P07') else 'b'}"),
        settings={"classes": {"ALL": ["ALL-a", "ALL-b"], "normal": ["normal-a", "normal-b"]}},
    ),
    Layout("other suffixes", tree("{c}/{p}/{n}{q}", q=lambda c, p, n: (".jpe", ".jfif", ".webp", ".TIF")[n - 1])),
    # folders that mislead
    Layout(
        "a copy of the tree beside the classes",
        many(tree("{c}/{p}/{n}.png"), tree("backup/{c}/{p}/{n}.png")),
        refused=(r"backup beside ALL, normal.*folder:1 --set data.subject=folder:2 --set 'data.classes=\[ALL, normal\]'",),
        cured={"label": "folder:1", "subject": "folder:2", "classes": ["ALL", "normal"]},
        said="left out: backup",
    ),
    Layout(
        "patients of a test part beside classes",
        many(tree("train/{c}/{p}/{n}.png"), tree("test/{q}/{n}.png", q=lambda c, p, n: f"P2{p[2]}")),
        refused=("P21, P22, P23.* beside ALL, normal",),
        cured={"label": "folder:2", "subject": "folder:3", "classes": ["ALL", "normal"]}, said="P21",
    ),
    Layout(
        "a second folder of a class", many(tree("{c}/{p}/{n}.png"), lambda root: put(root / "ALL (2)/P20/1.png")),
        classes={"ALL": 12, "normal": 12, "ALL (2)": 1}, patients=7, said=r"ALL and ALL \(2\) are taken for two classes",
    ),
    Layout(
        "images that nobody labelled", many(tree("{c}/{p}/{n}.png"), lambda root: put(root / "unlabelled/P20/1.png")),
        classes={"ALL": 12, "normal": 12, "unlabelled": 1}, patients=7, said=r"set data.classes: \[ALL, normal\]",
    ),
    Layout(
        "every class counts its own patients", tree("{c}/Pat. {q}/{n}.png", q=lambda c, p, n: PATIENTS.index(p) % 3 + 1),
        patients=3, said="if every class counts its own",
    ),
    Layout(
        "every class counts its own patients, told by the pattern of the warning",
        tree("{c}/Pat. {q}/{n}.png", q=lambda c, p, n: PATIENTS.index(p) % 3 + 1),
        settings={"subject": "pattern:^(?P<subject>[^/]+/[^/]+)/"},
    ),
    Layout(
        "patients of a year beside patients",
        tree("{c}/{q}/{n}.png", q=lambda c, p, n: f"2021/{p}" if p in ("P02", "P03") else p), patients=5,
        said="2021 are taken for one patient each",
    ),
    Layout(
        "patients of a year beside patients, told by the pattern of the warning",
        tree("{c}/{q}/{n}.png", q=lambda c, p, n: f"2021/{p}" if p in ("P02", "P03") else p),
        settings={"subject": "pattern:(?P<subject>[^/]+)/[^/]+$"},
    ),
    Layout(
        "subtypes of one class alone", tree("{q}/{p}/{n}.png", q=lambda c, p, n: f"ALL/L{p[2]}" if c == "ALL" else c),
        patients=3,
        said="3 more; their patient is not known. If the innermost folder|7 more; their patient is not known. If the inner",
    ),
    Layout(
        "visits of a patient", tree("{c}/{p}_2021-03-0{n}/{n}.png"), patients=24,
        said="differ by a date, a visit.*P01_2021-03-01 and P01_2021-03-02",
    ),
    Layout(
        "the class ends the patient's name", tree("{p}_{c}/{n}.png"),
        refused=(r"P01_ALL/1.png: class ALL \(by the pattern\), patient P01_ALL",),
        cured={"label": r"pattern:^[^/]*?(?P<label>[^\W\d_]+)/", "subject": "folder:1"},
    ),
    Layout(
        "the class begins the file's name", tree("{p}/{c}_{n}.png"),
        refused=(r"class ALL \(by the pattern\), patient P01 \(1st folder\)",),
        cured={"label": r"pattern:^(?:.*/)?(?P<label>[^\W\d_]+)[^/]*$", "subject": "folder:1"},
    ),
    Layout(
        "the class ends the file's name", tree("images/Im{k:03}_{q}.png", q=lambda c, p, n: int(c == "ALL")),
        classes={"0": 12, "1": 12}, patients=0, refused=("images, which tells no class",),
        cured={"label": r"pattern:[_-](?P<label>[^/_.-]+)\.[^/.]+$"},
    ),
    Layout(
        "sites above patients, and classes that no word tells",
        tree("{r}/{p}/{q}/{n}.png", q=lambda c, p, n: {"ALL": "foo", "normal": "bar"}[c], r=lambda c, p, n: "Berlin" if p in ("P01", "P07", "P11") else "Paris"),
        classes={"foo": 12, "bar": 12},
        refused=("bar, foo come back below P01",),
        cured={"label": "folder:3", "subject": "folder:2"},
    ),
    Layout("patients called by letters", tree("{c}/Patient {q}/{n}.png", q=lambda c, p, n: "ABCDEF"[PATIENTS.index(p)])),
    Layout(
        "patients called by keys of a database",
        tree("{c}/{q}/{n}.png", q=lambda c, p, n: f"abcdefab-cdef-abcd-efab-cdefabcdef{p[1:]}"),
    ),
    Layout(
        "in Chinese",
        tree("{r}/{q}/{p}/{n}.png", q=lambda c, p, n: {"ALL": "白血病", "normal": "正常"}[c], r=lambda c, p, n: "测试" if p in ("P03", "P12") else "训练"),
        classes={"白血病": 12, "正常": 12}, parts=("测试", "训练"),
    ),
    Layout(
        "signs tell the classes apart",
        tree("{q}/{p}/{n}.png", q=lambda c, p, n: {"ALL": "blasts >20%", "normal": "blasts <5%"}[c]),
        classes={"blasts >20%": 12, "blasts <5%": 12},
    ),
    Layout(
        "a table beside the folders",
        many(tree("{c}/{p}/{n}.png"), lambda root: (root / "cells.csv").write_text("path,label\n")),
        said="not from cells.csv",
    ),
    Layout(
        "a table beside the images", many(tree("{p}_{n}.png"), lambda root: (root / "cells.csv").write_text("path,label\n")),
        refused=("give the path of the table cells.csv",),
    ),
    Layout(
        "packed", many(lambda root: root, lambda root: (root / "cells.zip").write_bytes(b"PK")),
        refused=("unpack cells.zip",),
    ),
    # tables
    Layout("path,label,subject", table(lines("path,label,subject", "{f},{c},{p}"))),
    Layout("column patient", table(lines("path,label,patient", "{f},{c},{p}"))),
    Layout("filename;diagnosis;patient_id", table(lines("filename;diagnosis;patient_id", "{f};{c};{p}"))),
    Layout(
        "Excel's CSV: semicolons, byte order mark, CR LF",
        table(lines("Dateiname;Diagnose;Patient", "{f};{c};{p}", "\r\n"), encoding="utf-8-sig"),
    ),
    Layout("tabs", table(lines("image\tclass\tcase_id", "{f}\t{c}\t{p}"), "cells.tsv")),
    Layout("UTF-16", table(lines("path,label,subject", "{f},{c},{p}"), encoding="utf-16")),
    Layout(
        "Latin-1", table(lines("Datei;Befund;Fall;Färbung", "{f};{c};{p};üblich"), encoding="latin-1"),
        said="(?i)latin-1|cp1252",
    ),
    Layout("French", table(lines("fichier;diagnostic;sujet", "{f};{c};{p}"))),
    Layout("Spanish", table(lines("archivo;diagnóstico;paciente", "{f};{c};{p}"))),
    Layout("xlsx", frame("cells.xlsx")),
    Layout("Parquet", frame("cells.parquet")),
    Layout("Windows paths", changed(lambda f, c, p: (f.replace("/", "\\"), c, p))),
    Layout("drive letters", changed(lambda f, c, p: ("D:\\lab\\" + f.replace("/", "\\"), c, p))),
    Layout(
        "other column names", table(lines("where,what,who", "{f},{c},{p}")), refused=("data.columns", "where.*what.*who"),
        cured={"columns": {"path": "where", "label": "what", "subject": "who"}},
    ),
    Layout(
        "other column names, mapped", table(lines("where,what,who", "{f},{c},{p}")),
        settings={"columns": {"path": "where", "label": "what", "subject": "who"}},
    ),
    Layout(
        "two patient columns", table(lines("path,label,patient,patient_id", "{f},{c},{p},{p}")),
        refused=(r"data\.columns: \{subject: patient\}", "patient.*patient_id"), cured={"columns": {"subject": "patient"}},
    ),
    Layout(
        "numbers as a spreadsheet leaves them",
        table(lambda rows: lines("path,label,subject", "{f},{c},{p}")([(f, c, f"{int(p[1:])}.0" if i % 2 else str(int(p[1:]))) for i, (f, c, p) in enumerate(rows)])),
        said="5|1|11",
    ),
    Layout("patients nan", changed(lambda f, c, p: (f, c, "nan" if p in ("P03", "P12") else p)), patients=4, said="nan"),
    Layout(
        "a split column",
        table(lambda rows: lines("path,label,subject,split", "{f},{c},{p}")([(f, c, f"{p},{'test' if p in ('P03', 'P12') else 'train'}") for f, c, p in rows])),
        parts=("test", "train"), said="given",
    ),
    Layout(
        "a missing file",
        many(table(lines("path,label,subject", "{f},{c},{p}")), lambda root: (root / "img/P01_1.png").unlink()),
        refused=("line 2", "P01_1.png"),
    ),
    Layout("a row twice", table(lambda rows: lines("path,label,subject", "{f},{c},{p}")([*rows, rows[0]])), said="2"),
    Layout(
        "a row twice with two labels",
        table(lambda rows: lines("path,label,subject", "{f},{c},{p}")([*rows, (rows[0][0], "normal", "P01")])),
        refused=("26", "P01_1.png"),
    ),
    Layout("headers that explain themselves", table(lines("Image [png];Label (0 = normal);Patient (ID)", "{f};{c};{p}"))),
    Layout("Italian", table(lines("immagine;diagnosi;paziente", "{f};{c};{p}"))),
    Layout("Portuguese", table(lines("arquivo;diagnóstico;doente", "{f};{c};{p}"))),
    Layout("Chinese", table(lines("文件名,诊断,患者编号", "{f},{c},{p}"))),
    Layout(
        "two tables, one below the other",
        table(lambda rows: (half := lines("path,label,subject", "{f},{c},{p}"))(rows[:9]) + half(rows[9:])),
        said="line 11 repeats the names",
    ),
    Layout(
        "a table in which every class counts its own patients",
        changed(lambda f, c, p: (f, c, str(PATIENTS.index(p) % 3 + 1))), patients=3, said="if every class counts its own",
    ),
    Layout(
        "numbers that a spreadsheet shortened",
        table(lines("path,label,subject", "{f},{c},1.{p}E+12".replace("{p}", "{p[1]}{p[2]}"))), said="several may be one",
    ),
    Layout(
        "numbers that a spreadsheet made days of", table(lines("path,label,subject", "{f},{c},{p[1]}{p[2]}-Jan")),
        said="look like days",
    ),
    Layout(
        "a class called nan", changed(lambda f, c, p: (f, "nan" if f.endswith("P01_1.png") else c, p)),
        classes={"ALL": 11, "normal": 12, "nan": 1}, said="nan beside ALL, normal",
    ),
    Layout("an old .xls", table(lines("path,label", "{f},{c}"), "cells.xls"), refused=(".xlsx",)),
]  # fmt: skip


def read(path: Path, settings: dict[str, Any]) -> Collection:
    return read_collection_of(DataSettings(path=str(path), **settings), Path())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda row: row.name)
def test_is_understood_or_refused_with_a_cure_that_works(layout: Layout, tmp_path: Path):
    path = layout.write(tmp_path)
    settings = layout.settings
    if layout.refused:
        with pytest.raises(KerasallError) as refusal:
            read(path, settings)
        for expected in layout.refused:
            assert re.search(expected, str(refusal.value), re.DOTALL), str(refusal.value)
        if not layout.cured:
            return
        settings = settings | layout.cured
    collection = read(path, settings)
    examples = collection.examples
    assert examples["label"].value_counts().to_dict() == layout.classes
    assert examples["subject"][examples["subject"] != ""].nunique() == layout.patients
    assert collection.subject_kind == ("subject" if layout.patients else "none")
    assert tuple(sorted(set(examples["fold"]) - {""})) == layout.parts
    told = "\n".join([*collection.notes, *collection.read_warnings])
    assert re.search(layout.said, told), told
