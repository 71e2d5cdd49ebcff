"""Steps are keyed by what their code means: words rerun nothing, arithmetic and templates what they can reach."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest

import kerasall
from kerasall.pipeline.component import (
    TEMPLATES,
    Channel,
    Input,
    Output,
    Pipeline,
    component,
    imported_modules,
)
from kerasall.pipeline.runner import RunPlaces, run_pipeline

PACKAGE = {
    "__init__.py": "",
    "constants.py": 'FACTOR = 2\n"""What a number is multiplied by."""\n',
    "arithmetic.py": """\
from tiny.constants import FACTOR


def multiply(number: int) -> int:
    return number * FACTOR
""",
    "pages.py": """\
from pathlib import Path


def page(number: str) -> str:
    return (Path(__file__).with_name("templates") / "parts" / "page.html").read_text().format(number)
""",
    "templates/parts/page.html": "The number is {}.",
    "steps.py": """\
from pathlib import Path
from typing import Annotated

from kerasall.pipeline.component import Input, Output, component
from kerasall.pipeline.runner import RunPlaces, run_pipeline


@component
def give(number: int, given: Annotated[Path, Output("Number")]) -> None:
    (given / "number").write_text(str(number))
""",
    "middle.py": """\
from tiny.steps import *


@component
def work(number: Annotated[Path, Input("Number")], result: Annotated[Path, Output("Number")]) -> None:
    from tiny.arithmetic import multiply

    (result / "number").write_text(str(multiply(int((number / "number").read_text()))))
""",
    "last.py": """\
from tiny.pages import page
from tiny.steps import *


@component
def show(number: Annotated[Path, Input("Number")], shown: Annotated[Path, Output("Page")]) -> None:
    (shown / "page").write_text(page((number / "number").read_text()))
""",
    "main.py": """\
import json
import sys

from tiny.last import show
from tiny.middle import work
from tiny.steps import *
from kerasall.pipeline.component import Pipeline

given = give(number=3)
worked = work(number=given.outputs["given"])
shown = show(number=worked.outputs["result"])
places = RunPlaces(Path(sys.argv[1]), "run")
result = run_pipeline(Pipeline((given, worked, shown), {}), places, experiment="tiny", settings={})
print(json.dumps(result.states))
""",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of three steps that has been run once."""
    for name, text in PACKAGE.items():
        path = tmp_path / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert set(states_of_a_run(tmp_path).values()) == {"complete"}
    return tmp_path / "tiny"


def states_of_a_run(folder: Path) -> dict[str, str]:
    """State by step; in a process of its own, as digests of code hold for the life of one."""
    script = (
        f"import runpy, sys; sys.path[:0] = [{str(folder)!r}]; sys.argv[1:] = [{str(folder / 'runs')!r}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script + 'runpy.run_module("tiny.main")'],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("arithmetic.py", "def multiply", "# said better\ndef multiply"),
        ("arithmetic.py", "from tiny", '"""What is reckoned."""\n\nfrom tiny'),
        ("arithmetic.py", "    return", '    """The product."""\n    return'),
        ("arithmetic.py", "number * FACTOR", "(\n        number\n        * FACTOR\n    )"),
        ("constants.py", "What a number is multiplied by.", "By this a number is multiplied."),
        ("last.py", '"number").read_text', "'number').read_text"),
        ("middle.py", "number: Annotated", "number : Annotated"),
    ],
    ids=["comment", "module", "function", "formatting", "constant", "quotes", "spaces"],
)
def test_a_change_of_words_or_layout_leaves_every_step_cached(package, file, old, new):
    change(package / file, old, new)
    assert set(states_of_a_run(package.parent).values()) == {"cached"}


@pytest.mark.parametrize(
    ("file", "old", "new", "rerun"),
    [
        ("arithmetic.py", "number * FACTOR", "number + FACTOR", {"Work", "Show"}),
        ("arithmetic.py", "number * FACTOR", "FACTOR * number", {"Work"}),
        ("constants.py", "2", "2.0", {"Work", "Show"}),
        ("steps.py", "str(number)", "f'{number}'", {"Give", "Work", "Show"}),
        ("last.py", "read_text()", "read_text().strip()", {"Show"}),
        ("templates/parts/page.html", "is", "was", {"Show"}),
    ],
)
def test_a_change_of_meaning_reruns_the_steps_it_can_reach(package, file, old, new, rerun):
    change(package / file, old, new)
    states = states_of_a_run(package.parent)
    assert {step for step, state in states.items() if state == "complete"} == rerun


def test_a_new_template_counts_and_a_file_beside_the_folder_does_not(package):
    (package / "notes.html").write_text("of no use")
    assert set(states_of_a_run(package.parent).values()) == {"cached"}
    (package / "templates" / "more.html").write_text("for a list of all templates")
    assert states_of_a_run(package.parent) == {"Give": "cached", "Work": "cached", "Show": "complete"}


def test_imports_inside_the_package_are_followed():
    found = imported_modules("kerasall.pipeline.runner")
    assert {"kerasall.pipeline.artifacts", "kerasall.files", "kerasall.errors"} <= found
    assert not any(name.startswith("kerasall.data") for name in found)


def test_package_data_lie_where_the_digest_looks_for_them():
    """Those of a room that no step reaches may lie anywhere."""
    root = Path(kerasall.__file__).parent
    steps = [f"kerasall.components.{path.stem}" for path in (root / "components").glob("*.py")]
    assert not any(name.startswith("kerasall.published") for step in steps for name in imported_modules(step))
    data = [p for p in root.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    data = [path for path in data if root / "published" not in path.parents]
    folders = {p for path in data for p in path.parents if p.name == TEMPLATES}
    assert all(folders & set(path.parents) for path in data if path.name != "py.typed")
    for folder in folders:
        assert any(f'"{TEMPLATES}"' in module.read_text() for module in folder.parent.glob("*.py")), folder


@component
def count(numbers: list[int], counted: Annotated[Path, Output("Count")]) -> None:
    (counted / "count").write_text(str(len(numbers)))


@component
def word(text: str, said: Annotated[Path, Output("Word")]) -> None:
    (said / "word").write_text(text)


@component
def send(
    counted: Annotated[Path, Input("Count")],
    letter: Annotated[Path, Input("Word", keyed=False)],
    copies: Annotated[list[Path], Input("Word", keyed=False)],
    sent: Annotated[Path, Output("Sent")],
) -> None:
    parts = [counted / "count", letter / "word", *(copy / "word" for copy in copies)]
    (sent / "sent").write_text(" ".join(part.read_text() for part in parts))


def post(folder: Path, numbers: list[int], *words: str) -> tuple[str, str]:
    """State of the step ``send`` and what it sent."""
    counted = count(numbers=numbers)
    said = [word(text=text).named(f"Word {number}") for number, text in enumerate(words)]
    letter, *copies = (step.outputs["said"] for step in said)
    sent = send(counted=counted.outputs["counted"], letter=letter, copies=copies)
    pipeline = Pipeline((counted, *said, sent), publish={})
    result = run_pipeline(pipeline, RunPlaces(folder, "run"), experiment="post", settings={}, say=print)
    return result.states["Send"], (result.artifacts["Send", "sent"].path / "sent").read_text()


def test_an_unkeyed_input_is_read_but_does_not_rerun_its_reader(tmp_path):
    assert post(tmp_path, [1], "a", "b", "c") == ("complete", "1 a b c")
    assert post(tmp_path, [1], "A", "B", "c") == ("cached", "1 a b c")
    assert post(tmp_path, [2], "A", "B", "c") == ("cached", "1 a b c")
    assert post(tmp_path, [1, 2], "A", "B", "c") == ("complete", "2 A B c")


def test_an_unkeyed_input_must_have_the_right_type_too():
    with pytest.raises(TypeError, match="letter must be a channel of type Word"):
        send(counted=Channel(count(numbers=[]), "counted", "Count"), letter=3, copies=[])
