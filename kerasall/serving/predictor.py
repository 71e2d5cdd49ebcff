"""Answers from a pushed SavedModel: by TensorFlow or another runtime, without Keras or training code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerasall.decoding import DEFAULT_LIMITS, Limits, read_image_bytes, to_native
from kerasall.errors import ArtifactError, DecodingError, KerasallError, ModelError
from kerasall.serving.addresses import is_remote, read_address
from kerasall.serving.card import LABELS, read_card, require_fitting, require_small, verify_manifest
from kerasall.serving.conversion import PIXELS, Parity
from kerasall.serving.graph import Interface, SavedModel
from kerasall.serving.network import Network
from kerasall.serving.runtimes import RuntimeChoice

SIGNATURE = "serving_default"


class Native(bytes):
    """What ``to_native`` gave: it is not looked at again, and may be larger than the file was allowed to be."""


Prepared = Native | np.ndarray
"""An image that was looked at: a file for TensorFlow, or pixels uint8 [H, W, 3] for the network."""
ImageFile = bytes | Prepared | DecodingError
"""Content of an image file, or what ``Predictor.prepare`` made of it, or why it could not be read."""
_READERS = min(os.cpu_count() or 1, 8)
"""Threads that read files and decode them ahead."""


@dataclass(frozen=True)
class Answers:
    """What the model says of N images.

    Attributes:
        probabilities: float32 [N, C]; NaN in the rows of images that could not be read.
        label_indices: int64 [N]; -1 in those rows.
        errors: N messages, "" where the image was read.
        extras: what else the model says by name, [N, ...] each, for example an ensemble's
            ``member_probabilities`` float32 [N, M, C]; zero in the rows of images that could not be read.
    """

    probabilities: np.ndarray
    label_indices: np.ndarray
    errors: tuple[str, ...]
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    def require_all(self) -> None:
        """Stops where an image could not be read.

        Raises:
            DecodingError: with the first image's message.
        """
        if failed := next((error for error in self.errors if error), None):
            raise DecodingError(failed)


class Predictor:
    """Loads a SavedModel once and answers batches of image files.

    Args:
        folder: ``savedmodels/<name>/<version>``, or ``savedmodels/<name>`` for the
            newest version.
        limits: what is refused before any pixel is decoded; by default the usual limits, and what the card states
            where that is less. A card may not raise them.
        runtime: what computes the answers; default TensorFlow, in float32.

    Raises:
        ArtifactError: the folder is no SavedModel of kerasall, or a file differs from its manifest.
        ModelError: labels, card and graph do not belong together, the graph does more than compute (see
            ``kerasall.serving.graph``), or the runtime lacks an operation.
    """

    def __init__(
        self, folder: str | Path, limits: Limits | None = None, runtime: RuntimeChoice | None = None
    ):
        self.folder = newest_version(folder)
        verify_manifest(self.folder)
        self.labels = read_labels(self.folder)
        card = read_card(self.folder)
        self.limits = limits or limits_of(card)
        self._saved = SavedModel(self.folder)
        choice = runtime or RuntimeChoice()
        self._network = None if choice.is_plain else Network(choice, self._saved, card)
        if self._network is None:
            self._saved.load()
        self.interface: Interface = self._network.interface if self._network else self._saved.describe()
        """What the SavedModel's functions take and give."""
        if SIGNATURE not in self.interface:
            raise ArtifactError(
                f"{self.folder} must have the signature {SIGNATURE}, but has {list(self.interface)}"
            )
        require_fitting(self.folder, self.labels, self.output_shapes, self._pixels_shape(), card)

    @property
    def parity(self) -> Parity | None:
        """How far another runtime's answers are from TensorFlow's; None before the first ones, and without one."""
        return self._network.parity if self._network else None

    def describe_parity(self) -> str:
        """The same in one line."""
        return self._network.describe_parity() if self._network else ""

    def describe_start(self) -> str:
        """Why TensorFlow was loaded beside another runtime; "" where it was not."""
        return self._network.describe_start() if self._network else ""

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The SavedModel's functions by name, for which TensorFlow is loaded where it is not."""
        return self._saved.signatures

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of every output by name, the batch first."""
        return {name: tuple(shape) for name, (_, shape) in self.interface[SIGNATURE]["outputs"].items()}

    @property
    def _extras(self) -> dict[str, tuple[np.dtype, tuple[Any, ...]]]:
        """Kind and shape of a row of what the model says beside probabilities and label."""
        outputs = self.interface[SIGNATURE]["outputs"].items()
        rows = {name: (np.dtype(kind), tuple(shape[1:])) for name, (kind, shape) in outputs}
        return {name: row for name, row in rows.items() if name not in ("probabilities", "label_index")}

    def warm_up(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Answers blank images, so that the first real one does not wait for TensorFlow to settle.

        Raises:
            ModelError: the model cannot answer.
        """
        shape = self._pixels_shape()
        height, width = (int(shape[1] or 224), int(shape[2] or 224)) if shape else (224, 224)
        blank = io.BytesIO()
        Image.new("RGB", (width, height)).save(blank, "PNG")
        for size in batch_sizes:
            if failed := next(filter(None, self.predict([blank.getvalue()] * size).errors), None):
                raise ModelError(f"{self.folder} must answer a blank image, but did not: {failed}")
        if self._network:
            self._network.compare_again()

    def _pixels_shape(self) -> tuple[int | None, ...] | None:
        taken = self.interface.get(PIXELS)
        return tuple(taken["inputs"]["pixels"][1]) if taken else None

    def predict(self, images: Sequence[ImageFile], names: Sequence[str] | None = None) -> Answers:
        """Predicts image files given as bytes (BMP, PNG, JPEG, TIFF, WebP).

        Args:
            images: contents of N files; an error stands for a file that could not be read.
            names: what to call them in error messages.

        Returns:
            One row per image, in order; a bad image has a message and does not stop the others.
        """
        names = list(names or [f"image {i}" for i in range(len(images))])
        readable, errors = self._readable(images, names)
        probabilities = np.full((len(images), len(self.labels)), np.nan, np.float32)
        indices = np.full(len(images), -1, np.int64)
        extras = {name: np.zeros((len(images), *shape), kind) for name, (kind, shape) in self._extras.items()}
        for rows, outputs in self._answers(readable, names, errors):
            probabilities[rows], indices[rows] = outputs.pop("probabilities"), outputs.pop("label_index")
            for name, values in outputs.items():
                extras[name][rows] = values
        return Answers(probabilities, indices, tuple(errors), extras)

    def answer_files(
        self, names: Iterable[str | Path], batch_size: int = 32
    ) -> Iterator[tuple[list[str], Answers]]:
        """Answers files batch by batch; while the model answers one, the files of the next are read and decoded.

        Args:
            names: files on a local disk, or their addresses; walked without being held.
            batch_size: files per call of the model.

        Yields:
            Names, and one answer each; of a file that cannot be read, why.
        """
        waiting = map(str, names)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="reading") as readers:

            def begin() -> tuple[list[str], list[Future[ImageFile]]]:
                part = list(islice(waiting, batch_size))
                return part, [readers.submit(self._read_file, name) for name in part]

            part, reading = begin()
            while part:
                images = [each.result() for each in reading]
                following = begin()
                yield part, self.predict(images, part)
                part, reading = following

    def read_files(self, names: Sequence[str]) -> list[ImageFile]:
        """Reads files for ``predict``, from a local disk or by their addresses."""
        return [self._read_file(name) for name in names]

    def _read_file(self, name: str) -> ImageFile:
        try:
            data = (read_address if is_remote(name) else read_image_bytes)(name, self.limits)
            # What TensorFlow is to read may be much larger than the file: of that only one batch is held.
            return self.prepare(data, name) if self._network and self._network.decodes else data
        except DecodingError as error:
            return error

    def prepare(self, data: bytes, name: str = "image") -> Prepared:
        """Looks a file through and makes of it what is answered, beside the thread that answers.

        Args:
            data: content of the file.
            name: what to call it in messages.

        Raises:
            DecodingError: it cannot be read.
        """
        if self._network and self._network.decodes:
            return self._network.to_pixels(data, self.limits, name)
        return Native(to_native(data, self.limits, name))

    def _readable(
        self, images: Sequence[ImageFile], names: Sequence[str]
    ) -> tuple[dict[int, Prepared], list[str]]:
        prepared: dict[int, Prepared] = {}
        errors = [""] * len(images)
        for row, (data, name) in enumerate(zip(images, names, strict=True)):
            try:
                if isinstance(data, DecodingError):
                    raise data
                prepared[row] = data if isinstance(data, Native | np.ndarray) else self.prepare(data, name)
            except DecodingError as error:
                errors[row] = str(error)
        return prepared, errors

    def _answers(self, images: dict[int, Prepared], names: Sequence[str], errors: list[str]) -> Any:
        """Yields (rows, outputs by name); a batch that fails is tried again image by image."""
        rows = list(images)
        try:
            if rows:
                yield rows, self._run(list(images.values()))
        except Exception as error:
            if isinstance(error, KerasallError) or not _is_fault_of_an_image(error):
                raise
            if len(rows) == 1:
                # The graph's own words are of 16-bit values above those that it was told to expect.
                words = str(error).partition("assertion failed: [")[2].partition("]")[0]
                broken = "must be a whole image, but decoding its pixels failed: it is broken"
                errors[rows[0]] = f"{names[rows[0]]} {words or broken}"
                return
            for row in rows:
                yield from self._answers({row: images[row]}, names, errors)

    def _run(self, images: list[Any]) -> dict[str, np.ndarray]:
        if self._network and self._network.decodes:
            return self._network.answer_pixels(np.stack(images))
        if self._network:
            return self._network.answer(images)
        import tensorflow as tf

        outputs = self._saved.signatures[SIGNATURE](image_bytes=tf.constant(images, tf.string))
        return {name: values.numpy() for name, values in outputs.items()}


def _is_fault_of_an_image(error: Exception) -> bool:
    """Whether TensorFlow said it of a file that it decoded."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(error, tensorflow.errors.InvalidArgumentError)


def limits_of(card: Mapping[str, Any]) -> Limits:
    """What a model's card says is too large to decode; the usual limits where it says nothing, or more.

    Raises:
        ArtifactError: the card states limits that are none.
    """
    stated = card.get("limits", {})
    known = asdict(DEFAULT_LIMITS)
    if not isinstance(stated, Mapping) or any(
        name not in known or type(value) is not int or value < 1 for name, value in stated.items()
    ):
        raise ArtifactError(
            f"the limits in card.json must be whole numbers among {list(known)}, but are {stated!r}: export the "
            "model again"
        )
    return Limits(**known | {name: min(value, known[name]) for name, value in stated.items()})


def describe_verdict(folder: Path) -> str:
    """One line on which model answers and whether its card says that it was blessed: a card shows not who wrote it.

    Raises:
        ArtifactError: its card is none.
    """
    card = read_card(folder)
    blessing = card.get("blessing")
    if blessing is None:
        verdict = "no verdict known"
    elif blessing["blessed"]:
        verdict = "its card says blessed"
    else:
        verdict = "NOT BLESSED, as this does not hold: " + "; ".join(
            text for text, met in blessing["criteria"] if not met
        )
    caveat = (blessing or {}).get("caveat")  # not in cards of 0.1.0
    return f"model {folder}: {'; '.join(filter(None, (verdict, caveat)))}"


def newest_version(folder: str | Path) -> Path:
    """The SavedModel in ``folder``: itself, or the highest-numbered version below it.

    Raises:
        ArtifactError: there is none.
    """
    folder = Path(folder)
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = list_versions(folder)
    if not versions:
        raise ArtifactError(
            f"{folder} must be a SavedModel, or hold numbered versions of one, but does not: "
            "give the folder that `kerasall run` printed"
        )
    return versions[-1]


def version_folder(folder: str | Path) -> Path:
    """A SavedModel's folder by the name under which it is a version, whole and free of other links.

    A link with a number is a version of its own, whatever it leads to; any other link, such as ``current``, is that to
    which it leads.
    """
    path = Path(os.path.abspath(folder))
    return path.parent.resolve() / path.name if path.name.isdecimal() else path.resolve()


def list_versions(folder: Path) -> list[Path]:
    """The numbered versions of a model in its folder, the newest last."""
    found = [p for p in folder.glob("*") if p.name.isdecimal() and (p / "saved_model.pb").is_file()]
    return sorted(found, key=lambda p: int(p.name))


def read_labels(folder: str | Path) -> tuple[str, ...]:
    """Class names in class order."""
    path = Path(folder) / LABELS
    try:
        require_small(path)
        return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line)
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} must hold the class names, but reading it failed: {error}") from None
