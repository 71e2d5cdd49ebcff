"""The command ``kerasall export``. Heavy imports stand inside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasall.cli.console import RESEARCH_ONLY, ModelArgument, note, require_place
from kerasall.errors import ArtifactError, DataError, DecodingError, SettingsError
from kerasall.files import atomic_path, sha256_of_file, write_json, write_text
from kerasall.paths import runs_folder
from kerasall.shown_text import show
from kerasall.studies.finished_run import Run

if TYPE_CHECKING:
    import numpy as np

    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.conversion import Parity, Target

SCHEMA_VERSION = 1
MOST_COMPARED = 100
BATCH = 16


def export(
    model: ModelArgument,
    to: Annotated[str, typer.Option(help="onnx (extra onnx) or litert.")],
    images: Annotated[
        list[str],
        typer.Option(help="Images, folders, patterns to compare answers on, and to settle int8; repeat it."),
    ],
    int8: Annotated[bool, typer.Option("--int8", help="litert: 8-bit weights and activations.")] = False,
    labelled: Annotated[
        Path | None,
        typer.Option(help="Labelled images that the model did not train on: accuracy before and after."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(callback=require_place, help="Folder to write; default runs/exports/<model>/<format>."),
    ] = None,
) -> None:
    """Convert a SavedModel for another runtime, and prove on images that it answers the same."""
    from kerasall.runtime import quiet_tensorflow
    from kerasall.serving.conversion import find_target
    from kerasall.serving.image_files import find_images

    target = find_target(to)
    if int8 and to != "litert":
        raise SettingsError(f"--int8 goes with --to litert, but the format is {to}: leave it out")
    run = Run.find(model)
    name, folder = run.title, run.pushed
    source = _Source.read(folder)
    paths = [str(path) for path in find_images(images, note)]
    destination = out or runs_folder() / "exports" / name / (f"{to}_int8" if int8 else to)
    if destination.exists():
        raise ArtifactError(
            f"{destination} must not exist yet, but does: give --out another folder, or remove it"
        )
    step = max(len(paths) / MOST_COMPARED, 1)
    chosen = [paths[int(i * step)] for i in range(min(len(paths), MOST_COMPARED))]
    with quiet_tensorflow():
        found = _convert(source, target, chosen, labelled, int8, destination)
    _print(destination / target.file, found)


@dataclass(frozen=True)
class _Source:
    """The SavedModel that is converted, and what lies beside it."""

    folder: Path
    labels: tuple[str, ...]
    card: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> _Source:
        from kerasall.serving.card import read_card, verify_manifest
        from kerasall.serving.predictor import read_labels

        verify_manifest(folder)
        card = read_card(folder)
        if not card.get("preprocess"):
            raise ArtifactError(
                f"{folder} must have a card.json that tells the chain of operations before the network, but has none: "
                "other runtimes need it; take a model that `kerasall run` pushed"
            )
        return cls(folder, read_labels(folder), card)

    def write_beside(self, folder: Path, found: dict[str, Any]) -> None:
        """Writes to another folder what tells of the model there, and that it was converted."""
        from kerasall.serving.card import write_manifest

        write_text(folder / "labels.txt", "".join(f"{label}\n" for label in self.labels))
        write_json(folder / "card.json", self.card | {"conversion": found})
        write_manifest(folder)


def _convert(
    source: _Source, target: Target, paths: list[str], labelled: Path | None, int8: bool, destination: Path
) -> dict[str, Any]:
    """Converts, loads the result again, compares, and only then leaves it in its folder; what was found."""
    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.conversion import (
        answer_in_tensorflow,
        compare_answers,
        require_same_answers,
        to_litert_int8,
    )

    chain = Chain.from_json(source.card["preprocess"])
    pixels = _read_pixels(paths, chain)
    original = answer_in_tensorflow(source.folder)
    content = to_litert_int8(source.folder, list(pixels)) if int8 else target.convert(source.folder)
    with atomic_path(destination) as temporary:
        temporary.mkdir()
        file = temporary / target.file
        file.write_bytes(content)
        converted = target.load(file)
        parity = compare_answers(_in_batches(original, pixels), _in_batches(converted, pixels))
        if not int8:
            require_same_answers(parity)
        scores = _score(original, converted, labelled, source.labels, chain) if labelled else None
        found = _describe(source.folder, file, parity, scores, int8)
        source.write_beside(temporary, found)
    return found


def _read_pixels(paths: list[str], chain: Chain) -> np.ndarray:
    """Pixels after the chain, uint8 [N, H, W, 3]; images that cannot be read are told and passed over."""
    import numpy as np

    from kerasall.decoding import decode, read_image_bytes

    found = []
    for path in paths:
        try:
            image: Any = decode(read_image_bytes(path), name=path, sixteen_bit=chain.sixteen_bit)
        except DecodingError as error:
            note(f"passed over: {error}")
            continue
        found.append(np.asarray(chain(image)))
    if not found:
        raise DataError("answers must be compared on at least one image that can be read, but none can")
    return np.stack(found)


def _in_batches(answer: Any, pixels: np.ndarray) -> dict[str, np.ndarray]:
    import numpy as np

    parts = [answer(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _score(
    original: Any, converted: Any, source: Path, labels: tuple[str, ...], chain: Chain
) -> dict[str, Any]:
    """Accuracy of both on labelled images, and where they part."""
    import numpy as np

    from kerasall.data.sources import read_source

    examples = read_source("auto", source).examples
    unknown = sorted(set(examples["label"]) - set(labels))
    if unknown:
        raise DataError(
            f"{source} must hold the model's classes, {', '.join(labels)}, but holds {', '.join(unknown)}"
        )
    paths, parts = examples["path"].tolist(), []
    for start in range(0, len(paths), BATCH):
        pixels = _read_pixels(paths[start : start + BATCH], chain)
        parts.append([answer(pixels)["label_index"] for answer in (original, converted)])
    called = np.concatenate(parts, axis=1)
    if unread := len(paths) - called.shape[1]:
        raise DataError(f"every image of {source} must be readable, but {unread} are not")
    before, after = called == examples["label"].map(list(labels).index).to_numpy()
    return {
        "images": len(paths),
        "accuracy_before": float(before.mean()),
        "accuracy_after": float(after.mean()),
        "right_before_only": int((before & ~after).sum()),
        "right_after_only": int((after & ~before).sum()),
    }


def _describe(
    folder: Path, file: Path, parity: Parity, scores: dict[str, Any] | None, int8: bool
) -> dict[str, Any]:
    original = [folder / "saved_model.pb", *(folder / "variables").glob("*")]
    return {
        "schema_version": SCHEMA_VERSION,
        "from_manifest_sha256": sha256_of_file(folder / "manifest.json"),
        "file": file.name,
        "numbers": "int8" if int8 else "float32",
        "bytes": file.stat().st_size,
        "saved_model_bytes": sum(path.stat().st_size for path in original),
        "input": "pixels: uint8 [N, H, W, 3], RGB, after the operations that card.json lists under preprocess",
        "parity": asdict(parity),
        "scores": scores,
    }


def _print(file: Path, found: dict[str, Any]) -> None:
    parity, scores = found["parity"], found["scores"]
    show(f"model:     {file}")
    show(
        f"size:      {found['bytes'] / 1e6:.2f} MB, the SavedModel {found['saved_model_bytes'] / 1e6:.2f} MB"
    )
    show(
        f"answers:   {parity['labels_changed']} of {parity['images']} images called otherwise; largest difference of a "
        f"probability {parity['largest']['probabilities']:.1e}"
    )
    if scores:
        show(
            f"accuracy:  {scores['accuracy_before']:.4f} before, {scores['accuracy_after']:.4f} after, on "
            f"{scores['images']} images ({scores['right_before_only']} right only before, "
            f"{scores['right_after_only']} only after)"
        )
    if found["numbers"] == "int8":
        note("int8 answers carry no calibrated probabilities and no referral.")
    note(RESEARCH_ONLY)
