"""``kerasall segment``: bounds from masks, from Otsu's threshold and from a person; the page, the YAML, what is refused."""

from __future__ import annotations

import json
import re

import command_line
import cv2
import numpy as np
import pytest
from page_tables import read_tables

from kerasall.errors import DataError, SettingsError
from kerasall.preprocessing.operations import Chain, check_steps
from kerasall.settings.yaml_text import read_yaml

HUES = {"benign": 130, "blast": 150}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A folder with four subjects a class: discs of a hue of its own on a pale ground, and their masks beside it.

    The masks of class ``odd`` keep a random half of every disc: pixels of one colour, kept and not kept.
    """
    folder, random = tmp_path_factory.mktemp("segment"), np.random.default_rng(5)
    for label, hue in (*HUES.items(), ("odd", 130)):
        for number in range(8):
            colour = np.full((40, 48, 3), (20, 12, 240), np.uint8)
            cv2.circle(colour, (14 + number, 20), 7 if label == "benign" else 12, (hue, 150, 180), -1)
            disc = colour[..., 0] == hue
            colour[..., 1:] += random.integers(0, 8, (40, 48, 2), dtype=np.uint8)
            kept = disc & (random.random((40, 48)) < 0.5) if label == "odd" else disc
            name = f"{label}/P{label}{number // 2}/{number}.png"
            for root, pixels in (
                ("images", cv2.cvtColor(colour, cv2.COLOR_HSV2BGR)),
                ("masks", np.where(kept, 255, 0).astype(np.uint8)),
            ):
                (folder / root / name).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / root / name), pixels)
    return folder


def run(folder, *words, images="images"):
    return command_line.invoke("segment", folder / images, *words)


@pytest.fixture(scope="module")
def fitted(cells):
    out = cells / "out"
    result = run(cells, "--masks", cells / "masks", "--out", out, "--json", "--opening", "1", "--most", "1")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), out


def test_bounds_fitted_to_half_of_the_subjects_are_held_against_the_others(fitted):
    found, _ = fitted
    assert found["fitted"] == {"images": 12, "groups": 6}
    assert found["scored"] == {"images": 12, "groups": 6, "held_out": True}
    lower, upper = found["operation"]["lower"], found["operation"]["upper"]
    assert lower[0] <= 130
    assert upper[0] >= 150
    assert lower[1] > 20 or upper[2] < 240  # the ground is left out, by its saturation or its brightness
    by_label = {each["label"]: each for each in found["classes"]}
    for label in HUES:
        assert by_label[label]["overlap"]["value"] > 0.95
        assert by_label[label]["limit"] > 0.99
        assert by_label[label]["overlap"]["low"] < by_label[label]["overlap"]["value"]
        assert by_label[label]["overlap"]["groups"] == 2


def test_masks_that_keep_half_of_one_colour_show_the_limit_of_any_bounds(fitted):
    found, out = fitted
    odd = next(each for each in found["classes"] if each["label"] == "odd")
    assert (
        odd["overlap"]["value"] <= odd["limit"] < 0.75
    )  # the colours' fine grain is known to the limit alone
    text = (out / "segmentation.html").read_text(encoding="utf-8")
    assert "No bounds reach an IoU of 0.80 on odd" in text
    assert "on benign" not in text


def test_how_much_is_kept_tells_a_class_of_small_cells(fitted):
    found, out = fitted
    tells = {each["label"]: each["tells"] for each in found["classes"]}
    assert tells["benign"] == 1
    assert "How much is kept tells the class" in (out / "segmentation.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_shows_four_pictures_an_image(fitted):
    found, out = fitted
    text = (out / "segmentation.html").read_text(encoding="utf-8")
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    assert "<script" not in text
    assert text.count("<img") == 3 * 4
    (table,) = [rows for name, rows in read_tables(text).items() if "bounds" in name]
    shown = {row[0].text: row[1].text for row in table}
    assert {label: float(value) for label, value in shown.items() if label in HUES} == {
        each["label"]: round(each["overlap"]["value"], 3)
        for each in found["classes"]
        if each["label"] in HUES
    }


def test_the_written_operation_is_one_of_a_config(fitted):
    found, out = fitted
    steps = read_yaml(out / "segmentation.yaml")["preprocess"]
    assert check_steps(steps) == (224, 224)
    (own, _) = Chain.from_json(steps).to_json()
    assert own == found["operation"]
    assert own["opening"] == 1


def test_bounds_that_a_person_sets_are_taken_and_nothing_is_fitted(cells):
    words = ("--hue", "140:160", "--saturation", "100:255", "--value", "0:255")
    result = run(cells, "--masks", cells / "masks", *words, "--out", cells / "own", "--json")
    found = json.loads(result.stdout)
    assert (found["operation"]["lower"], found["operation"]["upper"]) == ([140, 100, 0], [160, 255, 255])
    assert found["fitted"]["images"] == 0
    assert found["scored"] == {"images": 24, "groups": 12, "held_out": True}
    overlaps = {each["label"]: each["overlap"]["value"] for each in found["classes"]}
    assert overlaps["blast"] > 0.99
    assert overlaps["benign"] == 0


def test_one_channel_may_be_set_and_the_others_fitted(cells):
    result = run(cells, "--masks", cells / "masks", "--hue", "125:155", "--out", cells / "hue")
    assert "hue 125 to 155 (set), saturation" in result.stdout
    assert "The bounds were fitted to the masks of 12 images of 6 subjects." in result.stdout


def test_the_halves_may_be_exchanged(cells):
    plain = run(cells, "--masks", cells / "masks", "--most", "8", "--out", cells / "one")
    other = run(cells, "--masks", cells / "masks", "--most", "8", "--out", cells / "two", "--swap")
    assert plain.exit_code == other.exit_code == 0
    shown = [
        set(re.findall(r"Original of (\S+)", (cells / name / "segmentation.html").read_text()))
        for name in ("one", "two")
    ]
    assert len(shown[0]) == len(shown[1]) == 12
    assert not shown[0] & shown[1]


def test_without_masks_otsus_threshold_decides_and_is_called_no_truth(cells):
    result = run(cells, "--out", cells / "otsu", "--json")
    found = json.loads(result.stdout)
    assert found["masks"] == "Otsu's mask"
    assert not found["scored"]["held_out"]
    assert all(each["overlap"]["value"] > 0.9 for each in found["classes"])
    text = (cells / "otsu" / "segmentation.html").read_text(encoding="utf-8")
    assert "it says how well the bounds stand in for the threshold" in text


def test_what_cannot_be_is_refused_with_the_cure(cells, tmp_path):
    with pytest.raises(SettingsError, match="--hue must be LOW:HIGH, whole numbers from 0 to 179"):
        run(cells, "--hue", "0:200")
    with pytest.raises(SettingsError, match="the lower bound first, but is '90:20': swap them"):
        run(cells, "--saturation", "90:20")
    with pytest.raises(SettingsError, match="give --masks"):
        run(cells, "--swap")
    with pytest.raises(DataError, match="hue 10 to 20 hold none: widen them"):
        run(cells, "--masks", cells / "masks", "--hue", "10:20")
    with pytest.raises(DataError, match="must hold a mask of every image"):
        run(cells, "--masks", tmp_path)
    wrong = tmp_path / "masks" / "benign" / "Pbenign0" / "0.png"
    wrong.parent.mkdir(parents=True)
    cv2.imwrite(str(wrong), np.zeros((3, 4), np.uint8))
    with pytest.raises(DataError, match="48 x 40 pixels, but has 4 x 3"):
        run(cells, "--masks", tmp_path / "masks")


def test_an_image_is_never_its_own_mask(cells, tmp_path):
    """Else the bounds of anything would agree with it: by a wrong folder, or by names that lead out of the right one."""
    with pytest.raises(DataError, match="is the image itself: give the folder of the masks"):
        run(cells, "--masks", cells / "images")
    table = tmp_path / "below" / "list.csv"
    table.parent.mkdir()
    (tmp_path / "images").symlink_to(cells / "images")
    (tmp_path / "masks").symlink_to(cells / "masks")
    files = sorted((cells / "images").glob("b*/*/*.png"))
    names = [f"../images/{file.relative_to(cells / 'images')}" for file in files]
    rows = [f"{name},{file.parts[-3]},{file.parts[-2]}" for name, file in zip(names, files, strict=True)]
    table.write_text("\n".join(["path,label,subject", *rows, ""]))
    with pytest.raises(DataError, match="leads out of it: list the images in a table that lies above them"):
        run(tmp_path, "--masks", tmp_path / "masks", images="below/list.csv")


def test_grey_images_have_no_saturation_to_go_by(tmp_path):
    for number in range(4):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((30, 30), 240, np.uint8)
        image[10:20, 10:20] = 60
        cv2.imwrite(str(path), image)
    with pytest.raises(
        DataError, match=r"Otsu's threshold of saturation made them; name another channel \(--otsu\)"
    ):
        run(tmp_path)
    assert run(tmp_path, "--otsu", "value", "--out", tmp_path / "out").exit_code == 0


def test_halves_that_may_share_a_patient_are_said_to(tmp_path):
    for folder in ("images", "masks"):
        for number in range(4):
            path = tmp_path / folder / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((20, 20, 3), (180, 60, 120), np.uint8))
    words = ("--masks", tmp_path / "masks", "--out", tmp_path / "out")
    told = "No patient is known of them: images of one may stand in both halves."
    assert told in run(tmp_path, *words).stdout
    stated = ("--hue", "0:179", "--saturation", "0:255", "--value", "0:255")
    assert told not in run(tmp_path, *words, *stated).stdout


def test_bounds_that_are_all_stated_need_no_second_subject(tmp_path):
    for folder in ("images", "masks"):
        path = tmp_path / folder / "blast" / "1.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((20, 20, 3), (180, 60, 120), np.uint8))
    words = ("--masks", tmp_path / "masks", "--out", tmp_path / "out", "--json")
    with pytest.raises(DataError, match="blast has one group: state all three bounds"):
        run(tmp_path, *words)
    found = json.loads(
        run(tmp_path, *words, "--hue", "0:179", "--saturation", "0:255", "--value", "0:255").stdout
    )
    assert found["classes"][0]["overlap"]["value"] == 1
