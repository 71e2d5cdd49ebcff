"""The configs and pipeline scripts that come with kerasall, by name.

They lie in ``configs/`` and ``pipelines/`` at the top of the repository; in an installed package, in folders of
these names inside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kerasall.errors import SettingsError, did_you_mean
from kerasall.paths import folder_of, is_pipe

_ENDINGS = {"configs": ".yaml", "pipelines": ".py"}


def shipped_files(kind: Literal["configs", "pipelines"]) -> dict[str, Path]:
    """Name -> file, by name."""
    package = Path(__file__).parents[1]
    # Not by import: where another checkout is installed too, its import hook would answer for this one.
    folder = package / kind if (package / kind).is_dir() else package.parent / kind
    return {path.stem: path for path in sorted(folder.glob(f"*{_ENDINGS[kind]}")) if path.stem != "__init__"}


def find_config(config: str | Path) -> Path:
    """The file that a person means by a config.

    A file that exists; else, where no folder is named, ``NAME.yaml`` here, or the config of that name that comes
    with kerasall. So is ``configs/NAME.yaml``, where there is no folder ``configs``.

    Args:
        config: path of a YAML file, or a name.

    Raises:
        SettingsError: there is none; the message names what is near.
    """
    path = Path(config).expanduser()
    if found := _find_near(path, Path()):
        return found
    shipped = shipped_files("configs")
    if path.parent == Path("configs") and not path.parent.exists() and path.name == f"{path.stem}.yaml":
        found = shipped.get(path.stem)
    if found:
        return found
    raise SettingsError(f"the config {path} must exist, but does not: {_near_configs(path, shipped)}")


def find_extended(base: str, config: Path) -> Path:
    """The file that ``extends: base`` in ``config`` means: beside it, else the shipped config of that name.

    A config never means itself: ``demo.yaml`` may extend the shipped ``demo``.

    Raises:
        SettingsError: there is none.
    """
    if found := _find_near(Path(base).expanduser(), folder_of(config), config.resolve()):
        return found
    cure = _near_configs(config.parent / base, shipped_files("configs"))
    raise SettingsError(f"extends in {config} must name a config, but {base!r} does not exist: {cure}")


def find_script(pipeline: str) -> Path:
    """The script of a pipeline.

    Args:
        pipeline: name of one that comes with kerasall, or the path of a ``.py`` file.

    Raises:
        SettingsError: there is none.
    """
    shipped, path = shipped_files("pipelines"), Path(pipeline)
    if pipeline in shipped:
        return shipped[pipeline]
    if is_script(pipeline) and path.is_file():
        return path
    if path.stem in shipped:
        cure = f"the shipped one is `pipeline: {path.stem}`"
    else:
        cure = did_you_mean(path.stem, shipped, f"correct the path, or take one of {', '.join(shipped)}")
    raise SettingsError(
        f"pipeline must be the name of a shipped pipeline, or the path of a .py file that exists, but is {pipeline!r}: {cure}"
    )


def is_script(pipeline: str) -> bool:
    """Whether ``pipeline:`` states a path, beside the config that states it, and not a name."""
    return pipeline.endswith(".py") or Path(pipeline).name != pipeline


def _find_near(path: Path, folder: Path, but: Path | None = None) -> Path | None:
    """The file, ``NAME.yaml`` beside it or, for what has no folder, the shipped one."""
    stated = folder / path
    for candidate in (stated, stated.with_name(f"{stated.name}.yaml")):
        if (candidate.is_file() or is_pipe(candidate)) and candidate.resolve() != but:
            return candidate
    if path.name == str(path):
        return shipped_files("configs").get(path.name.removesuffix(".yaml"))
    return None


def _near_configs(path: Path, shipped: dict[str, Path]) -> str:
    name = path.name.removesuffix(".yaml")
    if name in shipped:
        return f"a config of that name comes with kerasall: give its name alone, {name}"
    folder = [str(p) for p in sorted(path.parent.glob("*.yaml"))][:8] if path.parent.is_dir() else []
    beside = f" (there are: {', '.join(folder)})" if folder else ""
    return did_you_mean(name, shipped, "correct the path, or take one of `kerasall configs`") + beside
