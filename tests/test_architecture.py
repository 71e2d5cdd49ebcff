"""The direction of imports, what loads no TensorFlow, and that the rooms keep to their names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kerasall"
BELOW_ALL = {"aligned_arrays", "cpu_bfloat16", "errors", "files", "decoding"}
SIBLINGS = {"pipeline", "data", "preprocessing", "models", "training", "taguchi", "serving"}
ALLOWED = {
    "errors": set(),
    "cpu_bfloat16": set(),
    "aligned_arrays": set(),
    "files": {"errors"},
    "decoding": {"errors"},
    "evaluation": BELOW_ALL,
    **{room: BELOW_ALL | {"evaluation"} for room in SIBLINGS},
    "settings": set(),
    "factors": {"errors", "settings"},
    "config_paths": set(),
    "config": {"errors", "settings", "factors", "config_paths"},
    "paths": {"errors"},
    "components": BELOW_ALL | SIBLINGS | {"evaluation", "settings", "config", "factors"},
}
"""Room -> rooms it may import besides itself. Rooms not listed stand above all."""
LIGHT = [
    "kerasall", "kerasall.cli", "kerasall.config", "kerasall.decoding", "kerasall.evaluation.metrics",
    "kerasall.evaluation.intervals", "kerasall.evaluation.report", "kerasall.data.sources",
    "kerasall.data.duplicates", "kerasall.data.splits", "kerasall.data.synthetic", "kerasall.data.validation",
    "kerasall.pipeline.runner", "kerasall.models.backbones", "kerasall.taguchi.analysis", "kerasall.taguchi.design",
    "kerasall.evaluation.comparison", "kerasall.experiment",
]  # fmt: skip


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.startswith("kerasall.")]
    return {
        part[1] for part in parts if (PACKAGE / part[1]).is_dir() or (PACKAGE / f"{part[1]}.py").is_file()
    }


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ALLOWED:
        assert imported_rooms(path) - {room} <= ALLOWED[room]


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
