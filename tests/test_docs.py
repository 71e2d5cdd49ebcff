"""The papers name files that exist, and the page of the rooms names every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import kerasall

ROOT = Path(__file__).parents[1]
PAPERS = ["docs/architecture.md", "CONTRIBUTING.md", "SECURITY.md", "tests/data/witness/README.md"]
ROOTS = "kerasall|tests|pipelines|configs|docs|benchmarks|results"


def named_paths(paper: str) -> list[str]:
    """Files and folders of the repository in a paper: in backticks, or as what a link leads to."""
    text = (ROOT / paper).read_text(encoding="utf-8")
    return re.findall(rf"[`(]((?:{ROOTS})/[\w./-]*|[A-Z]+(?:\.\w+)?)[`)]", text)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_path_a_paper_names_exists(paper):
    paths = [path for path in named_paths(paper) if "/" in path or "." in path]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [path for path in paths if (ROOT / path).is_dir() and not path.endswith("/")] == []


def test_the_architecture_page_names_every_room_and_answers_the_six_questions():
    package = ROOT / "kerasall"
    rooms = {f"kerasall/{p.name}/" for p in package.iterdir() if (p / "__init__.py").exists()}
    rooms |= {f"kerasall/{p.name}" for p in package.glob("*.py") if not p.name.startswith("__")}
    assert rooms - set(named_paths("docs/architecture.md")) == set()
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    answers = re.findall(r"^\| ([^|]+) \| `(kerasall/[\w/]+\.py)` \|", page.split("## From images")[0], re.M)
    assert len(dict(answers)) == 6


def test_the_version_is_one_everywhere():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest
    assert kerasall.__version__ == cited["version"] == newest[1]
    assert f'version = "{kerasall.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
