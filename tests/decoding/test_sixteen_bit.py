"""data.sixteen_bit: 16-bit samples become the same 8 bits in checks, training and the exported graph."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from kerasall.components.example_gen import read_collection_of
from kerasall.components.example_validator import examine
from kerasall.components.exporter import compare
from kerasall.components.training_step import decode_rows
from kerasall.data.development import read_development
from kerasall.data.pixel_cache import decode_pixels, pixels_key
from kerasall.decoding import decode, to_native
from kerasall.errors import DecodingError, SettingsError
from kerasall.files import read_json
from kerasall.pipeline.component import Pipeline
from kerasall.pipeline.runner import RunPlaces, run_pipeline
from kerasall.preprocessing.operations import Chain, Resize, check_steps
from kerasall.serving.export import decode_native, export_saved_model
from kerasall.serving.predictor import Predictor
from kerasall.settings import CheckSettings, DataSettings, Settings
from kerasall.settings.loading import validate
from kerasall.studies.answers import predict
from kerasall.studies.experiment import Places
from kerasall.studies.steps import read_and_split

HEIGHT, WIDTH = 21, 34


def png(samples: np.ndarray) -> bytes:
    """16-bit grey, RGB or RGBA, channels in this order."""
    order = samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    return cv2.imencode(".png", order)[1].tobytes()


def grey_alpha_png(samples: np.ndarray) -> bytes:
    """The grey samples with others as alpha, which no library at hand writes."""
    rows = np.dstack([samples, samples[::-1] ^ 0xFFFF]).astype(">u2")
    return make_png(b"".join(b"\0" + row.tobytes() for row in rows), 4)


def transparent_png(samples: np.ndarray) -> bytes:
    """Grey of which one value is called transparent."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return make_png(rows, 0, chunk(b"tRNS", struct.pack(">H", int(samples[0, 0]))))


def turned_png(samples: np.ndarray) -> bytes:
    """With an EXIF orientation by which it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(samples if samples.ndim == 2 else samples[..., :3])
    return data[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + data[33:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def make_png(rows: bytes, colour: int, more: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(samples: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    photometric = "rgb" if samples.ndim == 3 else "minisblack"
    tifffile.imwrite(
        file, np.ascontiguousarray(samples), **{"photometric": photometric, "metadata": None} | options
    )
    return file.getvalue()


# name: (channels, how they are written, how the picture lies then)
FILES: dict[str, tuple[int, Callable[[np.ndarray], bytes], int]] = {
    "grey PNG": (1, png, 0),
    "grey PNG with alpha": (1, grey_alpha_png, 0),
    "grey PNG with a transparent value": (1, transparent_png, 0),
    "grey PNG on its side": (1, turned_png, -1),
    "RGB PNG": (3, png, 0),
    "RGB PNG on its side": (3, turned_png, -1),
    "RGBA PNG": (4, png, 0),
    "grey TIFF": (1, tiff, 0),
    "grey TIFF, big end first": (1, lambda s: tiff(s, byteorder=">"), 0),
    "RGB TIFF": (3, tiff, 0),
    "RGB TIFF, planes apart": (3, lambda s: tiff(s.transpose(2, 0, 1), planarconfig="separate"), 0),
    "RGBA TIFF, predicted": (4, lambda s: tiff(s, compression="zlib", predictor=2), 0),
    "RGB TIFF on its side": (3, lambda s: tiff(s, extratags=[(274, 3, 1, 6, True)]), -1),
}
# way: (values below this, the formula in so many words)
WAYS: dict[str | int, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "full": (65536, lambda v: v // 256),
    8: (256, lambda v: v),
    9: (512, lambda v: v // 2),
    10: (1024, lambda v: v // 4),
    12: (4096, lambda v: v // 16),
    14: (16384, lambda v: v // 64),
    15: (32768, lambda v: v // 128),
    "minmax": (65536, lambda v: (v - v.min()) * 255 // (v.max() - v.min())),
}


def noise(channels: int, below: int, seed: int = 0) -> np.ndarray:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    values = np.random.default_rng(seed).integers(0, below, shape, dtype=np.uint16)
    values.flat[:8] = below - 1
    if channels == 4:  # alpha, which is dropped, must decide nothing
        values[..., 3] = 65535
    return values


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_training_and_graph_give_the_pixels_of_the_formula(name, way):
    channels, make, turns = FILES[name]
    below, formula = WAYS[way]
    samples = noise(channels, below)
    data = make(samples)
    colours = samples[..., :3] if channels > 1 else np.dstack([samples] * 3)
    expected = np.rot90(formula(colours.astype(int)), turns).astype(np.uint8)
    np.testing.assert_array_equal(decode(data, sixteen_bit=way), expected)
    np.testing.assert_array_equal(decode_native(tf.constant(to_native(data)), way).numpy(), expected)
    if name.endswith("PNG"):  # a client's own file, which nobody looked at before the graph
        np.testing.assert_array_equal(decode_native(tf.constant(data), way).numpy(), expected)


@pytest.mark.parametrize("values", [(0, 1), (7, 7), (65534, 65535), (1000, 1255), (0, 65535), (32768, 36863)])
def test_minmax_is_whole_numbers_on_both_ways(values):
    """Down to images without any contrast, which become black."""
    samples = np.linspace(*values, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    span = max(int(np.ptp(samples)), 1)
    expected = [[(int(v) - values[0]) * 255 // span for v in row] for row in samples]
    for data in (png(samples), tiff(samples)):
        np.testing.assert_array_equal(decode(data, sixteen_bit="minmax")[..., 1], expected)
        np.testing.assert_array_equal(
            decode_native(tf.constant(to_native(data)), "minmax").numpy()[..., 1], expected
        )


def test_other_depths_are_untouched():
    pixels = np.random.default_rng(3).integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for suffix in (".png", ".bmp", ".jpg", ".tiff", ".webp"):
        data = cv2.imencode(suffix, pixels)[1].tobytes()
        usual = decode(data)
        for way in WAYS:
            np.testing.assert_array_equal(decode(data, sixteen_bit=way), usual)
            np.testing.assert_array_equal(decode_native(tf.constant(to_native(data)), way).numpy(), usual)


@pytest.mark.parametrize("make", [png, tiff])
def test_a_value_of_more_bits_is_an_error_on_both_ways(make):
    samples = noise(3, 4096)
    samples[2, 3, 1] = 4096
    with pytest.raises(
        DecodingError, match=r"^a/b\.png must have 16-bit values of at most 4,095, as .*, but has 4,096: "
    ):
        decode(make(samples), name="a/b.png", sixteen_bit=12)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 4,095"):
        decode_native(tf.constant(to_native(make(samples))), 12)


# --- settings and chain


def test_the_setting_takes_words_numbers_and_numbers_as_words():
    for given, kept in (("full", "full"), ("minmax", "minmax"), (12, 12), ("12", 12), (8, 8), (15, 15)):
        assert validate(minimal(given), "here").data.sixteen_bit == kept
    for wrong in (7, 16, "7", "half", 12.5, True, None):
        with pytest.raises(SettingsError, match=r"data\.sixteen_bit"):
            validate(minimal(wrong), "here")


def minimal(sixteen_bit: object, data: Path | None = None) -> dict:
    return {
        "experiment": "x", "pipeline": "p.py", "preprocess": [{"op": "resize", "height": 16, "width": 16}],
        "data": {"source": "folder", "path": str(data), "sixteen_bit": sixteen_bit},
        "model": {"alpha": 0.25, "weights": "random"},
    }  # fmt: skip


def test_a_chain_keeps_the_way_and_older_ones_mean_full():
    chain = Chain((Resize(16, 16),), 12)
    assert chain.to_json()[0] == {"op": "sixteen_bit", "read": 12}
    assert Chain.from_json(chain.to_json()) == chain
    assert Chain.from_json(chain.to_json()[1:]).sixteen_bit == "full"
    assert Chain((Resize(16, 16),)).to_json() == chain.to_json()[1:]
    for wrong in ([*chain.to_json(), {"op": "sixteen_bit", "read": 12}], [{"op": "sixteen_bit", "read": 16}]):
        with pytest.raises(SettingsError, match=r"operation|sixteen_bit"):
            Chain.from_json(wrong)
    with pytest.raises(SettingsError, match=r"preprocess .* data\.sixteen_bit"):
        check_steps(chain.to_json())


# --- through the rooms


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    """Two classes of 12-bit pictures in 16-bit files: PNG and TIFF."""
    folder = tmp_path_factory.mktemp("cells")
    for number in range(24):
        label = ("all", "hem")[number % 2]
        coarse = np.random.default_rng(number).integers(0, 4096, (5, 5, 3)).astype(np.float32)
        samples = np.clip(cv2.resize(coarse, (40, 40), interpolation=cv2.INTER_CUBIC), 0, 4095).astype(
            np.uint16
        )
        (folder / label / f"p{number}").mkdir(parents=True)
        make, suffix = ((png, "png"), (tiff, "tif"))[number // 2 % 2]
        (folder / label / f"p{number}" / f"{number}.{suffix}").write_bytes(make(samples))
    return folder


def collect(folder: Path, sixteen_bit: object):
    return read_collection_of(
        DataSettings(source="folder", path=str(folder), sixteen_bit=sixteen_bit), Path()
    )


def test_check_counts_files_that_leave_most_of_their_range_unused(cells):
    found = examine(collect(cells, "full"), CheckSettings()).found
    warning = next(each for each in found["warnings"] if each["code"] == "unused_depth")
    assert warning["count"] == 24
    assert warning["message"].startswith("24 of 24 images of 16-bit samples use under a quarter of the range")
    assert "set data.sixteen_bit to the bits that the camera has (12 hold them)" in warning["message"]
    for way in (12, "minmax"):
        found = examine(collect(cells, way), CheckSettings()).found
        assert "unused_depth" not in {each["code"] for each in found["warnings"]}
        assert not found["errors"]


def test_check_names_files_that_need_more_bits(cells):
    (error,) = (
        e for e in examine(collect(cells, 11), CheckSettings()).found["errors"] if e["code"] == "unreadable"
    )
    assert error["count"] == 24
    assert "at most 2,047, as data.sixteen_bit is 11" in error["message"]


@pytest.fixture(scope="module")
def run(cells, tmp_path_factory) -> SimpleNamespace:
    """Examples to development part, as every experiment begins."""
    folder = tmp_path_factory.mktemp("run")
    settings: Settings = validate(minimal("12", cells), "here")
    places = Places(folder / "cache", folder / "savedmodels")
    steps = read_and_split(settings, places).steps
    result = run_pipeline(
        Pipeline(steps, {}),
        RunPlaces(folder / "runs", "x"),
        experiment="x",
        settings={},
        say=lambda line: None,
    )
    return SimpleNamespace(result=result, folder=folder)


def test_the_way_goes_from_the_settings_to_pixels_and_their_keys(run):
    data = read_development(run.result.artifacts["Transform", "development"].path)
    assert data.sixteen_bit == 12
    chain = Chain.from_json(data.preprocess)
    pixels = decode_rows(data, chain, run.folder / "cache").pixels
    for path, stored in zip(data.examples["path"], pixels, strict=True):
        np.testing.assert_array_equal(chain(decode(Path(path).read_bytes(), sixteen_bit=12)), stored)
    assert pixels.max() > 200
    paths, hashes = data.examples["path"].tolist(), data.examples["sha256"].tolist()
    full = Chain(chain.operations)
    assert pixels_key(paths, chain, hashes) != pixels_key(paths, full, hashes)
    found = read_json(run.result.artifacts["ExampleValidator", "anomalies"].path / "anomalies.json")
    assert "unused_depth" not in {each["code"] for each in found["warnings"]}


def test_the_exported_model_answers_16_bit_files_as_it_was_trained(cells, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(flat))
    chain = Chain((Resize(16, 16),), 12)
    folder = export_saved_model(model, chain, ("all", "hem"), tmp_path / "1")
    paths = sorted(cells.rglob("*.png"))[:3] + sorted(cells.rglob("*.tif"))[:3]
    assert compare(model, chain, folder, paths)["passed"]
    expected = np.asarray(model(decode_pixels(paths, chain).pixels))
    np.testing.assert_allclose(
        predict(model, paths, chain=chain).iloc[:, 2:4].to_numpy(float), expected, atol=1e-6
    )
    assert (
        np.abs(expected - np.asarray(model(decode_pixels(paths, Chain((Resize(16, 16),))).pixels))).max()
        > 0.01
    )
    predictor = Predictor(folder)
    raw = predictor.signatures["serving_default"](
        image_bytes=tf.constant([path.read_bytes() for path in paths[:3]])
    )
    np.testing.assert_allclose(raw["probabilities"], expected[:3], atol=1e-6)
    bright = png(noise(3, 4096) + 1)
    answers = predictor.predict([paths[0].read_bytes(), bright], ["good.png", "bright.png"])
    assert answers.errors[0] == ""
    assert answers.errors[1].startswith(
        "bright.png must have 16-bit values of at most 4,095, as data.sixteen_bit is 12"
    )
    np.testing.assert_allclose(answers.probabilities[0], expected[0], atol=1e-6)
