"""Which changed copies of an image does the search for near duplicates find?

    python benchmarks/near_duplicates.py [--images FOLDER] [--count 100] [--json FILE]

Each of ``count`` images (rendered cells without a FOLDER) gets one copy that was turned, zoomed into, cropped, shifted,
compressed, resized, brightened, blurred or given noise. Printed is the share of copies that are found, and how many
groups join different images. What is not found, a split can put on another side than its original.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from kerasall.data.duplicates import NearDuplicateSettings, search_duplicates
from kerasall.data.examples import make_examples
from kerasall.data.sources import read_source
from kerasall.data.statistics import scan_images
from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.decoding import DEFAULT_LIMITS, decode, read_image_bytes


def warp(image: np.ndarray, degrees: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Turned about the centre and zoomed into; what comes in from outside is mirrored."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, scale)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )


def shift(image: np.ndarray, share: float) -> np.ndarray:
    """Moved right and down by a share of its sides."""
    matrix = np.array([[1, 0, share * image.shape[1]], [0, 1, share * image.shape[0]]], np.float32)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Through a JPEG file."""
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))


def resize(image: np.ndarray, factor: float) -> np.ndarray:
    """Of other sides."""
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def brighten(image: np.ndarray, factor: float) -> np.ndarray:
    """All grey levels times a factor."""
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


def blur(image: np.ndarray, pixels: float) -> np.ndarray:
    """Out of focus."""
    return cv2.GaussianBlur(image, (0, 0), pixels)


def add_noise(image: np.ndarray, deviation: float) -> np.ndarray:
    """A camera's noise, the same on every call."""
    noise = np.random.default_rng(0).normal(0, deviation, image.shape)
    return np.clip(np.rint(image + noise * (image > 0)), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored and turned by 90 degrees": lambda image: np.ascontiguousarray(np.rot90(image[:, ::-1])),
    **{f"turned by {angle} degrees": partial(warp, degrees=angle) for angle in (3, 5, 8, 10, 15, 30, 45)},
    **{f"zoomed in by {share}%": partial(warp, scale=1 + share / 100) for share in (5, 10, 15, 20, 30)},
    **{f"shifted by {share}%": partial(shift, share=share / 100) for share in (3, 5, 10)},
    **{f"brighter by {share}%": partial(brighten, factor=1 + share / 100) for share in (10, 20, 40)},
    **{f"JPEG of quality {quality}": partial(compress, quality=quality) for quality in (80, 50)},
    **{f"resized to {share}%": partial(resize, factor=share / 100) for share in (75, 50)},
    **{f"blurred by {pixels} pixels": partial(blur, pixels=pixels) for pixels in (1, 2)},
    **{f"noise of {deviation} grey levels": partial(add_noise, deviation=deviation) for deviation in (5, 15)},
}


def measure(images: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> tuple[float, int]:
    """Share of copies that are joined with their original, and how many groups join different images."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for number, image in enumerate(images):
            for name, pixels in (("original", image), ("changed", change(image))):
                path = Path(folder) / f"{name}{number}.png"
                cv2.imwrite(str(path), pixels)
                rows.append({"id": path.name, "path": str(path), "label": "x", "subject": str(number)})
        examples = make_examples(rows)
        settings = NearDuplicateSettings(max_subjects=len(images), max_share=1.0)
        found = search_duplicates(examples, scan_images(examples), settings)
    subjects = dict(zip(examples["id"], examples["subject"], strict=True))
    told = [len({subjects[name] for name in group}) == 1 for group in found.near]
    return sum(told) / len(images), len(told) - sum(told)


def read_images(folder: Path | None, count: int) -> list[np.ndarray]:
    """Evenly spaced images of a folder, BGR, or rendered cells."""
    if folder is None:
        settings = SyntheticSettings(subjects_per_class=count, images_per_subject=1, size=224, seed=5)
        with tempfile.TemporaryDirectory() as cache:
            paths = render_cells(Path(cache), settings).examples["path"][::2]
            return [_read(path) for path in paths]
    paths = read_source("auto", folder).examples["path"].tolist()
    return [_read(paths[row]) for row in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]


def _read(path: str) -> np.ndarray:
    pixels = decode(read_image_bytes(path, DEFAULT_LIMITS), DEFAULT_LIMITS, path)
    return np.ascontiguousarray(pixels[..., ::-1])


def main() -> None:
    """Measures every change."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of images instead of rendered cells")
    parser.add_argument("--count", type=int, default=100, help="how many images")
    parser.add_argument("--json", type=Path, help="also write the shares here")
    options = parser.parse_args()
    images, shares = read_images(options.images, options.count), {}
    print(f"{len(images)} images\n| copy | found |\n|---|---|")
    for name, change in CHANGES.items():
        shares[name], wrong = measure(images, change)
        print(f"| {name} | {shares[name]:.0%}{f' ({wrong} wrong groups)' if wrong else ''} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(shares, indent=2))


if __name__ == "__main__":
    main()
