"""Images as a command names them: a path, a config, single settings; read as a run would read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasall.components.example_gen import OWN_IMAGES, read_collection_of
from kerasall.components.example_validator import examine
from kerasall.data.examples import Collection
from kerasall.data.own_images import name_classes
from kerasall.data.sources import read_source
from kerasall.data.spelling import find_name
from kerasall.data.validation import Examined
from kerasall.errors import SettingsError, did_you_mean
from kerasall.evaluation.ensemble_scores import put_right
from kerasall.evaluation.review import REVIEW, read_review_record
from kerasall.paths import runs_folder
from kerasall.settings import Settings
from kerasall.settings.loading import anchor_paths, apply_override, load_settings, validate
from kerasall.settings.yaml_text import write_line
from kerasall.studies.door import read_names
from kerasall.studies.finished_run import Run

_SECTIONS = ("data.", "checks.")


def settle_images(
    path: Path | None, source: str = "auto", config: Path | None = None, overrides: Sequence[str] = ()
) -> Settings:
    """Settings whose ``data`` and ``checks`` say which images are meant and how they are looked at.

    Args:
        path: folder or table; with ``config`` it replaces the path there.
        source: kind of the images; with ``config`` "auto" leaves the kind that it states.
        config: YAML file of an experiment.
        overrides: ``key=value`` of settings below data and checks.

    Raises:
        SettingsError: neither path nor config is given, or a setting is unknown, wrong, or of something else.
    """
    if path is None and config is None:
        raise SettingsError("images are needed, but none are named: give --data PATH or --config FILE")
    if other := [each for each in overrides if not each.startswith(_SECTIONS)]:
        raise SettingsError(
            f"settings of images must stand below data or checks, but {other[0]!r} does not: --set data.KEY=VALUE"
        )
    where = [] if path is None else [f"data.path={write_line(str(path.expanduser().absolute()))}"]
    if config is not None:
        stated = load_settings(config, [*where, *overrides])
        # Another path of a lab's own images may be a folder where the config has a table.
        if source != "auto" or (path is not None and stated.data.source in OWN_IMAGES):
            return load_settings(config, [*where, f"data.source={source}", *overrides])
        return stated
    values: dict[str, Any] = {"experiment": "images", "data": {"source": source}}
    for override in (*where, *overrides):
        apply_override(values, override)
    anchor_paths(values, Path.cwd())
    return validate(values, f"what is said of {path}")


def read_stated(settings: Settings, lenient: bool = False) -> Collection:
    """The images, with the malignant classes that are stated.

    Args:
        settings: of ``settle_images``.
        lenient: pass over malignant classes that the images do not have.

    Raises:
        KerasallError: what a reader finds wrong.
    """
    data = settings.data
    if data.source == "synthetic" and data.path:
        # Rendered ones that lie somewhere, not others to be rendered.
        return read_source("synthetic", data.path)
    cache = runs_folder() / "cache"
    if not (lenient and data.malignant):
        return read_collection_of(data, cache)
    collection = read_names(data, cache)
    named = [name for name in data.malignant if find_name(name, collection.labels)]
    return replace(collection, malignant=name_classes(named, collection.labels, "data.malignant"))


@dataclass(frozen=True)
class PutRight:
    """A scored image that a member calls wrongly and its ensemble rightly, and the member's call with its probability."""

    path: Path
    called: str
    probability: float


def list_put_right(run: Run, member: str) -> list[PutRight]:
    """The scored images that a member of a run's ensemble calls wrongly and the ensemble rightly, the surest first.

    Raises:
        ArtifactError: the run has not been evaluated yet.
        SettingsError: the run has no such member; the message names those there are.
    """
    record = read_review_record(run.output("Evaluation", REVIEW))
    scored = record.sources[0]
    if member not in scored.members:
        there = ", ".join(scored.members) or "none: its model is no ensemble"
        cure = did_you_mean(member, scored.members)
        raise SettingsError(
            f"--wrong-member must be a member of the run {run.name} ({there}), but is {member!r}{cure and f': {cure}'}"
        )
    own = scored.members[member]
    paths = dict(zip(record.images["id"], record.images["path"], strict=True))
    return [
        PutRight(Path(paths[own.ids[row]]), own.classes[own.decisions[row]], float(own.confidences[row]))
        for row in put_right(own, scored.predictions.in_order(own.ids))
    ]


def check(path: str | Path, *, checks: Mapping[str, Any] | None = None, **data: Any) -> Examined:
    """Looks at a data set before anything trains, as ``kerasall check`` does.

    Example:
        >>> found = kerasall.check("cells", source="folder", malignant="all").found
        >>> found["images"], found["classes"], len(found["errors"])
        (16, {'all': 8, 'hem': 8}, 0)

    Args:
        path: folder or table of images.
        checks: settings of what is looked for, such as ``{"near_duplicates": {"enabled": False}}``.
        data: settings of how it is read, such as ``source``, ``label``, ``subject``, ``columns``, ``classes`` and
            ``malignant``; see ``kerasall.settings.DataSettings``.

    Returns:
        What was seen: ``found`` (counts, notes, errors and warnings as ``kerasall check --json`` prints them),
        ``find_anomalies()``, the ``collection`` with its table of examples, and the ``scan``, a row an image.

    Raises:
        SettingsError: an unknown setting, or one of the wrong kind.
        DataError: the path holds no images that its reader understands.
    """
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in data.items()}
    stated = {"experiment": "images", "data": {"path": str(path), **plain}, "checks": dict(checks or {})}
    settings = validate(stated, where=f"check({str(path)!r})")
    return examine(read_stated(settings), settings.checks)
