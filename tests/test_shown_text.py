"""Text of people stays text: in a terminal, in cells of spreadsheets; and that no other path leads there."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasall.csv_tables import csv_line, csv_rows, read_csv, write_csv
from kerasall.shown_text import from_cell, json_text, one_line, show, tell, tell_fault, terminal_text, to_cell

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kerasall"
PLAIN = ("", "normal", "-0.5", "+3", "1e-5", "-.5E+3", "a=1", "a@b.png", "it's", "'quoted'", "x -1", "'-0.5")
RISKY = (
    "=1+1", "@b.png", "=cmd|' /C calc'!A0", "+1+1", "-x.png", "-1+2", "--1", "\t=1", "\r=1", "\n=1", " =1", "\ufeff=1",
    "\uff1d1", "\uff20b", "'=1", "''@b", "'\t", "-", "=", "\u00a0-x",
)  # fmt: skip
HOSTILE = {
    "cell\nno errors": r"cell\nno errors",
    "a\rno errors": r"a\rno errors",
    "\x1b[2K\x1b[1Ano errors": r"\x1b[2K\x1b[1Ano errors",
    "\x9b2J": r"\x9b2J",
    "gnp.\u202eerom": r"gnp.\u202eerom",
    "two\u2028lines\u2029\x85\x0b\x0c": r"two\u2028lines\u2029\x85\x0b\x0c",
    "\udcff.png": r"\udcff.png",
    "\x07\x08\x7f\t": r"\x07\x08\x7f\t",
    "\U000e0041": r"\U000e0041",
}
READABLE = ("Zellgröße µm², 病人, لوکمی\u200cحاد, naïve B‑cell", "a\u00a0b", "100 % <b>")


@pytest.mark.parametrize("text", PLAIN)
def test_numbers_and_plain_texts_stay_as_they_are(text):
    assert to_cell(text) == text == from_cell(text)


@pytest.mark.parametrize("text", RISKY)
def test_what_a_spreadsheet_would_run_is_a_text(text):
    assert to_cell(text) == f"'{text}"
    assert from_cell(to_cell(text)) == text


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("'=+-@1.eE \t\r\nx,\"")), min_size=1, max_size=4))
def test_every_text_comes_back_from_its_cell(texts):
    assert [from_cell(to_cell(text)) for text in texts] == texts
    line = csv_line(texts)
    assert list(csv_rows([line])) == [texts] or not any(texts)
    assert not any(re.match(r"[=+@\t\r\n -]", to_cell(text)) and not is_number(text) for text in texts)


def is_number(text: str) -> bool:
    try:
        return float(text) is not None and text == text.strip()
    except ValueError:
        return False


def test_a_table_comes_back_and_its_numbers_are_numbers(tmp_path):
    texts = [*PLAIN, *RISKY, *READABLE, "a\rb", "a\r\nb", 'a"b,c']
    table = pd.DataFrame({"id": texts, "=share": [-0.5 * n for n in range(len(texts))], "@bool": True})
    write_csv(table, tmp_path / "t.csv")
    found = read_csv(tmp_path / "t.csv", dtype={"id": str})
    assert found.to_dict("list") == table.to_dict("list")
    assert list(table.columns) == ["id", "=share", "@bool"]
    lines = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,'=share,'@bool"
    assert lines[2] == "normal,-0.5,True"


def test_a_table_without_such_texts_has_the_bytes_it_always_had(tmp_path):
    table = pd.DataFrame({"id": ["a.png", "b c.png"], "share": [-0.25, 1.5]})
    write_csv(table, tmp_path / "t.csv", float_format="%.2f")
    assert (tmp_path / "t.csv").read_bytes() == b"id,share\na.png,-0.25\nb c.png,1.50\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_of_a_terminal_is_only_seen(text, capsys):
    assert one_line(text) == HOSTILE[text]
    assert terminal_text(text).isprintable() or "\n" in text
    show(f"note: {text}")
    tell(f"note: {text}")
    printed = capsys.readouterr()
    assert printed.out == printed.err == f"note: {HOSTILE[text]}\n"


@pytest.mark.parametrize("text", READABLE)
def test_words_of_all_languages_are_shown_as_they_are(text):
    assert one_line(text) == text


def test_no_line_of_a_message_reads_like_one_of_the_programs_own(capsys):
    tell_fault("error: a\nno errors\n  1. an item\n\n- another\x1b[2K")
    assert capsys.readouterr().err == "error: a\n  no errors\n  1. an item\n\n  - another\\x1b[2K\n"


@pytest.mark.parametrize("text", [*HOSTILE, *READABLE])
def test_json_for_a_terminal_is_the_same_json(text):
    shown = json_text({text: [text, -1.5]})
    assert json.loads(shown) == {text: [text, -1.5]}
    assert all(line.isprintable() or text in READABLE for line in shown.split("\n"))


def test_the_browser_makes_the_same_cells():
    """The pages make their tables themselves: the rule stands in both scripts, and is that of ``to_cell``."""
    scripts = [PACKAGE / "serving/web/templates/page.js", PACKAGE / "report/templates/review.js"]
    rules = {
        re.sub(r"\s+", " ", re.search(r"const toCell = (.*?);\n", path.read_text("utf-8"), re.DOTALL)[1])
        for path in scripts
    }
    assert len(rules) == 1
    if not (node := shutil.which("node")):
        pytest.skip("no node to run the rule")
    texts = [*PLAIN, *RISKY]
    program = f"console.log(JSON.stringify({json.dumps(texts)}.map({rules.pop()})))"
    found = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(found.stdout) == [to_cell(text) for text in texts]


# --- no other path


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return tuple((p.relative_to(PACKAGE).as_posix(), ast.parse(p.read_text(encoding="utf-8"))) for p in paths)


@cache
def calls() -> frozenset[tuple[str, str]]:
    """Module and dotted name of everything that is called in the package."""
    return frozenset(
        (path, dotted(node.func))
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    )


def dotted(node: ast.expr) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def find_calls(*names: str) -> set[str]:
    """Modules that call one of these: ``print``, ``csv.writer``, or ``.to_csv`` of whatever."""
    return {
        path
        for path, called in calls()
        if any(called.endswith(name) if name.startswith(".") else called == name for name in names)
    }


def test_one_module_writes_to_the_terminal():
    assert find_calls("print") == {"shown_text.py"}
    assert find_calls("typer.echo", "typer.secho", "click.echo", "rich.print", "sys.stdout.write", "sys.stderr.write",
                      "sys.stdout.writelines", "sys.stderr.writelines", "sys.__stderr__.write") == set()  # fmt: skip
    # Bars alone, whose words are escaped.
    assert find_calls("Console") == {"cli/console.py", "runtime.py", "training/history.py"}


def test_one_module_writes_csv_and_reads_what_was_written():
    assert find_calls(".to_csv") <= {
        "csv_tables.py",
        "cli/taguchi.py",
    }  # that of a design, made of ``csv_line``
    assert find_calls("csv.writer", "csv.DictWriter") == {"csv_tables.py"}
    assert find_calls("pd.read_csv", "pandas.read_csv", "csv.DictReader") == {"csv_tables.py"}
    assert find_calls("csv.reader") == {"csv_tables.py", "listing/tables.py"}


# Method -> place of its text among the arguments.
DRAWN = {"set_title": 0, "set_xlabel": 0, "set_ylabel": 0, "set_label": 0, "suptitle": 0, "annotate": 0, "text": 2,
         "figtext": 2, "set_text": 0, "set_xticks": 1, "set_yticks": 1, "set_xticklabels": 0, "set_yticklabels": 0,
         "bar_label": 1}  # fmt: skip
WORDS = {"label", "labels", "xlabel", "ylabel", "title"}


def is_harmless(node: ast.expr | None, known: dict[str, list[ast.expr]]) -> bool:
    """Whether a text of a figure is kerasall's own, a number, or went through ``plot_text``."""
    if node is None or isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Call):
        return dotted(node.func) in ("plot_text", "plot_texts")
    if isinstance(node, ast.JoinedStr):
        return all(is_harmless(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        spec = "".join(
            str(part.value)
            for part in getattr(node.format_spec, "values", [])
            if isinstance(part, ast.Constant)
        )
        return bool(re.search(r"[,.\d]*[,dfgeE%]$", spec)) or is_harmless(node.value, known)
    if isinstance(node, ast.List | ast.Tuple):
        return all(is_harmless(each, known) for each in node.elts)
    if isinstance(node, ast.ListComp):
        return is_harmless(node.elt, known)
    if isinstance(node, ast.IfExp):
        return is_harmless(node.body, known) and is_harmless(node.orelse, known)
    return (
        isinstance(node, ast.Name)
        and bool(known.get(node.id))
        and all(is_harmless(v, {}) for v in known[node.id])
    )


def find_drawn(tree: ast.AST) -> list[tuple[int, ast.expr]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            found += [
                v for k, v in zip(node.keys, node.values, strict=True) if getattr(k, "value", "") == "label"
            ]
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        name = dotted(node.func).rpartition(".")[2]
        on_axes = re.search(r"\b(axes|figure|bar|ax|legend)\b", dotted(node.func)) or name == "show_legend"
        if not on_axes:
            continue
        place = DRAWN.get(name, len(node.args))
        found += node.args[place : place + 1]
        found += [each.value for each in node.keywords if each.arg in WORDS and name != "legend"]
    return found


def assignments(function: ast.AST) -> dict[str, list[ast.expr]]:
    known: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = [target] if isinstance(target, ast.Name) else getattr(target, "elts", [])
                for name in names:
                    known.setdefault(getattr(name, "id", ""), []).append(node.value)
    return known


def draws(tree: ast.Module) -> bool:
    return any(
        "matplotlib" in ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom | ast.Import)
    )


def test_every_text_of_a_figure_goes_through_plot_text():
    unchecked = []
    for path, tree in trees():
        if not draws(tree) or path == "cli/explain.py":
            continue
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                known = assignments(function)
                unchecked += [
                    f"{path}:{text.lineno} {ast.unparse(text)}"
                    for text in find_drawn(function)
                    if not is_harmless(text, known)
                ]
    assert unchecked == []


def test_the_search_for_other_paths_finds_them():
    source = "def f(axes, name):\n    axes.set_title(name)\n    axes.plot([], label=f'{name} 1')\n    axes.text(0, 0, str(name))"
    function = ast.parse(source).body[0]
    assert [is_harmless(text, assignments(function)) for text in find_drawn(function)] == [False] * 3
    source = "def f(axes, n, name):\n    t = f'{n:.1f}%'\n    axes.set_title(t)\n    axes.text(0, 0, plot_text(name))"
    function = ast.parse(source).body[0]
    assert [is_harmless(text, assignments(function)) for text in find_drawn(function)] == [True] * 2
    # Elsewhere it is a type alone.
    assert {path for path, tree in trees() if draws(tree) and not path.startswith("report/")} == {
        "cli/explain.py"
    }
    assert find_calls(".savefig") == {"report/figures_style.py"}
