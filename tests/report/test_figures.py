"""Figures: what is drawn, what is said of it, and that the bytes repeat."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image
from sample_report import CLASSES, MALIGNANT, MATRIX, make_blocks, make_curves, make_runs

from kerasall.evaluation.calibration import Reliability
from kerasall.evaluation.curves import BandedCurve
from kerasall.report.figures_comparison import draw_scores_by_epochs
from kerasall.report.figures_data import SubjectCount, draw_counts, draw_subject_accuracy
from kerasall.report.figures_scores import (
    draw_confusion_matrix,
    draw_fold_scores,
    draw_precision_recall,
    draw_reliability,
    draw_roc_curves,
    draw_selective_accuracy,
)
from kerasall.report.figures_style import (
    PALETTE,
    RIGHT,
    WRONG,
    figure_to_png,
    figure_to_svg,
    new_figure,
    plot_text,
    plot_texts,
)
from kerasall.report.format import Score
from kerasall.report.pages.run_training import TrainingRun, draw_training_curves


def _panel() -> tuple[Figure, object]:
    figure, axes = new_figure()
    return figure, axes


def _luminance(color: str) -> float:
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_confusion_matrix_shows_counts_and_row_percentages():
    _, axes = _panel()
    alt = draw_confusion_matrix(axes, MATRIX, CLASSES)
    texts = _texts(axes)
    assert texts[:2] == ["487", "96.6%"]
    assert len(texts) == 2 * MATRIX.size
    assert [label.get_text() for label in axes.get_xticklabels()] == list(CLASSES)
    assert "Benign: 487 of 504 right, most often taken for Early (13)." in alt


def test_confusion_matrix_outlines_exactly_the_malignant_cells_called_benign():
    _, axes = _panel()
    draw_confusion_matrix(axes, MATRIX, CLASSES, MALIGNANT)
    outlined = {(round(p.get_y() + 0.46), round(p.get_x() + 0.46)) for p in axes.patches}
    assert outlined == {(1, 0), (2, 0), (3, 0)}


def test_confusion_matrix_with_an_empty_class_has_no_nan():
    figure, axes = _panel()
    draw_confusion_matrix(axes, np.array([[3, 1], [0, 0]]), ("a", "b"))
    assert "0.0%" in _texts(axes)
    assert b"nan" not in figure_to_svg(figure).lower()


@pytest.mark.parametrize("share", range(0, 101, 4))
def test_text_on_matrix_cells_is_readable(share):
    _, axes = _panel()
    draw_confusion_matrix(axes, np.array([[100 - share, share], [2, 98]]), ("a", "b"))
    mesh = axes.collections[0]
    grounds = mesh.cmap(mesh.norm(np.ravel(mesh.get_array())))
    for text, ground in zip(axes.texts[::2], grounds, strict=True):
        light, dark = sorted((_luminance(text.get_color()), _luminance(to_hex(ground))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("color", [*PALETTE, RIGHT, WRONG])
def test_colors_have_a_contrast_of_at_least_4_5_on_white(color):
    assert 1.05 / (_luminance(color) + 0.05) >= 4.4


@pytest.mark.parametrize("draw", [draw_roc_curves, draw_precision_recall])
def test_curves_are_named_with_area_and_interval(draw):
    _, axes = _panel()
    curves = make_curves()
    alt = draw(axes, curves)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(labels) == len(curves)
    for curve, label in zip(curves, labels, strict=True):
        assert curve.label in label
        assert f"{curve.area:.3f} ({curve.area_low:.3f} to {curve.area_high:.3f})" in label
        assert f"{curve.area:.3f}" in alt


def test_reliability_leaves_out_empty_bins_and_sizes_dots_by_count():
    _, axes = _panel()
    bins = np.array([0.2, 0.5, 0.9]), np.array([0.1, 0, 0.95]), np.array([10, 0, 100])
    alt = draw_reliability(axes, Reliability(*bins, error=0.043, error_low=0, error_high=1, noise_floor=0))
    dots = axes.collections[-1]
    assert len(dots.get_offsets()) == 2
    assert dots.get_sizes()[1] > dots.get_sizes()[0]
    assert "4.3%" in axes.get_title("left") + axes.get_title()
    assert "90% sure, 95% right (100 images)" in alt


def test_selective_accuracy_reads_the_curve_at_round_shares():
    _, axes = _panel()
    referred = np.linspace(0, 0.15, 16)
    lines = (base + referred / 2 for base in (0.9, 0.88, 0.92))
    alt = draw_selective_accuracy(axes, BandedCurve("kept", referred, *lines))
    assert alt.endswith("0% referred: 90.0%; 5% referred: 92.5%; 10% referred: 95.0%.")


def test_fold_scores_show_every_fold_the_pooled_score_and_its_interval():
    _, axes = _panel()
    alt = draw_fold_scores(axes, ["fold 1", "fold 2"], [0.91, 0.97], Score("Accuracy", 0.94, 0.9, 0.96))
    assert _texts(axes) == ["91.0%", "97.0%"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "95% interval",
        "all folds: 94.0%",
        "one fold",
    ]
    assert "fold 2 97.0%" in alt


def test_subjects_are_drawn_worst_first_in_the_colour_of_their_class():
    _, axes = _panel()
    subjects = [
        SubjectCount("S1", "b", 9, 10),
        SubjectCount("S2", "a", 2, 10),
        SubjectCount("S3", "a", 5, 10),
    ]
    alt = draw_subject_accuracy(axes, subjects, ("a", "b"))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["S2", "S3", "S1"]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches[:3]] == [PALETTE[0], PALETTE[0], PALETTE[1]]
    assert "from 20.0% to 90.0%" in alt
    assert "S2 (a) 2 of 10 right" in alt


def test_many_subjects_become_dots_and_none_is_lost():
    _, axes = _panel()
    blocks = make_blocks()
    alt = draw_subject_accuracy(axes, blocks, CLASSES, "block")
    heights = sorted(float(c.get_offsets()[0, 1]) for c in axes.collections if len(c.get_offsets()))
    assert heights == pytest.approx(sorted(block.accuracy for block in blocks))
    assert "40 blocks" in alt


@pytest.mark.parametrize("subjects", [[], [SubjectCount("S", "a", 0, 0)]])
def test_no_subjects_and_empty_subjects_draw_without_failing(subjects):
    figure, axes = _panel()
    draw_subject_accuracy(axes, subjects, ("a",))
    assert figure_to_svg(figure)


@pytest.mark.parametrize("measure", ["loss", "accuracy"])
def test_training_curves_ring_the_kept_epoch(measure):
    _, axes = _panel()
    run = make_runs(1, 12, 0.5, seed=2)[0]
    alt = draw_training_curves(axes, [run], measure)
    rings = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    values = getattr(run, f"validation_{measure}")
    assert [(list(r.get_xdata()), list(r.get_ydata())) for r in rings] == [
        ([run.best_epoch], [values[run.best_epoch - 1]])
    ]
    assert f"kept epoch {run.best_epoch}" in alt


def test_training_curves_of_a_single_epoch_without_validation_show_a_mark():
    _, axes = _panel()
    draw_training_curves(axes, [TrainingRun("only", loss=[0.5])])
    assert axes.lines[0].get_marker() == "."


def test_scores_by_epochs_have_a_line_a_run_and_a_bar_where_there_is_an_interval():
    def score(value, low=None, high=None):
        return {"value": value, "low": low, "high": high}

    runs = {
        "vgg16 adam": {10: score(0.5, 0.4, 0.6), 40: score(0.9, 0.8, 0.95), 20: score(None)},
        "resnet50 adam": {10: score(0.6), 20: score(0.7), 40: score(0.8)},
    }
    axes = Figure().subplots()
    text = draw_scores_by_epochs(axes, runs, "Accuracy")
    assert text == (
        "Accuracy by number of epochs. vgg16 adam: 10 50.0%, 20 –, 40 90.0%; resnet50 adam: 10 60.0%, 20 70.0%, 40 80.0%."
    )
    first, second = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(first, [0.5, np.nan, 0.9])
    np.testing.assert_array_equal(second, [0.6, 0.7, 0.8])
    bars = [path.vertices[:, 1] for path in axes.collections[0].get_paths()]
    np.testing.assert_array_equal(bars[0], [0.4, 0.6])
    assert [label.get_text() for label in axes.get_legend().get_texts()] == list(runs)


def test_counts_stack_to_the_totals():
    _, axes = _panel()
    counts = np.array([[5, 2], [1, 9]])
    alt = draw_counts(axes, ("a", "b"), ("train", "test"), counts)
    ends = sorted(bar.get_x() + bar.get_width() for bar in axes.patches[2:])
    assert ends == [7, 10]
    assert alt == "Number of images. a: 7; b: 10."


def _sample_figure() -> Figure:
    figure, axes = _panel()
    draw_roc_curves(axes, make_curves())
    return figure


def test_svg_is_the_same_for_the_same_figure_and_holds_text_and_no_date():
    first, second = figure_to_svg(_sample_figure()), figure_to_svg(_sample_figure())
    assert first == second
    root = ElementTree.fromstring(first)
    words = " ".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "sensitivity" in words
    assert b"<dc:date>" not in first
    assert b"system-ui" in first
    assert len(first) < 100_000


def test_png_is_the_same_for_the_same_figure_and_carries_no_date():
    first, second = figure_to_png(_sample_figure()), figure_to_png(_sample_figure())
    assert first == second
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.format == "PNG"
        assert not {"Software", "Creation Time"} & set(picture.info)


NASTY = ("$\\frac$", "a_$b_{c$^", "_hidden", "病人", "<b>&amp;</b>", "\x1b[2K\nno errors", "x" * 90 + "1", "x" * 90 + "2",
         "\udcff%s{0}", "\\alpha\\")  # fmt: skip


def _drawn(figure) -> list[str]:
    """All texts of the figure as a browser reads them."""
    svg = ElementTree.fromstring(figure_to_svg(figure))
    assert figure_to_png(figure, 40).startswith(b"\x89PNG")
    return [
        " ".join("".join(each.itertext()).split()) for each in svg.iter("{http://www.w3.org/2000/svg}text")
    ]


def _draw_nasty(kind: str) -> Figure:
    count = len(NASTY)
    figure, axes = new_figure(height=6)
    shares = np.linspace(0, 1, 5)
    if kind == "confusion":
        draw_confusion_matrix(axes, np.eye(count, dtype=int) * 7, NASTY, NASTY[:2])
    elif kind == "curves":
        draw_roc_curves(
            axes, [BandedCurve(name, shares, shares, None, None, 0.5) for name in NASTY], bands=False
        )
    elif kind == "counts":
        draw_counts(axes, NASTY, NASTY, np.ones((count, count)))
    elif kind == "subjects":
        draw_subject_accuracy(axes, [SubjectCount(name, name, 1, 2) for name in NASTY], NASTY)
    elif kind == "folds":
        draw_fold_scores(axes, NASTY, [0.5] * count, Score("Accuracy", 0.5))
    else:
        draw_training_curves(axes, [TrainingRun(name, [1.0, 0.5], [1.0, 0.5]) for name in NASTY])
    return figure


@pytest.mark.parametrize("kind", ["confusion", "curves", "counts", "subjects", "folds", "training"])
def test_names_of_people_are_texts_and_no_formulas(kind):
    shown = [" ".join(text.split()) for text in plot_texts(NASTY)]
    assert len(set(shown)) == len(NASTY)
    texts = _drawn(_draw_nasty(kind))
    if kind == "curves":
        shown = [" ".join(plot_text(f"{name}: AUC 0.500", 72).split()) for name in NASTY]
    elif kind == "training":
        shown = [" ".join(plot_text(name).split()) for name in NASTY]
    assert set(shown) <= set(texts)


def test_a_matplotlibrc_changes_nothing(monkeypatch):
    before = figure_to_svg(_draw_nasty("counts"))
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        assert figure_to_svg(_draw_nasty("counts")) == before
