"""Decoded pixels are those of a plain loop, from memory and from disk, and broken files are named."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasall.components.trainer import ChainInTwo
from kerasall.data.input_pipeline import epoch_batches, prediction_batches
from kerasall.data.pixel_cache import _round_into, decode_pixels
from kerasall.decoding import Limits, decode
from kerasall.errors import DataError, DecodingError, SettingsError
from kerasall.files import sha256_of_file
from kerasall.preprocessing.contrast import Gamma
from kerasall.preprocessing.operations import CenterCrop, Chain, PadToSquare, Resize
from kerasall.serving.export import decode_native

CHAIN = Chain((PadToSquare(), Resize(24, 20)))
COUNT = 37  # more than one decoding batch, and a part of a second


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """PNG and BMP files of different sizes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(3)
    paths = []
    for number in range(COUNT):
        pixels = random.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        paths.append(folder / f"cell {number} ü.{'png' if number % 2 else 'bmp'}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def decoded(files) -> np.ndarray:
    """The pixels as a plain loop over Pillow's decoding gives them."""
    return np.stack([CHAIN(decode(path.read_bytes())) for path in files])


# Decoding


def test_decoded_pixels_are_those_of_a_plain_loop(files, decoded):
    cache = decode_pixels(files, CHAIN)
    np.testing.assert_array_equal(cache.pixels, decoded)
    assert (cache.path, cache.decoded, len(cache), cache.key) == (None, COUNT, COUNT, "")


def test_opencv_has_its_threads_again_after_several_decoded_at_once(files):
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: decode_pixels(files, CHAIN), range(12)))
        assert cv2.getNumThreads() == 3
        with pytest.raises(DecodingError):
            decode_pixels([*files, "absent.png"], CHAIN)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


SHRUNK = [
    (Resize(24, 20),),
    (Resize(24, 20, antialias=True),),
    (Resize(24, 20, "bicubic"),),
    (PadToSquare(), Resize(24, 20)),
    (Resize(24, 20), Gamma(0.6)),
    (Resize(1, 1),),
    (Resize(131, 7),),
]


@pytest.mark.parametrize("operations", SHRUNK, ids=lambda each: "-".join(step.name for step in each))
def test_training_sees_the_pixels_that_an_exported_model_sees(tmp_path, operations):
    """JPEG, PNG and BMP of many sizes, more than are changed in one call, one of them large, one of the final size."""
    random = np.random.default_rng(5)
    paths = []
    for number in range(40):
        sides = (
            (24, 20) if number in (6, 7, 8) else (2100, 2100) if number == 9 else random.integers(10, 60, 2)
        )
        smooth = cv2.GaussianBlur(random.integers(0, 256, (*sides, 3), dtype=np.uint8), (0, 0), 2)
        paths.append(tmp_path / f"{number}.{('jpg', 'png', 'bmp')[number % 3]}")
        Image.fromarray(smooth).save(paths[-1])
    chain = Chain(operations)
    served = tf.function(lambda data: chain(decode_native(data)), [tf.TensorSpec([], tf.string)])
    expected = np.stack([served(path.read_bytes()) for path in paths])
    np.testing.assert_array_equal(decode_pixels(paths, chain).pixels, expected)


CROP, WIDEN, SHRINK = (
    Chain((each,)) for each in (CenterCrop(30, 22), Resize(40, 44), Resize(24, 20, "bicubic"))
)


@pytest.mark.parametrize(
    ("common", "own"),
    [(CROP, Chain()), (WIDEN, Chain()), (Chain(), WIDEN), (CROP, WIDEN), (WIDEN, CROP), (WIDEN, SHRINK), (SHRINK, WIDEN)],
)  # fmt: skip
def test_a_member_is_trained_on_what_its_two_chains_make_of_an_image(files, common, own):
    both = ChainInTwo(common, own)
    expected = np.stack([both(decode(path.read_bytes())) for path in files])
    np.testing.assert_array_equal(decode_pixels(files, both).pixels, expected)


def test_values_are_rounded_as_the_chain_rounds_them():
    values = np.array([-20, -0.4, 0.5, 1.5, 2.5, 127.49, 254.5, 255.4, 300, 1e12], np.float32)
    row = np.zeros((1, len(values), 3), np.uint8)
    _round_into(row, np.stack([values] * 3, axis=-1)[None], within_range=False)
    np.testing.assert_array_equal(row[0, :, 0], np.rint(values.clip(0, 255)).astype(np.uint8))
    inside = np.abs(values[1:8])
    row = np.zeros((1, len(inside), 3), np.uint8)
    _round_into(row, np.stack([inside] * 3, axis=-1)[None], within_range=True)
    np.testing.assert_array_equal(row[0, :, 1], np.rint(inside.clip(0, 255)).astype(np.uint8))


def test_disk_holds_the_same_pixels_as_memory_and_is_used_again(files, decoded, tmp_path):
    first = decode_pixels(files, CHAIN, tmp_path, memory_bytes=0)
    assert isinstance(first.pixels, np.memmap)
    np.testing.assert_array_equal(first.pixels, decoded)
    assert [first.path] == list(tmp_path.iterdir())

    for memory_bytes in (0, 1 << 30):
        again = decode_pixels(files, CHAIN, tmp_path, memory_bytes=memory_bytes)
        assert (again.decoded, again.key, again.path) == (0, first.key, first.path)
        np.testing.assert_array_equal(again.pixels, decoded)


def test_batches_from_disk_are_those_from_memory_and_a_cut_file_is_told(files, decoded, tmp_path):
    stored = decode_pixels(files, CHAIN, tmp_path, memory_bytes=0)
    settings = {"batch_size": 8, "shuffle": True, "classes": 2}
    labels = np.arange(COUNT) % 2
    for pixels, same in ((stored.pixels, decoded), (stored.pixels[3:], decoded[3:])):
        for found, expected in zip(
            epoch_batches(pixels, labels[: len(same)], **settings),
            epoch_batches(same, labels[: len(same)], **settings),
            strict=True,
        ):
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])
    os.truncate(stored.path, stored.path.stat().st_size - 1)
    with pytest.raises(tf.errors.OpError, match="must hold whole rows"):
        list(prediction_batches(stored.pixels, batch_size=8))


def test_reuse_needs_no_image_file_when_the_content_keys_are_known(files, tmp_path):
    keys = [sha256_of_file(path) for path in files[:3]]
    decode_pixels(files[:3], CHAIN, tmp_path, memory_bytes=0, keys=keys)
    assert decode_pixels(["gone"] * 3, CHAIN, tmp_path, keys=keys).decoded == 0


def test_other_content_order_or_chain_is_decoded_anew(files, tmp_path):
    keys = {decode_pixels(files[:2], CHAIN, tmp_path, memory_bytes=0).key}
    for paths, chain in (
        (files[1::-1], CHAIN),
        (files[1:3], CHAIN),
        (files[:2], Chain((CenterCrop(24, 20),))),
    ):
        cache = decode_pixels(paths, chain, tmp_path, memory_bytes=0)
        assert cache.decoded == 2
        keys.add(cache.key)
    assert len(keys) == 4


@pytest.mark.parametrize("kept_bytes", [0, 60, 5000])
def test_a_cut_cache_file_is_made_again(files, decoded, tmp_path, kept_bytes):
    path = decode_pixels(files, CHAIN, tmp_path, memory_bytes=0).path
    os.truncate(path, kept_bytes)
    for memory_bytes in (1 << 30, 0):
        again = decode_pixels(files, CHAIN, tmp_path, memory_bytes=memory_bytes)
        assert again.decoded == COUNT
        np.testing.assert_array_equal(again.pixels, decoded)


def test_what_tensorflow_misreads_or_refuses_gives_the_pixels_of_its_png(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image.save(tmp_path / "a.tiff")
    image.convert("1").save(tmp_path / "b.bmp")
    image.quantize(16).save(tmp_path / "c.bmp")
    paths = [tmp_path / name for name in ("a.tiff", "b.bmp", "c.bmp")]
    expected = np.stack([noise, *(np.asarray(Image.open(path).convert("RGB")) for path in paths[1:])])
    np.testing.assert_array_equal(decode_pixels(paths, Chain((CenterCrop(24, 20),))).pixels, expected)


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_a_broken_file_is_named_and_nothing_is_left_behind(files, tmp_path, memory_bytes, end):
    broken = tmp_path / "broken.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(broken)
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] + end)
    with pytest.raises(DecodingError, match=r"broken\.jpg"):
        decode_pixels([*files, broken], CHAIN, tmp_path / "cache", memory_bytes=memory_bytes)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_file_changed_since_its_hash_was_taken_is_refused(files, tmp_path):
    keys = [sha256_of_file(path) for path in files[:3]]
    with pytest.raises(DecodingError, match="changed since it was scanned"):
        decode_pixels([*files[:2], files[3]], CHAIN, tmp_path, memory_bytes=0, keys=keys)
    assert not list(tmp_path.glob("*.npy"))


def test_a_missing_or_too_large_file_is_named(files, tmp_path):
    with pytest.raises(DecodingError, match=r"absent\.png"):
        decode_pixels([*files[:2], tmp_path / "absent.png"], CHAIN)
    keys = [*map(sha256_of_file, files[:2]), "c"]
    with pytest.raises(DecodingError, match=r"absent\.png"):
        decode_pixels([*files[:2], tmp_path / "absent.png"], CHAIN, keys=keys)
    with pytest.raises(DecodingError, match="cell 20"):
        decode_pixels(files, CHAIN, limits=Limits(max_side=39))


def test_pixels_that_fit_nowhere_are_refused_with_the_cure(files):
    with pytest.raises(DataError, match="cache folder"):
        decode_pixels(files, CHAIN, memory_bytes=1)
    with pytest.raises(DataError, match="at least one"):
        decode_pixels([], CHAIN)
    with pytest.raises(SettingsError, match="same size"):
        decode_pixels(files, Chain((PadToSquare(),)))
    with pytest.raises(DataError, match="one content key per file"):
        decode_pixels(files, CHAIN, keys=["a"])


@pytest.mark.realdata
def test_real_images_decode_as_one_by_one(real_data):
    jpegs = sorted((real_data / "aria" / "Original" / "Pro").glob("*.jpg"))[:6]
    cells = sorted((real_data / "cnmc_sample").glob("*.bmp"))[:4]
    chain = Chain((CenterCrop(224, 224),))
    pixels = decode_pixels([*jpegs, *cells], chain).pixels.astype(int)
    expected = np.stack([chain(decode(path.read_bytes())) for path in [*jpegs, *cells]]).astype(int)
    np.testing.assert_array_equal(pixels, expected)
