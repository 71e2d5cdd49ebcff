"""Tables of images: as people write them, the same collection; what is wrong is named with its cure, which cures it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from lab_images import touch

from kerasall.data.image_table import read_table
from kerasall.data.sources import detect_source, read_source
from kerasall.errors import DataError, SettingsError

ROWS = [("cells/ä 1.png", "ALL", "007"), ("cells/2.png", "ALL", "12"), ("cells/3.png", "normal", "7,5;x")]


def _write(
    root: Path, text: str | bytes, images=("img/1.png", "img/2.png", "img/3.png"), name="cells.csv"
) -> Path:
    path = touch(root, *images) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _separated(
    separator=",", encoding="utf-8", names=("path", "label", "subject"), first="", end="\n", rows=ROWS
):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=end).writerows([names, *rows])
    return (first + text.getvalue()).encode(encoding)


def _excel(rows=ROWS, names=("path", "label", "subject")) -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in [names, *rows]:
        book.active.append(row)
    book.save(file)
    return file.getvalue()


def _parquet() -> bytes:
    return pd.DataFrame(ROWS, columns=["path", "label", "subject"]).to_parquet()


GERMAN, FRENCH = ("Datei", "Diagnose", "Patienten-Nr."), ("Chemin de l'image", "Étiquette", "ID_patient")
WINDOWS = [(f"D:\\studie\\{path}".replace("/", "\\"), *row) for path, *row in ROWS]
TABLES = {
    "commas.csv": _separated(),
    "semicolons.csv": _separated(";", "utf-8-sig", GERMAN, end="\r\n"),
    "latin.csv": _separated(";", "cp1252", FRENCH),
    "tabs.tsv": _separated("\t", "utf-16", ("Archivo", "Diagnóstico", "Paciente"), end="\r\n"),
    "pipes.txt": _separated("|", names=("FILENAME", "cell_type", "Patient ID")),
    "stated.csv": _separated(";", "cp1252", GERMAN, first="sep=;\r\n", end="\r\n"),
    "old_mac.csv": _separated(";", names=GERMAN, end="\r"),
    "decimal_commas.csv": _separated(
        ";", names=("Datei", "Größe, mm, gemessen", "Klasse", "Fall"), rows=[(p, "3,5,1", c, s) for p, c, s in ROWS]
    ),
    "comments.csv": _separated(first='# exported, 2024; "by" somebody\n\n'),
    "numbered.csv": _separated(names=("#", "path", "label", "subject"), rows=[("1", *row) for row in ROWS]),
    "indexed.csv": _separated(names=("", "path", "label", "subject"), rows=[("0", *row) for row in ROWS]),
    "empty_columns.csv": _separated(";", names=(*GERMAN, "", ""), rows=[*((*row, "", "") for row in ROWS), [""] * 5]),
    "windows.csv": _separated(rows=WINDOWS),
    "slashes.csv": _separated(rows=[(path.replace("/", "\\"), *row) for path, *row in ROWS]),
    "elsewhere.csv": _separated(rows=[(f"/home/me/{path}", *row) for path, *row in ROWS]),
    "bare.csv": _separated(rows=[(Path(path).name, *row) for path, *row in ROWS]),
    "stems.csv": _separated(rows=[(Path(path).stem, *row) for path, *row in ROWS]),
    "case.csv": _separated(rows=[(path.upper(), *row) for path, *row in ROWS]),
    "accents.csv": _separated(rows=[(path.replace("ä", "a\u0308"), *row) for path, *row in ROWS]),
    "twice.csv": _separated(rows=[*ROWS, ROWS[0]]),
    "book.xlsx": _excel(names=GERMAN),
    "book_named_otherwise.csv": _excel(),
    "frame.parquet": _parquet(),
    "lines.jsonl": "".join(json.dumps({"file_name": p, "dx": c, "pid": s}) + "\n" for p, c, s in ROWS).encode(),
}  # fmt: skip
TOLD = {
    "latin.csv": "Windows-1252", "stated.csv": "Windows-1252", "comments.csv": "line 1 begins with #",
    "numbered.csv": "without a use here were left out: #", "indexed.csv": "left out: (no name)",
    "decimal_commas.csv": "left out: Größe, mm, gemessen", "windows.csv": r"such as D:\studie\cells\ä 1.png in line 2",
    "elsewhere.csv": "such as /home/me/cells/ä 1.png", "bare.csv": "as cells/ä 1.png", "stems.csv": "as cells/ä 1.png",
    "case.csv": "as cells/ä 1.png", "accents.csv": "as cells/ä 1.png", "twice.csv": "in lines 2, 5",
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_as_people_write_it_gives_the_collection_and_what_was_guessed_is_told(tmp_path, name):
    path = _write(tmp_path, TABLES[name], [row[0] for row in ROWS], name)
    assert detect_source(path) == "csv"
    collection = read_source("auto", path)
    columns = ["id", "path", "label", "subject"]
    expected = [(p, str(tmp_path / p), c, s) for p, c, s in sorted(ROWS)]
    assert list(collection.examples[columns].itertuples(index=False, name=None)) == expected
    assert collection.subject_kind == "subject"
    told = "\n".join(collection.read_warnings)
    assert TOLD[name] in told if name in TOLD else told == ""


def test_all_columns_are_read_with_paths_relative_to_the_table(tmp_path, monkeypatch):
    text = "path,label,subject,fold\nimg/2.png,hem,H1,a\n./img/1.png,all,07,\nimg/../img/3.png,all,P,b\n"
    path = _write(tmp_path, text)
    monkeypatch.chdir(tmp_path.parent)
    collection = read_table(Path(tmp_path.name) / path.name)
    examples = collection.examples
    assert list(examples["id"]) == ["img/1.png", "img/2.png", "img/3.png"]
    assert list(examples["path"]) == [str(tmp_path / name) for name in examples["id"]]
    assert list(examples["fold"]) == ["", "a", "b"]
    assert (collection.labels, collection.notes, collection.read_warnings) == (("all", "hem"), (), ())


def test_absolute_paths_outside_the_folder_keep_their_whole_name(tmp_path):
    far = tmp_path / "far" / "9.png"
    path = _write(
        tmp_path / "near", f"path,label\n{far},a\nimg/1.png,b\n", images=("img/1.png", "../far/9.png")
    )
    assert set(read_table(path).examples["id"]) == {far.as_posix(), "img/1.png"}


def test_how_a_table_is_read_is_said_where_its_names_do_not_say_it(tmp_path):
    path = _write(tmp_path, TABLES["semicolons.csv"], [row[0] for row in ROWS])
    assert read_table(path).notes == (
        "The table is read as in path cells/ä 1.png from column Datei, class ALL from column Diagnose, "
        "patient 007 from column Patienten-Nr..",
    )
    path = _write(tmp_path, "path,label\nx/1.png,a\ny/2.png,b\n", ("x/1.png", "y/2.png"))
    assert read_table(path, subject="folder:1").notes[0].endswith("patient x from its path (data.subject).")


def test_a_root_elsewhere_gives_the_ids_of_the_tree(tmp_path):
    tree = touch(tmp_path / "tree", "ALL/p1/1.png", "HEM/p2/2.png")
    table = _write(
        tmp_path / "tables", "path,label,subject\nALL/p1/1.png,ALL,p1\ntree/HEM/p2/2.png,HEM,p2\n", ()
    )
    with pytest.raises(DataError, match=r"set data\.root"):
        read_table(table)
    (table.parent / "x.csv").write_text(table.read_text().replace("tree/", ""))
    assert list(read_table(table.parent / "x.csv", root=tree).examples["id"]) == [
        "ALL/p1/1.png",
        "HEM/p2/2.png",
    ]
    with pytest.raises(DataError, match=r"data\.root must be the folder .* but .*none is none"):
        read_table(table, root=tmp_path / "none")


OPTIONS = [
    ("path,a,b\nx/P1/1.png,l,s\ny/P2/2.png,m,t\n", {"columns": {"label": "a", "subject": "b"}}),
    ("path,A A,b\nx/P1/1.png,l,s\ny/P2/2.png,m,t\n", {"label": "column:a_a", "subject": "column:b"}),
    ("path,label\nx/P1/1.png,l\ny/P2/2.png,m\n", {"subject": "folder:2"}),
    ("path,label\nx/P1/1.png,l\ny/P2/2.png,m\n", {"subject": r"pattern:/(?P<subject>P\d)/"}),
    ("path,subject\nx/P1/1.png,s\ny/P2/2.png,t\n", {"label": "folder:1"}),
    ("path\nx/P1/1.png\ny/P2/2.png\n", {"label": r"pattern:^(?P<label>\w)/", "subject": "folder:2"}),
    ("path,label,case,patient\nx/P1/1.png,l,q,s\ny/P2/2.png,m,q,t\n", {}),
    ("image,name,label,patient\nx/P1/1.png,n,l,s\ny/P2/2.png,o,m,t\n", {}),
    ("path,label,subject\nx/P1/1.png,l,s\ny/P2/2.png,m,t\n", {"subject": "none"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options"), OPTIONS)
def test_where_class_and_patient_stand_can_be_said(tmp_path, text, options):
    examples = read_table(_write(tmp_path, text, ("x/P1/1.png", "y/P2/2.png")), **options).examples
    labels = ["x", "y"] if options.get("label", "").startswith(("folder", "pattern")) else ["l", "m"]
    subjects = ["P1", "P2"] if options.get("subject", "").startswith(("folder", "pattern")) else ["s", "t"]
    assert list(examples["label"]) == labels
    assert list(examples["subject"]) == (["", ""] if options.get("subject") == "none" else subjects)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"subject": "first letter"},
            "but is 'first letter'",
        ),
        ({"label": "none"}, "but is 'none'"),
        ({"label": "folder"}, "but is only folder: set folder:1"),
        ({"label": "pattern:("}, "a regular expression, but"),
        ({"label": "pattern:x"}, "a group named label"),
        ({"columns": {"class": "x"}}, r"has \['class'\]"),
        ({"label": "column:a", "columns": {"label": "b"}}, "name 'a' and 'b'"),
        ({"subject": "none", "columns": {"subject": "b"}}, "data.subject is none and data.columns names 'b'"),
    ],
)
def test_options_that_say_nothing_are_refused(tmp_path, options, message):
    with pytest.raises(SettingsError, match=message):
        read_table(_write(tmp_path, "path,label\nimg/1.png,a\n"), **options)


CURES = [
    ("path,kind of cell\nimg/1.png,a\n", r"data\.columns: \{label: NAME\}", {"columns": {"label": "kind of cell"}}),
    ("photos,label\nimg/1.png,a\n", r"no column is known as the path.*the columns are photos, label", {"columns": {"path": "photos"}}),
    (
        "path,label,subject,patient\nimg/1.png,a,s,t\n", r"'subject' and 'patient' may: .* \{subject: subject\}",
        {"columns": {"subject": "subject"}},
    ),
    ("path,label,Label\nimg/1.png,a,b\n", "label, Label stand in line 1 more than once", "path,label\nimg/1.png,a\n"),
    ("path,label\nimg/1.png,a\n", r"'lable' is named .* \(is 'label' meant\?\): the columns are path, label", {"columns": {"label": "label"}}),
    ("path,label\nimg/1.png,a\nimg/2.png,\n", "give a label, but line 3 does not", "path,label\nimg/1.png,a\nimg/2.png,b\n"),
    ("path,label\n,a\n\n,b\n", "give a path, but lines 2, 4 do not", "path,label\nimg/1.png,a\n"),
    ("path,label\nimg/1.png,a\nIMG/1.png,b\n", r"img/1\.png in lines 2, 3 \(label 'a', 'b'\)", "path,label\nimg/1.png,a\n"),
    ("path,label\nimg/8.png,a\nimg/1.png,a\n", r"1 of 2 do not: img/8\.png in line 2; .* data\.root", "path,label\nimg/1.png,a\n"),
    ("path,label\nsub/1.png,a\nimg/2.png,a\n", r"sub/1\.png in line 2.*\(is img/1\.png meant\?\)", "path,label\nimg/1.png,a\n"),
    ("path,label\n1.jpg,a\nimg/2.png,a\n", r"\(is img/1\.png meant\?\)", "path,label\n1.png,a\n"),
    ("path,label\nimg/1.png,a\nimg/2.png,b,c\n", "line 1 has names, but line 3 holds another", 'path,label\nimg/1.png,"b,c"\n'),
    ('path,label\n"img/1.png,a\n', "reading it failed: line 2 cannot be read", "path,label\nimg/1.png,a\n"),
    ('path,label\nimg/1.png,"a" b\n', "line 2 cannot be read", 'path,label\nimg/1.png,"""a"" b"\n'),
    ("Cells of 2023\npath,label\nimg/1.png,a\n", "line 1 holds only 'Cells of 2023'", "path,label\nimg/1.png,a\n"),
    ("#path,label\nimg/1.png,a\n", r"img/1\.png, a \(line 1 begins with # and was passed over\)", "path,label\nimg/1.png,a\n"),
    ("img/1.png;a\nimg/2.png;b\n", r"img/1\.png is an image and no name: write a line", "path;label\nimg/1.png;a\nimg/2.png;b\n"),
    ("", "but is empty", "path,label\nimg/1.png,a\n"),
    (b"path,label\n\x00\xff\xfe,a\n", "save it as CSV UTF-8 or .xlsx", "path,label\nimg/1.png,a\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "cure"), CURES)
def test_what_is_wrong_is_named_and_its_cure_cures_it(tmp_path, text, message, cure):
    path = _write(tmp_path, text)
    wrong = {"columns": {"label": "lable"}} if "lable" in message else {}
    with pytest.raises(DataError, match=message):
        read_table(path, **wrong)
    cured = read_table(path, **cure) if isinstance(cure, dict) else read_table(_write(tmp_path, cure))
    assert len(cured.examples) >= 1


def test_all_problems_come_in_one_go(tmp_path):
    text = "path,diagnosis,class\nimg/1.png,a,b\n,c,d\nimg/9.png,e,f\nimg/2.png,a\n"
    with pytest.raises(DataError) as caught:
        read_table(_write(tmp_path, text))
    told = str(caught.value)
    assert told.count("\n- ") == 4
    for part in ("line 5", "'diagnosis' and 'class'", "line 3 does not", "img/9.png in line 4"):
        assert part in told


def test_several_images_of_one_name_are_no_guess(tmp_path):
    path = _write(tmp_path, "path,label\n1.png,a\n2.png,a\n", ("p/1.png", "q/1.png", "q/2.png"))
    with pytest.raises(
        DataError, match=r"line 2 does not: 1\.png may be p/1\.png, q/1\.png; write the folder"
    ):
        read_table(path)


def test_a_path_that_is_wrong_is_never_taken_for_another_image(tmp_path):
    """Where other paths fit, the folders of one that does not are no more dropped than changed."""
    path = _write(tmp_path, "path,label\nP1/1.png,a\nP2/2.png,a\n", ("1.png", "P2/2.png"))
    with pytest.raises(DataError, match=r"P1/1\.png in line 2"):
        read_table(path)
    path = _write(
        tmp_path, "path,label\nC:\\d\\P1\\1.png,a\nC:\\d\\P2\\2.png,a\n", ("1.png", "P2/2.png", "P3/2.png")
    )
    with pytest.raises(DataError, match=r"1 of 2 do not: C:\\d\\P1\\1\.png in line 2"):
        read_table(path)


def test_without_subjects_the_note_says_so_and_with_some_it_counts(tmp_path):
    none = read_table(_write(tmp_path, "path,label\nimg/1.png,a\nimg/2.png,b\n"))
    assert none.subject_kind == "none"
    assert "may be optimistic" in none.notes[0]
    some = read_table(_write(tmp_path, "path,label,subject\nimg/1.png,a,x\nimg/2.png,b,\n"))
    assert some.subject_kind == "subject"
    assert some.notes[0].startswith("For 1 of 2 images no patient is known")
