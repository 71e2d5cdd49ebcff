"""The rooms, the direction of imports, no circles, what loads no TensorFlow, and that the rooms keep to their names."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kerasall"
FLOORS = [
    {"errors", "shown_text", "version"},
    {"csv_tables", "files", "locks", "paths", "ray_cluster", "runtime", "settings", "decoding", "listing"},
    {"evaluation", "published"},
    {"pipeline", "data", "preprocessing", "models", "training", "taguchi", "serving"},
    {"report"},
    {"components"},
    {"studies"},
    {"cli"},
    {"__init__", "__main__"},
]
"""Rooms from the ground up. A room imports from the floors below it, never from its own or above: nothing imports the
front door ``kerasall`` itself, which knows every room."""
BESIDE = {
    "csv_tables": {"files"},
    "files": {"errors"},
    "locks": {"files"},
    "settings": {"files", "paths"},
    "paths": {"files"},
    "listing": {"paths"},
}
"""Room -> neighbours on its floor that it may import all the same."""
BLIND = {
    "pipeline": {"data", "evaluation", "settings", "decoding"},
    "report": {"pipeline", "components", "training", "serving"},
    "evaluation": {"report", "settings"},
}
"""Room -> rooms below it that it must not know either."""
LIGHT = [
    "kerasall", "kerasall.cli.app", "kerasall.settings.loading", "kerasall.decoding", "kerasall.runtime",
    "kerasall.evaluation.metrics", "kerasall.evaluation.intervals", "kerasall.report.page", "kerasall.data.sources",
    "kerasall.data.duplicates", "kerasall.data.splits", "kerasall.data.synthetic", "kerasall.data.validation",
    "kerasall.pipeline.runner", "kerasall.models.backbones", "kerasall.taguchi.analysis", "kerasall.taguchi.design",
    "kerasall.evaluation.comparison", "kerasall.evaluation.scores", "kerasall.studies.experiment",
    "kerasall.studies.answers", "kerasall.studies.keras_export",
]  # fmt: skip


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Modules of the package that ``path`` imports anywhere in it, also inside functions."""
    known = {name_of(p) for p in modules()}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= inner or {node.module}
    return frozenset(found & known)


def allowed(room: str) -> set[str]:
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    below = set[str]().union(*FLOORS[:floor])
    return (below | BESIDE.get(room, set()) | {room}) - BLIND.get(room, set())


def find_circle(graph: dict[str, frozenset[str]]) -> list[str]:
    """Modules that import each other in a circle, or none."""
    state: dict[str, int] = {}

    def visit(name: str, way: list[str]) -> list[str]:
        if state.get(name) == 2:
            return []
        if state.get(name) == 1:
            return [*way[way.index(name) :], name]
        state[name] = 1
        for other in sorted(graph.get(name, ())):
            if circle := visit(other, [*way, name]):
                return circle
        state[name] = 2
        return []

    return next((circle for name in sorted(graph) if (circle := visit(name, []))), [])


def test_every_room_has_its_floor():
    assert {room_of(name_of(p)) for p in modules()} == set[str]().union(*FLOORS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path):
    assert {room_of(name) for name in imports_of(path)} <= allowed(room_of(name_of(path)))


def test_no_modules_import_each_other_in_a_circle():
    graph = {name_of(p): imports_of(p) for p in modules()}
    assert find_circle(graph) == []
    assert find_circle({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b")}) == ["b", "c", "b"]


def test_light_modules_load_no_tensorflow():
    checks = "\n".join(f"import {name}; assert not heavy & set(sys.modules), {name!r}" for name in LIGHT)
    script = f"import sys\nheavy = {{'tensorflow', 'keras', 'jax'}}\n{checks}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_no_room_is_a_lumber_room():
    forbidden = {"utils", "helpers", "common", "misc", "manager"}
    assert not [path for path in modules() if forbidden & set(path.stem.split("_"))]


def test_every_module_says_what_it_is():
    assert not [p for p in modules() if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]


def test_nothing_unpickles_or_runs_a_lambda_layer():
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text
        assert "import joblib" not in text
        assert "keras.layers.Lambda(" not in text


def test_no_two_test_files_share_a_name():
    """pytest imports them as modules of one level: it would stop at the second."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_no_function_is_longer_than_a_screen():
    """Sixty lines beside the docstring; ``docs/architecture.md`` gives the other budgets, which are only noticed by."""
    long = [
        f"{path.name}: {node.name}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0)
        - node.lineno
        + 1
        - len((ast.get_docstring(node, clean=False) or "").splitlines())
        > 60
    ]
    assert long == []


def test_only_the_step_that_words_results_knows_of_words():
    """A reworded sentence must neither train again nor open the test part: a step's key covers what it imports."""
    graph = {name_of(p): imports_of(p) for p in modules()}

    def reached(name: str, seen: set[str]) -> set[str]:
        for other in graph[name] - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    steps = [name for name in graph if room_of(name) == "components" and not name.endswith("report_gen")]
    assert [
        name for name in steps if any(room_of(other) == "report" for other in reached(name, {name}))
    ] == []
