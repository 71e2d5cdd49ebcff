"""PRESETS: what to train on a lab's own images, by how many there are, the device, and the weights at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kerasall.errors import SettingsError, did_you_mean
from kerasall.models.backbones import get_backbone
from kerasall.models.weights import find_stored

BACKBONE = "mobilenet"

_FROZEN = {
    "trainable": "head", "optimizer": {"name": "adam", "learning_rate": 0.003}, "schedule": {"name": "cosine"},
}  # fmt: skip
_WATCHED = {"patience": 4}


@dataclass(frozen=True)
class Preset:
    """One way to train.

    Attributes:
        name: how settings and commands call it.
        description: one line for people.
        size: side in pixels that images are resized to, unless they are much smaller.
        widths: values of ``alpha`` in order of preference: the first whose weights are at hand is taken.
        most_folds: folds, where there are patients enough.
        inner_validation: share of the training images on which epochs are decided; 0: they are fixed.
        stages: of the training.
        augment: random changes of training images, or None.
        passes: how often an image passes the network in one fit, for the estimate of the time.
        deterministic: whether equal images give equal scores to the last digit.
        least_images: images below which it is not chosen.
        needs_gpu: whether it is chosen on a GPU alone.
    """

    name: str
    description: str
    size: int
    widths: tuple[float, ...]
    most_folds: int
    inner_validation: float
    stages: tuple[dict[str, Any], ...]
    augment: dict[str, Any] | None
    passes: float
    deterministic: bool = True
    least_images: int = 0
    needs_gpu: bool = False


_ROWS = (
    Preset(
        "fine_tune", "MobileNet, head first, then the late blocks too, on images turned and mirrored; "
        "epochs decided on an inner validation part",
        size=224, widths=(1.0, 0.75, 0.5, 0.25), most_folds=5, inner_validation=0.2,
        stages=(
            {"name": "head", "trainable": "head", "epochs": 8, "optimizer": {"name": "adam", "learning_rate": 0.003},
             **_WATCHED},
            {"name": "late", "trainable": "block_12", "epochs": 16,
             "optimizer": {"name": "adam", "learning_rate": 0.0001}, **_WATCHED},
        ),
        augment={"horizontal_flip": True, "vertical_flip": True, "rotation_degrees": 180},
        passes=30, deterministic=False, least_images=2000, needs_gpu=True,
    ),
    Preset(
        "standard", "MobileNet, frozen; a linear head with dropout",
        size=224, widths=(1.0, 0.75, 0.5, 0.25), most_folds=5, inner_validation=0,
        stages=({"name": "head", "epochs": 40, **_FROZEN},), augment=None, passes=1,
    ),
    Preset(
        "quick", "a narrow MobileNet, frozen, on small images: a first look",
        size=160, widths=(0.25, 0.5, 0.75, 1.0), most_folds=3, inner_validation=0,
        stages=({"name": "head", "epochs": 30, **_FROZEN},), augment=None, passes=1,
    ),
)  # fmt: skip
PRESETS: dict[str, Preset] = {row.name: row for row in _ROWS}
"""Name -> row, the most thorough first."""
AUTO = "auto"

MOST_FROZEN_ON_CPU = 60_000
"""Images above which ``quick`` is chosen without a GPU: the standard one would take hours."""


def choose_preset(name: str, images: int, gpu: bool) -> Preset:
    """The preset called ``name``, or the one for so many images on this device.

    Args:
        name: a key of ``PRESETS``, or "auto".
        images: in all.
        gpu: whether there is one.

    Raises:
        SettingsError: there is none of this name.
    """
    if name == AUTO:
        if gpu and images >= PRESETS["fine_tune"].least_images:
            return PRESETS["fine_tune"]
        return PRESETS["standard" if gpu or images <= MOST_FROZEN_ON_CPU else "quick"]
    if name not in PRESETS:
        known = (AUTO, *PRESETS)
        hint = did_you_mean(name, known, "choose one of these")
        raise SettingsError(f"the preset must be one of {', '.join(known)}, but is {name!r}: {hint}")
    return PRESETS[name]


def choose_width(preset: Preset, weights: Any = None) -> float:
    """``alpha`` of the MobileNet: the preferred one whose weights are on this machine, else the preferred one.

    Args:
        preset: that is asked for.
        weights: folder of ImageNet weights, or None.
    """
    files = get_backbone(BACKBONE).weights
    return next((a for a in preset.widths if find_stored(files[a], weights)), preset.widths[0])


def choose_size(preset: Preset, side: int | None) -> int:
    """Side in pixels that images are resized to: the preset's, or twice their own where they are much smaller.

    Args:
        preset: that is asked for.
        side: the usual smaller side of the images, or None where it is not known.
    """
    if not side:
        return preset.size
    return max(96, min(preset.size, -(-2 * side // 32) * 32))


def preset_values(preset: Preset, alpha: float, size: int, split: dict[str, Any]) -> dict[str, Any]:
    """The settings of a preset, as a config states them."""
    return {
        "deterministic": preset.deterministic,
        "split": split,
        "preprocess": [{"op": "resize", "height": size, "width": size}],
        **({"augment": preset.augment} if preset.augment else {}),
        "model": {"backbone": BACKBONE, "alpha": alpha, "weights": "imagenet", "head": {"dropout": 0.2}},
        "train": {"batch_size": 32, "stages": [dict(stage) for stage in preset.stages]},
        "evaluate": {"main_metric": "balanced_accuracy", "metrics": ["accuracy"]},
    }


def estimate_seconds(preset: Preset, images: int, alpha: float, size: int, folds: int, cores: int) -> float:
    """A rough rule for the time of a run without a GPU.

    A minute for all that does not grow; 25 ms of one core for each image to be read and compared, and 40 ms for each
    time it passes MobileNet at 224 pixels (narrower and smaller ones take their share), a frozen one once in all.
    """
    network = 0.04 * (0.15 + 0.85 * alpha**2) * (size / 224) ** 2
    passes = preset.passes * (folds + 1) if preset.passes > 1 else 2
    return 60 + images * (0.025 + network * passes) / min(cores, 8)
