"""What RESULTS.md says of a designed experiment, on the one that Chen et al. print: nine rows, three runs each."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.published.papers import read_paper
from kerasall.report.taguchi import make_document
from kerasall.taguchi.analysis import analyze
from results.pages.designed import describe_experiment


@pytest.fixture(scope="module")
def document():
    tables = {table.name: table for table in read_paper("taguchi_resnet101_vote").tables}
    factors = {name: list(row.cells) for name, row in zip("ABCD", tables["Table 3"].rows, strict=True)}
    levels = np.array([[int(cell) for cell in row.cells] for row in tables["Table 2"].rows])
    printed = {row.ours: row.cells[:3] for row in tables["Table 5"].rows}
    responses = np.array([[float(cell) for cell in printed[f"{row}/scored"]] for row in range(1, 10)])
    analysis = analyze(
        dict(zip(factors, levels.T, strict=True)), responses, signal="target:1", levels=factors,
        confirmation=[0.83, 0.84],
    )  # fmt: skip
    found = make_document(analysis)
    rows = [
        {
            "row": number,
            "levels": {name: values[level - 1] for (name, values), level in zip(factors.items(), own, strict=True)},
            "responses": [*runs[:2], None] if number == 9 else list(runs),
            "ratio": None if number == 9 else float(ratio),
        }
        for number, (own, runs, ratio) in enumerate(
            zip(levels, responses, analysis.signal_to_noise, strict=True), start=1
        )
    ]  # fmt: skip
    found["experiment"] |= {
        "array": "L9", "rows": rows, "scored_on": "validation", "response": {"title": "Accuracy"},
        "confirmation": found["experiment"]["confirmation"] | {"responses": [0.83, 0.84]},
    }  # fmt: skip
    return found


def test_the_page_shows_array_responses_levels_and_what_was_confirmed(document):
    text = "\n".join(describe_experiment(document))
    assert "accuracy on validation images, by which the levels were chosen" in text
    first = document["experiment"]["rows"][0]
    cells = [
        1,
        *first["levels"].values(),
        *(f"{value:.4f}" for value in first["responses"]),
        f"{first['ratio']:.4f}",
    ]
    assert f"| {' | '.join(map(str, cells))} |" in text
    ninth = document["experiment"]["rows"][8]
    cells = [9, *ninth["levels"].values(), *(f"{value:.4f}" for value in ninth["responses"][:2]), "–", "–"]
    assert f"| {' | '.join(map(str, cells))} |" in text  # a run that did not end, and the ratio of its row
    assert "13.0712 (adam)" in text
    best = ", ".join(f"{name} = {level}" for name, level in document["experiment"]["best"].items())
    assert all(part in text for part in best.split(", "))
    assert "Response table:" in text
    assert "Confirmed there" in text
    assert "0.8300, 0.8400." in text
    assert "| < 0.001 |" in text  # never a p-value of 0.0000
    assert "None" not in text


def test_every_table_of_the_page_is_whole(document):
    lines = list("\n".join(describe_experiment(document)).splitlines())
    blocks, block = [], []
    for line in [*lines, ""]:
        if line.startswith("|"):
            block.append(line.count("|"))
        elif block:
            blocks.append(block)
            block = []
    assert len(blocks) >= 3
    assert all(len(set(each)) == 1 for each in blocks)
