"""A component may read any number of artifacts of one type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from kerasall.pipeline.component import Input, Output, Pipeline, component
from kerasall.pipeline.runner import RunPlaces, run_pipeline


@component
def say(word: str, said: Annotated[Path, Output("Word")]) -> None:
    (said / "word.txt").write_text(word)


@component
def other(kept: Annotated[Path, Output("Number")]) -> None:
    (kept / "one").touch()


@component
def join(words: Annotated[list[Path], Input("Word")], sentence: Annotated[Path, Output("Sentence")]) -> None:
    (sentence / "sentence.txt").write_text(" ".join((w / "word.txt").read_text() for w in words))


def make(*words: str) -> Pipeline:
    steps = [say(word=word).named(f"Say {number}") for number, word in enumerate(words)]
    joined = join(words=[step.outputs["said"] for step in steps])
    return Pipeline((*steps, joined), publish={"sentence.txt": (joined.outputs["sentence"], "sentence.txt")})


def run(pipeline: Pipeline, folder: Path):
    places = RunPlaces(folder, "run")
    return run_pipeline(pipeline, places, experiment="words", settings={}, say=lambda _: None)


def test_folders_come_in_the_order_of_the_list(tmp_path):
    words = [f"word{number}" for number in range(11)]  # [10] would sort before [2] as text
    run(make(*words), tmp_path)
    assert (tmp_path / "run" / "sentence.txt").read_text() == " ".join(words)


def test_each_entry_counts_for_the_key(tmp_path):
    run(make("a", "b"), tmp_path)
    assert run(make("a", "b"), tmp_path).states["Join"] == "cached"
    assert run(make("b", "a"), tmp_path).states["Join"] == "complete"
    assert run(make("a", "b", "b"), tmp_path).states["Join"] == "complete"


def test_an_entry_of_another_type_or_a_later_step_is_refused():
    word = say(word="a")
    with pytest.raises(TypeError, match="must be a channel of type Word"):
        join(words=[word.outputs["said"], other().outputs["kept"]])
    joined = join(words=[word.outputs["said"]])
    with pytest.raises(TypeError, match="must stand after"):
        Pipeline((joined, word), publish={})
