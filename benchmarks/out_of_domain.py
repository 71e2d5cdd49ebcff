"""Which images that are no blood cells of the training set's kind does an exported model refer?

    python benchmarks/out_of_domain.py SAVEDMODEL CELLS [--other FOLDER ...] [--images 200] [--json FILE]

CELLS is a folder of images of the kind the model was trained on. Of them are made: inverted images,
images with exchanged channels, another stain, half the light, a fifth of the contrast or out of focus,
cells cut into tiles and shuffled, and blank slides in the colour of their borders. Textures are drawn:
stripes, checks, dots, clouds, colour noise. Each FOLDER (cells of another microscope, say) is one more
kind. Printed is the share of each kind that is referred as unlike the training images (the limit is set
so that 5% of validation images are), and the share referred for whatever reason.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from kerasall.decoding import decode
from kerasall.evaluation.safeguards import KEPT, UNLIKE
from kerasall.serving.image_files import find_images
from kerasall.serving.predictor import Predictor

BATCH = 32


def invert(cell: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """The negative."""
    return 255 - cell


def blank(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A slide without a cell: the colour of the image's border, with a camera's noise."""
    border = np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]])
    return _noisy(np.broadcast_to(np.median(border, axis=0), cell.shape), 2, random)


def blank_any(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One colour, from black to white."""
    colour = np.clip(random.uniform(0, 255) + random.normal(0, 10, 3), 0, 255)
    return _noisy(np.broadcast_to(colour, cell.shape), random.uniform(0, 3), random)


def exchange_channels(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Red, green and blue in one of the five other orders."""
    orders = [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return cell[..., orders[random.integers(5)]]


def restain(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every hue turned by 20 to 160 degrees one way or the other."""
    hue = cv2.cvtColor(np.ascontiguousarray(cell), cv2.COLOR_RGB2HSV)
    turn = int(random.integers(10, 81)) * int(random.choice([-1, 1]))
    hue[..., 0] = (hue[..., 0].astype(int) + turn) % 180
    return cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)


def darken(cell: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Half the light."""
    return cell // 2


def fade(cell: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """A fifth of the contrast."""
    mean = cell.mean(axis=(0, 1))
    return np.rint(mean + (cell - mean) / 5).astype(np.uint8)


def defocus(cell: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Blurred by a fiftieth of its width."""
    return cv2.GaussianBlur(np.ascontiguousarray(cell), (0, 0), cell.shape[1] / 50)


def shuffle_tiles(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same colours and details without a cell: 6 x 6 tiles in another order."""
    side = min(cell.shape[:2]) // 6
    tiles = [
        cell[y : y + side, x : x + side] for y in range(0, 6 * side, side) for x in range(0, 6 * side, side)
    ]
    order = random.permutation(36)
    return np.concatenate([np.concatenate([tiles[i] for i in row], axis=1) for row in order.reshape(6, 6)])


def stripes(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Waves of two colours."""
    y, x = np.indices(cell.shape[:2])
    angle, period = random.uniform(0, np.pi), random.uniform(6, 60)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    return _between(wave, random)


def checks(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A chessboard of two colours."""
    y, x = np.indices(cell.shape[:2])
    side = random.integers(5, 50)
    return _between(((x // side + y // side) % 2).astype(float), random)


def dots(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Discs of random places and colours on a random ground."""
    picture = np.broadcast_to(random.integers(0, 256, 3), cell.shape).astype(np.uint8).copy()
    for _ in range(random.integers(10, 120)):
        centre = tuple(int(v) for v in random.integers(0, cell.shape[1], 2))
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        cv2.circle(picture, centre, int(random.integers(2, 14)), colour, -1, cv2.LINE_AA)
    return picture


def clouds(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Smooth noise of several scales in two colours."""
    height, width = cell.shape[:2]
    total = np.zeros((height, width))
    for cells, weight in ((3, 1.0), (7, 0.6), (17, 0.35), (41, 0.2)):
        total += weight * cv2.resize(
            random.random((cells, cells)), (width, height), interpolation=cv2.INTER_CUBIC
        )
    return _between((total - total.min()) / np.ptp(total), random)


def colour_noise(cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every pixel by itself."""
    return random.integers(0, 256, cell.shape).astype(np.uint8)


def _between(share: np.ndarray, random: np.random.Generator) -> np.ndarray:
    first, second = random.uniform(0, 255, (2, 3))
    return _noisy(first + share[..., None] * (second - first), 2, random)


def _noisy(picture: np.ndarray, deviation: float, random: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(picture + random.normal(0, deviation, picture.shape)), 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "blank, the slide's own colour": blank,
    "blank, any colour": blank_any,
    "inverted": invert,
    "channels exchanged": exchange_channels,
    "another stain (hue turned)": restain,
    "half the light": darken,
    "a fifth of the contrast": fade,
    "out of focus": defocus,
    "shuffled tiles": shuffle_tiles,
    "texture: stripes": stripes,
    "texture: checks": checks,
    "texture: dots": dots,
    "texture: clouds": clouds,
    "texture: colour noise": colour_noise,
}
"""Kind -> what makes an image of that kind from a cell."""


def make(kind: str, cells: list[np.ndarray], seed: int = 0) -> Iterator[np.ndarray]:
    """One image of a kind for every cell, uint8 [H, W, 3]; the same seed makes the same images."""
    random = np.random.default_rng([seed, *kind.encode()])
    for cell in cells:
        yield KINDS[kind](cell, random)


def refer(predictor: Predictor, pictures: list[bytes]) -> dict[str, float]:
    """Shares referred as unlike the training images, and for any reason."""
    reasons = np.concatenate([
        predictor.predict(pictures[start : start + BATCH]).extras["refer_reason"]
        for start in range(0, len(pictures), BATCH)
    ])  # fmt: skip
    return {
        "images": len(pictures),
        "unlike": float((reasons == UNLIKE).mean()),
        "any": float((reasons != KEPT).mean()),
    }


def spread(paths: list[Path], count: int) -> list[Path]:
    """``count`` of them at even steps."""
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]


def main() -> None:
    """Prints one line a kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("savedmodel")
    parser.add_argument("cells")
    parser.add_argument("--other", nargs="*", default=[])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    predictor = Predictor(arguments.savedmodel)
    paths = spread(find_images([arguments.cells]), arguments.images)
    cells = [decode(path.read_bytes(), name=str(path)) for path in paths]
    found = {"cells like those of the training": refer(predictor, [path.read_bytes() for path in paths])}
    for kind in KINDS:
        pictures = [cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for picture in make(kind, cells)]
        found[kind] = refer(predictor, pictures)
    for folder in arguments.other:
        others = spread(find_images([folder]), arguments.images)
        found[f"other: {Path(folder).name}"] = refer(predictor, [path.read_bytes() for path in others])
    for kind, shares in found.items():
        print(
            f"{kind:34s} {shares['images']:5d} images  unlike {shares['unlike']:6.1%}  any {shares['any']:6.1%}"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
