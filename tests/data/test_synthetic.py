"""Rendered cells: the same bytes each time, morphology that tells the class, colour and area that do not."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerasall.data.cell_drawing import KINDS, Morphology, Stain, draw_cell
from kerasall.data.synthetic import MARKER, SyntheticSettings, is_synthetic, read_synthetic, render_cells
from kerasall.errors import DataError, SettingsError

_SMALL = SyntheticSettings(subjects_per_class=3, images_per_subject=4, size=64)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _pixels(collection) -> np.ndarray:
    return np.stack(
        [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in collection.examples["path"]]
    )


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    settings = SyntheticSettings(subjects_per_class=12, images_per_subject=12, size=128, seed=3)
    return render_cells(tmp_path_factory.mktemp("cells") / "rendered", settings)


@pytest.mark.parametrize("kind", KINDS)
def test_same_settings_give_same_bytes_whatever_the_threads(kind, tmp_path):
    settings = SyntheticSettings(kind=kind, subjects_per_class=2, images_per_subject=3, size=64)
    render_cells(tmp_path / "one", settings, workers=1)
    render_cells(tmp_path / "four", settings, workers=4)
    assert _files(tmp_path / "one") == _files(tmp_path / "four")


def test_other_seeds_give_other_cells(tmp_path):
    one = _pixels(render_cells(tmp_path / "0", SyntheticSettings("cnmc", 2, 3, 64, seed=0)))
    two = _pixels(render_cells(tmp_path / "1", SyntheticSettings("cnmc", 2, 3, 64, seed=1)))
    assert len(one) == len(two) == 12
    assert np.all(np.abs(one.astype(int) - two).mean(axis=(1, 2, 3)) > 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_what_the_examples_say(kind, tmp_path):
    collection = render_cells(tmp_path / "cells", SyntheticSettings(kind, 2, 4, 96))
    assert collection.source == "synthetic"
    assert collection.subject_kind == "subject"
    assert collection.labels == tuple(KINDS[kind].morphologies)
    assert set(collection.malignant) < set(collection.labels)
    assert {p.relative_to(tmp_path / "cells").as_posix() for p in (tmp_path / "cells").glob("*/*")} == set(
        collection.examples["id"]
    )
    assert _pixels(collection).shape == (8 * len(collection.labels), 96, 96, 3)


def test_subjects_have_one_class_and_uneven_shares(cells):
    examples = cells.examples
    assert (examples.groupby("subject")["label"].nunique() == 1).all()
    assert examples["label"].value_counts().to_dict() == {"all": 144, "hem": 144}
    shares = examples["subject"].value_counts()
    assert len(shares) == 24
    assert shares.max() > 1.5 * shares.min()


def test_background_is_black_or_light(cells, tmp_path):
    cut_out = _pixels(cells)
    assert not cut_out[:, :8].any()
    assert (cut_out.max(axis=(1, 2, 3)) > 60).all()
    smear = _pixels(render_cells(tmp_path / "smear", SyntheticSettings("aria", 1, 3, 112)))
    assert (np.median(smear, axis=(1, 2)) > 150).all()


def _area_and_colour(pixels: np.ndarray) -> np.ndarray:
    covered = pixels.max(axis=3) > 10
    colour = [image[mask].mean(axis=0) for image, mask in zip(pixels, covered, strict=True)]
    return np.c_[covered.sum(axis=(1, 2)), colour]


def _unseen_accuracy(features: np.ndarray, collection) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    labels, subjects = collection.examples["label"], collection.examples["subject"]
    return cross_val_score(model, features, labels, groups=subjects, cv=GroupKFold(6)).mean()


def test_area_and_colour_do_not_tell_the_class_but_texture_does(cells):
    pixels = _pixels(cells)
    area_and_colour = _area_and_colour(pixels)
    squares = np.c_[area_and_colour, area_and_colour**2]
    spread = [[i[i.max(axis=2) > 10].std(), np.percentile(i[i.max(axis=2) > 10], 10)] for i in pixels]
    assert _unseen_accuracy(area_and_colour, cells) < 0.7
    assert _unseen_accuracy(squares, cells) < 0.7
    assert _unseen_accuracy(np.c_[area_and_colour, spread], cells) > 0.9


@pytest.mark.parametrize("label", ["all", "hem"])
@pytest.mark.parametrize("seed", range(5))
def test_a_cell_has_the_mean_colour_and_area_its_stain_asks_for(label, seed):
    stain = Stain(hue=0.8, saturation=0.6, value=0.3, contrast=1.5, diameter=0.5, blur=0.006, noise=1.0)
    rng = np.random.default_rng(seed)
    morphology: Morphology = KINDS["cnmc"].morphologies[label]
    traits = morphology.between(dict.fromkeys(vars(morphology), 0.5))
    colour, coverage = draw_cell(rng, traits, stain, side=200)
    mean = (colour * coverage[..., None]).sum(axis=(0, 1)) / coverage.sum()
    np.testing.assert_allclose(mean, stain.mean_colour(), rtol=1e-4)
    np.testing.assert_allclose(coverage.sum(), np.pi / 4 * 100**2, rtol=0.02)
    assert not np.r_[coverage[0], coverage[-1], coverage[:, 0], coverage[:, -1]].any()


def test_rendered_folder_is_reused_and_read_back(tmp_path):
    first = render_cells(tmp_path / "cells", _SMALL)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*")}
    for again in (render_cells(tmp_path / "cells", _SMALL), read_synthetic(tmp_path / "cells")):
        assert again.examples.equals(first.examples)
        assert again.notes == first.notes
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*")} == before
    assert is_synthetic(tmp_path / "cells")
    assert not is_synthetic(tmp_path)


def test_folder_with_anything_else_is_refused_and_left_alone(tmp_path):
    render_cells(tmp_path / "cells", _SMALL)
    with pytest.raises(DataError, match="same settings"):
        render_cells(tmp_path / "cells", SyntheticSettings(seed=9))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        render_cells(tmp_path, _SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    next((tmp_path / "cells" / "all").iterdir()).unlink()
    with pytest.raises(DataError, match="1 are missing"):
        render_cells(tmp_path / "cells", _SMALL)


def test_shuffled_labels_keep_cells_and_counts_but_not_meaning(tmp_path):
    plain = render_cells(tmp_path / "plain", SyntheticSettings("cnmc", 4, 12, 48))
    shuffled = render_cells(tmp_path / "shuffled", SyntheticSettings("cnmc", 4, 12, 48, shuffle_labels=True))
    by_name = [
        {
            Path(i).name: (Path(p).read_bytes(), label)
            for i, p, label in zip(e["id"], e["path"], e["label"], strict=True)
        }
        for e in (plain.examples, shuffled.examples)
    ]
    assert by_name[0].keys() == by_name[1].keys()
    assert all(by_name[0][name][0] == by_name[1][name][0] for name in by_name[0])
    kept = np.mean([by_name[0][name][1] == by_name[1][name][1] for name in by_name[0]])
    assert 0.3 < kept < 0.7
    assert (
        plain.examples["label"].value_counts().to_dict()
        == shuffled.examples["label"].value_counts().to_dict()
    )
    assert (shuffled.examples.groupby("subject")["label"].nunique() == 2).all()
    assert any("permuted" in note for note in shuffled.notes)
    assert not any("permuted" in note for note in plain.notes)


def test_planted_faults_are_there(tmp_path):
    settings = SyntheticSettings("cnmc", 3, 6, 64, exact_copies=2, near_copies=2, truncated=1)
    examples = render_cells(tmp_path / "cells", settings).examples
    contents = dict(zip(examples["id"], (Path(p).read_bytes() for p in examples["path"]), strict=True))
    assert len(contents) == 2 * 3 * 6 + 4
    groups = [[i for i, c in contents.items() if c == content] for content in set(contents.values())]
    copied = [sorted(group) for group in groups if len(group) > 1]
    assert len(copied) == 2
    subject_of = dict(zip(examples["id"], examples["subject"], strict=True))
    assert all(len({subject_of[i] for i in group}) == 2 for group in copied)
    assert sum(_is_truncated(content) for content in contents.values()) == 1


def _is_truncated(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        return True
    return False


def test_near_copies_show_the_same_cell_turned_and_mirrored(tmp_path):
    collection = render_cells(tmp_path / "cells", SyntheticSettings("cnmc", 3, 6, 64, near_copies=3))
    pixels = _pixels(collection).astype(float)
    added = collection.examples["id"].str.contains("_1000").to_numpy()
    assert added.sum() == 3
    for copy in pixels[added]:
        turned = np.rot90(copy, -1)[:, ::-1] / 1.04
        distance = np.abs(pixels[~added] - turned).mean(axis=(1, 2, 3))
        assert np.sort(distance)[0] < 0.5
        assert np.sort(distance)[1] > 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "blood"},
        {"subjects_per_class": 0},
        {"images_per_subject": 2.5},
        {"size": 8},
        {"seed": -1},
        {"truncated": 10_000},
        {"subjects_per_class": 1, "exact_copies": 1},
    ],
)
def test_wrong_settings_are_refused_by_name(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SyntheticSettings(**wrong)


def test_unknown_settings_are_refused(tmp_path):
    (tmp_path / MARKER).write_text('{"settings": {"colour": 1}}')
    with pytest.raises(SettingsError, match="colour"):
        read_synthetic(tmp_path)
    (tmp_path / MARKER).write_text("{}")
    with pytest.raises(DataError, match="holds none"):
        read_synthetic(tmp_path)
