"""The package as it is installed: it holds every module, template, config and pipeline, and works in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import yaml

ROOT = Path(__file__).parents[1]
FOLDERS = ("kerasall", "configs", "pipelines")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the package as the wheel holds it, built from a copy without anything else of the repository."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if int(setuptools.__version__.partition(".")[0]) < 77:  # it knows the licence in its older form alone
        text = text.replace('license = "Apache-2.0"', 'license = {text = "Apache-2.0"}')
    (source / "pyproject.toml").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "README.md", source)
    build = [
        sys.executable,
        "-c",
        "import setuptools; setuptools.setup()",
        "-q",
        "build",
        "--build-lib",
        str(out),
    ]
    subprocess.run(build, cwd=source, check=True, timeout=120, capture_output=True)
    return out


@pytest.fixture
def run(installed, tmp_path):
    """Runs kerasall, as it is installed, in an empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("KERASALL_RUNS", "KERASALL_SAVEDMODELS"):
        environment.pop(name, None)

    def run(*arguments: str, module: str = "-mkerasall") -> str:
        command = [sys.executable, module, *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, text=True, capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_it_holds_every_file_of_package_configs_and_pipelines(installed):
    for folder in FOLDERS:
        inside = installed / "kerasall" / ("" if folder == "kerasall" else folder)
        here = {p.relative_to(ROOT / folder) for p in (ROOT / folder).rglob("*") if p.is_file()}
        kept = {path for path in here if "__pycache__" not in path.parts}
        assert {path for path in kept if not (inside / path).is_file()} == set(), folder


def test_configs_and_pipelines_are_found_by_name_in_an_empty_folder(run, installed):
    assert len(re.findall(r"^  \w+", run("configs"), re.MULTILINE)) == len(
        list((ROOT / "configs").glob("*.yaml"))
    )
    text = run("configs", "demo")
    assert text == (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8")
    script = """
import sys, yaml, kerasall
from pathlib import Path
from kerasall.studies.experiment import Places, load_pipeline, settle
settings, *_ = settle("demo")
steps = load_pipeline(settings, Places(Path(), Path())).steps
print(yaml.safe_dump([kerasall.__file__, settings.experiment, sys.modules["kerasall_pipeline_single_classifier"].__file__, len(steps)]))
"""
    package, experiment, pipeline, steps = yaml.safe_load(run(script, module="-c"))
    assert Path(package).parent == installed / "kerasall"
    assert (experiment, Path(pipeline)) == (
        "demo",
        installed / "kerasall" / "pipelines" / "single_classifier.py",
    )
    assert steps > 8
