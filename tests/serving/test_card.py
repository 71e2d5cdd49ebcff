"""What lies beside a model is read as what anybody may have written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kerasall.decoding import DEFAULT_LIMITS, Limits
from kerasall.errors import ArtifactError, ModelError
from kerasall.files import write_text
from kerasall.serving.card import MOST_BYTES, read_card, require_fitting, verify_manifest, write_manifest
from kerasall.serving.predictor import limits_of, read_labels


@pytest.mark.parametrize("name", ["max_side", "max_pixels", "max_bytes"])
def test_a_card_lowers_limits_and_raises_none(name):
    usual = getattr(DEFAULT_LIMITS, name)
    assert limits_of({"limits": {name: usual * 1_000}}) == DEFAULT_LIMITS
    assert limits_of({"limits": {name: 9}}) == Limits(**{name: 9})


@pytest.mark.parametrize(
    "content",
    [
        '{"results": {"metrics": NaN}}', '{"model": {"x": [1, -Infinity]}}', "[]", "", "nul", '"text"', "[" * 99_999,
        json.dumps({"data": {"notes": ["x"] * 1_001}}), json.dumps({"results": {"labels": ["x"] * 5_000}}),
        json.dumps({"blessing": {"blessed": True, "criteria": [["x", True]] * 1_001}}),
        json.dumps({"preprocess": [{"op": "resize"}] * 1_001}), json.dumps({"blessing": {"blessed": "yes", "criteria": []}}),
        json.dumps({"safeguards": {"refer_reasons": {str(n): "" for n in range(1_001)}}}),
        '{"description": "\\ud800"}', '{"description": "' + "x" * MOST_BYTES + '"}', '{"n": ' + "9" * 9_999 + "}",
    ],
    ids=range(16),
)  # fmt: skip
def test_a_card_that_is_none_is_refused_by_its_name(tmp_path, content):
    write_text(tmp_path / "card.json", content)
    with pytest.raises(ArtifactError, match=r"card\.json must"):
        read_card(tmp_path)


def test_no_file_is_no_card_and_a_pipe_is_not_read(tmp_path):
    assert read_card(tmp_path) == {}
    for make in (Path.mkdir, os.mkfifo):
        path = tmp_path / make.__name__ / "card.json"
        path.parent.mkdir()
        make(path)
        with pytest.raises(ArtifactError, match="must be a file"):
            read_card(path.parent)
    os.mkfifo(tmp_path / "labels.txt")
    with pytest.raises(ArtifactError, match="must be a file"):
        read_labels(tmp_path)


def lead_out(folder: Path) -> None:
    (folder / "labels.txt").rename(folder.parent / "labels.txt")
    (folder / "labels.txt").symlink_to(folder.parent / "labels.txt")


def lead_out_by_steps(folder: Path) -> None:
    lead_out(folder)
    (folder / "first").symlink_to("../labels.txt")
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").symlink_to("first")


def lead_a_folder_out(folder: Path) -> None:
    (folder / "variables").rename(folder.parent / "variables")
    (folder / "variables").symlink_to("../variables")


def lead_nowhere(folder: Path) -> None:
    (folder / "more").symlink_to("/nowhere")


@pytest.mark.parametrize("change", [lead_out, lead_out_by_steps, lead_a_folder_out, lead_nowhere])
def test_a_link_out_of_the_folder_is_refused_whatever_the_manifest_says(
    tmp_path, change: Callable[[Path], Any]
):
    folder = tmp_path / "model"
    write_text(folder / "labels.txt", "a\nb\n")
    write_text(folder / "variables" / "variables.index", "x")
    write_manifest(folder)
    verify_manifest(folder)
    (tmp_path / "other").symlink_to(folder)
    verify_manifest(tmp_path / "other")
    change(folder)
    with pytest.raises(ArtifactError, match="must lie in the model's folder, but is a link to"):
        verify_manifest(folder)


def test_a_link_to_itself_beside_a_model_is_refused(tmp_path):
    write_text(tmp_path / "labels.txt", "a\nb\n")
    write_manifest(tmp_path)
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(ArtifactError, match="round must be a file, but is none"):
        verify_manifest(tmp_path)


def test_a_class_that_stands_twice_and_members_that_are_no_names_are_refused(tmp_path):
    outputs = {"probabilities": (None, 2), "label_index": (None,)}
    with pytest.raises(ModelError, match="must name every class once, but names 'a' twice"):
        require_fitting(tmp_path, ("a", "a"), outputs, None, {})
    with pytest.raises(ModelError, match=r"2 members that its card names \(1, 2\)"):
        require_fitting(tmp_path, ("a", "b"), outputs, None, {"model": {"members": [1, 2]}})


def test_a_pipe_beside_a_model_is_refused(tmp_path):
    write_text(tmp_path / "labels.txt", "a\nb\n")
    write_manifest(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="must be a file, but is none"):
        verify_manifest(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"files": []}', '{"files": {"a": 1}}', "null", '"x"'])
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    write_text(tmp_path / "manifest.json", content)
    with pytest.raises(ArtifactError, match=r"manifest\.json must"):
        verify_manifest(tmp_path)
