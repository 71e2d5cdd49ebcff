"""The five papers' systems as a person runs them: small, to the end, and then every printed table and figure beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasall.published.papers import papers, read_paper

ROOT = Path(__file__).parents[1]
LEAST = {
    "taguchi_resnet101_vote": 0.8, "weighted_ensemble": 0.25, "four_stage_vote": 0.5, "deep_features_svm": 0.15,
    "optimizer_sweep": 0.25,
}  # fmt: skip
"""Share of the cells with a figure that the small run fills: it has fewer members, networks and epochs than the paper."""


def call(folder: Path, *words: str) -> str:
    places = {"KERASALL_RUNS": str(folder / "runs"), "KERASALL_SAVEDMODELS": str(folder / "savedmodels")}
    done = subprocess.run(
        [sys.executable, "-m", "kerasall", *words],
        cwd=folder, env=os.environ | places | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        text=True, capture_output=True, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", papers())
def test_a_small_run_stands_beside_every_table_and_figure_of_its_paper(name, tmp_path):
    paper, run = read_paper(name), f"{name}_small"
    said = call(tmp_path, "run", run)
    assert f"`kerasall tables {run}` sets its {len(paper.tables)} tables" in said
    found = json.loads(call(tmp_path, "tables", run, "--json"))
    cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in found["cells"]}
    keyed = []
    for table in paper.tables:
        for row in table.rows:
            for column, text in zip(table.columns, row.cells, strict=True):
                cell = cells[table.name, " / ".join(filter(None, row.name)), " / ".join(column.name)]
                assert cell["published"] == text
                if table.key(row, column):
                    keyed.append(cell)
                    assert cell["ours"] is not None or cell["reason"]
    assert sum(cell["ours"] is not None for cell in keyed) >= LEAST[name] * len(keyed)
    assert [figure["figure"] for figure in found["figures"]] == [figure.name for figure in paper.figures]
    for figure in found["figures"]:
        assert figure["pictures"] or figure["reason"] or figure["note"]
    page = Path(found["page"]).read_text(encoding="utf-8")
    assert all(f">{each.name}: " in page for each in (*paper.tables, *paper.figures))
