"""A first config for a lab's own images: what was understood of them, what is still missing, a preset, its cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kerasall.data.examples import Collection
from kerasall.data.sources import AUTO, detect_source
from kerasall.data.spelling import find_name
from kerasall.decoding.headers import read_header, read_image_bytes
from kerasall.errors import KerasallError, SettingsError
from kerasall.files import require_writable, write_text
from kerasall.paths import as_file_name, require_lasting
from kerasall.runtime import quiet_tensorflow
from kerasall.settings import Settings, SplitSettings
from kerasall.settings.loading import anchor_paths, apply_override, load_settings, validate
from kerasall.settings.yaml_text import write_line
from kerasall.shown_text import one_line
from kerasall.studies.door import (
    Question,
    ask_of_images,
    count_classes,
    describe_split,
    find_fault,
    is_own,
    read_names,
)
from kerasall.studies.presets import (
    PRESETS,
    Preset,
    choose_preset,
    choose_size,
    choose_width,
    estimate_seconds,
    preset_values,
)

_HEADERS = 24
"""Images, evenly spaced, whose sizes are looked at."""

_FIELD = 1000
"""Smaller side in pixels above which an image is a whole field rather than one cell."""

_HEAD = 10
"""Lines of the config's head at most: what was understood, the surest first."""

_LINE = 100
"""Characters of a line of the config, beside its comment."""

_COMMENTS = {
    "malignant": "the classes that mean leukaemia",
    "subject": "where the patient stands: auto, folder:N, column:NAME, pattern:REGEX; none: not known",
}
"""Setting -> what its line says of it."""


@dataclass(frozen=True)
class Stated:
    """What a person states of their images, beside the path; None and what is empty is found out.

    Attributes:
        malignant: class names.
        subject, label: as the settings of these names.
        columns: of a table, as the setting.
        preset: name of a preset, or "auto".
        source: kind of the images, or "auto".
        overrides: ``key=value`` of any other setting.
    """

    malignant: tuple[str, ...] = ()
    subject: str | None = None
    label: str | None = None
    columns: Mapping[str, str] | None = None
    preset: str = AUTO
    source: str = AUTO
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Draft:
    """A config to be, of images that were looked at by name.

    Attributes:
        name: of the experiment.
        path: of the images, as it was written.
        values: the settings that it states, with ``path`` as it was written.
        collection: the images.
        preset: that was chosen.
        sizes: (width, height) of some of the images.
        alpha: width of the network.
        side: pixels that images are resized to.
    """

    name: str
    path: Path
    values: dict[str, Any]
    collection: Collection
    preset: Preset
    sizes: tuple[tuple[int, int], ...]
    alpha: float
    side: int

    @cached_property
    def settings(self) -> Settings:
        """The values with every default filled in."""
        values = {**self.values, "data": {**self.values["data"], "path": str(_absolute(self.path))}}
        anchor_paths(values, Path.cwd())
        return validate({"experiment": self.name, **values}, f"the config of {self.path}")

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """What is missing before it can be run."""
        return tuple(ask_of_images(self.collection, self.settings))

    def describe(self) -> list[str]:
        """What was understood, sentence by sentence."""
        collection = self.collection
        subjects = collection.examples["subject"]
        count, unit = subjects[subjects != ""].nunique(), "patient"
        if collection.subject_kind == "block":
            unit = "block"
        lines = [
            f"{len(collection.examples):,} images: {count_classes(collection)}; {count:,} {unit}{'s' * (count != 1)}"
        ]
        lines += [*collection.notes, *(f"warning: {warning}" for warning in collection.read_warnings)]
        if self.sizes:
            width, height = (round(median(side)) for side in zip(*self.sizes, strict=True))
            lines.append(
                f"they measure about {width} x {height} pixels and are resized to {self.side} x {self.side}"
            )
            if min(width, height) > _FIELD:
                lines.append(
                    "so large an image is a whole field rather than a cell: a cell may be lost in it"
                )
        whole = "image, no patient being known" if collection.subject_kind == "none" else unit
        lines.append(f"split into {describe_split(self.settings.split)}, by {whole}")
        return lines

    def describe_cost(self) -> str:
        """Preset and time in words."""
        split, cores = self.settings.split, os.cpu_count() or 1
        folds = split.folds if split.kind == "folds" else 1
        images = len(self.collection.examples)
        seconds = estimate_seconds(self.preset, images, self.alpha, self.side, folds, cores)
        minutes = max(1, round(seconds / 60))
        return (
            f"{self.preset.name}: {self.preset.description}; about {minutes} minute{'s' * (minutes > 1)} on "
            f"{cores} cores without a GPU, by a rough rule"
        )

    def text(self, command: str) -> str:
        """The config as a person reads it.

        Args:
            command: that runs it.
        """
        lines = (f"command: {command}", self.describe_cost(), *self.describe())
        # A line break in a name must not end the comment.
        head = [f"# {one_line(line)}" for line in lines[:_HEAD]]
        return "\n".join([*head, *_yaml_lines(self.values)]) + "\n"


def _yaml_lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Few lines: what fits stands in one, and the settings to look at first each in their own."""
    for key, value in values.items():
        line, comment = f"{indent}{key}: {write_line(value)}", _COMMENTS.get(key)
        if isinstance(value, Mapping) and (key == "data" or len(line) > _LINE):
            yield f"{indent}{key}:"
            yield from _yaml_lines(value, indent + "  ")
        elif isinstance(value, list) and len(line) > _LINE:
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {write_line(each)}" for each in value)
        else:
            yield f"{line}  # {comment}" if comment else line


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def draft_config(
    path: Path, stated: Stated, *, name: str | None = None, weights: Path | None = None, gpu: bool = False
) -> Draft:
    """Looks at images, by name and a few headers, and makes a config of what is stated and what is found.

    Args:
        path: folder or table of images.
        stated: what a person says of them.
        name: of the experiment; by default from the path.
        weights: folder of ImageNet weights, or None.
        gpu: whether there is one.

    Raises:
        KerasallError: the images cannot be read as anything, or a setting is wrong.
    """
    require_lasting(path, "the table of images")
    whole = _absolute(path)
    source = detect_source(whole) if stated.source == AUTO else stated.source
    named = {"label": stated.label, "subject": stated.subject, "columns": dict(stated.columns or {})}
    data: dict[str, Any] = {"source": source, "path": str(path)}
    data |= {key: value for key, value in named.items() if value}
    values: dict[str, Any] = {"data": data}
    for override in stated.overrides:
        if override.startswith("data."):
            apply_override(values, override)
    name = name or as_file_name(whole.stem if whole.is_file() else whole.name, "images")
    first = _settings_of(values, name, whole)
    collection = read_names(first.data)
    # What is no class stays as it was written, and is asked for.
    malignant = [find_name(name, collection.labels) or name for name in stated.malignant]
    malignant = malignant or list(collection.malignant)
    if malignant and not first.data.malignant:
        data["malignant"] = malignant
    if is_own(first.data):
        data.setdefault("subject", "auto")
    preset = choose_preset(stated.preset, len(collection.examples), gpu)
    sizes = tuple(_read_sizes(collection))
    side = choose_size(preset, round(median(map(min, sizes))) if sizes else None)
    alpha = choose_width(preset, weights)
    draft = Draft(name, path, values, collection, preset, sizes, alpha, side)
    return replace(draft, values=_with_preset(draft, stated.overrides))


def _settings_of(values: dict[str, Any], name: str, path: Path) -> Settings:
    whole = {**values, "experiment": name, "data": {**values["data"], "path": str(path)}}
    return validate(whole, f"what is stated of {path}")


def choose_split(collection: Collection, preset: Preset) -> dict[str, Any]:
    """The largest split up to the preset's that the patients allow; its smallest where they allow none."""
    wanted = [
        *({"kind": "folds", "folds": folds, "inner_validation": preset.inner_validation}
          for folds in range(preset.most_folds, 1, -1)),
        *([{"kind": "holdout", "validation": 0.2, "test": 0.2}] if preset.inner_validation else []),
    ]  # fmt: skip
    return next((s for s in wanted if not find_fault(collection, SplitSettings(**s), 0)), wanted[-1])


def _with_preset(draft: Draft, overrides: Sequence[str]) -> dict[str, Any]:
    """The values with the preset's, and the overrides over them."""
    split = choose_split(draft.collection, draft.preset)
    values = draft.values | preset_values(draft.preset, draft.alpha, draft.side, split)
    for override in overrides:
        apply_override(values, override)
    return values


def _read_sizes(collection: Collection) -> list[tuple[int, int]]:
    paths = collection.examples["path"]
    chosen = np.unique(np.linspace(0, len(paths) - 1, _HEADERS).astype(int))
    found = []
    for path in paths.iloc[chosen]:
        try:
            header = read_header(read_image_bytes(path), name=path)
        except KerasallError:  # the step that reads every image tells of it
            continue
        found.append((header.width, header.height))
    return found


def foresee_questions(collection: Collection, settings: Settings, has_config: bool = False) -> list[Question]:
    """What a run on these images would ask before it reads a pixel; nothing of sources that are not a person's own.

    Args:
        collection: the images.
        settings: whose data and checks are theirs.
        has_config: whether they are of an experiment, with its split; else the split is chosen as for a first one.
    """
    if not is_own(settings.data):
        return []
    if not has_config:
        split = SplitSettings(**choose_split(collection, PRESETS["standard"]))
        settings = settings.model_copy(update={"split": split})
    return ask_of_images(collection, settings)


def write_draft(draft: Draft, file: Path, command: str) -> None:
    """Writes the config, its path as it leads from there.

    Args:
        draft: to write.
        file: to write to; what lies there is replaced.
        command: that runs it, for its head.
    """
    require_writable(file, "the config", "work in another folder")
    values = deepcopy(draft.values)
    if _absolute(file).parent != Path.cwd():
        anchor_paths(values, Path.cwd())
    if file.stem != draft.name:
        values = {"experiment": draft.name, **values}
    write_text(file, replace(draft, values=values).text(command))


def adopt_config(draft: Draft, file: Path, stated: Stated, command: str) -> bool:
    """Whether a config that lies at ``file`` is what is asked for; False where there is none.

    Args:
        draft: what is asked for.
        file: where its config would lie.
        stated: what of it a person stated.
        command: that runs the config, for the message.

    Raises:
        SettingsError: it is another one; the message says in what, and the cures.
    """
    if not file.exists():
        return False
    existing, wanted = (_with_plain_path(settings) for settings in (load_settings(file), draft.settings))
    names = [name for name in Settings.model_fields if getattr(existing, name) != getattr(wanted, name)]
    free = stated.preset == AUTO and not stated.overrides
    # What a preset found out, such as weights at hand, may have changed since; the config holds what was run.
    if not names or ("data" not in names and free):
        return True
    raise SettingsError(
        f"{file} must hold what is asked for, but differs in {', '.join(names)}: give --name for another experiment, "
        f"move the file away, or go on with it by `{command}`"
    )


def _with_plain_path(settings: Settings) -> Settings:
    """The same with the images' path in its shortest form: ``here/../cells`` and ``cells`` are one."""
    path = settings.data.path and os.path.abspath(settings.data.path)
    return settings.model_copy(update={"data": settings.data.model_copy(update={"path": path})})


def has_gpu() -> bool:
    """Whether TensorFlow will train on a GPU; it is loaded only where there is one."""
    if not Path("/dev/nvidiactl").exists():
        return False
    with quiet_tensorflow():
        import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
