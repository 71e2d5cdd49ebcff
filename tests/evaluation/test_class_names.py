"""What a class may be called: no name that a column, a file or a reader takes for something else."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml

from kerasall.data.examples import Collection, make_examples
from kerasall.errors import DataError
from kerasall.evaluation.class_names import LONGEST, describe_faults, describe_renaming, name_columns
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.evaluation.review import ReviewItem, ReviewQueue
from kerasall.report.pages.review import to_table
from kerasall.serving.prediction_tables import list_columns

GOOD = (
    ("all", "hem"), ("$\\frac$", "=1+1", "<img src=x>"), ("+", "-"), ("0", "1"), ("id", "subject", "fold", "group"),
    ("B/T", "..", ".x", "CON"), ("CD10+, CD19+", 'the "other"'), ("_x", "p_x", "votes_x", "x"), ("病人", "naïve", "لوکمی\u200cحاد"),
    ("decision", "probability", "rank", "class"), ("x" * LONGEST, "y"), ("calibrated", "calibrated_"), ("nan", "None", "true"),
    ("__proto__", "constructor"), ("recall:all", "all"), ("%s", "{0}", "{{x}}"),
)  # fmt: skip
BAD = (
    (("path", "all"), "another column"), (("label", "all"), "another column"), (("error", "all"), "another column"),
    (("refer", "no_refer"), "another column"), (("prediction_set", "x"), "another column"),
    (("domain_distance", "x"), "another column"), (("refer_reason", "x"), "another column"),
    (("x", "calibrated_x"), "another column"), (("X", "calibrated_x"), "another column"), (("Error", "x"), "another column"),
    (("PATH", "x"), "another column"), (("File path", "x"), "another column"), (("Pfad", "x"), "another column"),
    (("exclude", "x"), "leave an image out"), (("Exclude", "x"), "leave an image out"), (("a|b", "c"), "holds |"),
    (("", "x"), "is empty"), ((" ", "x"), "is empty"), ((" a", "x"), "begins or ends"), (("a ", "x"), "begins or ends"),
    (("a\nb", "x"), "U+000A"), (("a\tb", "x"), "U+0009"), (("\x1b[2K", "x"), "U+001B"), (("a\u2028b", "x"), "U+2028"),
    (("a\x85b", "x"), "U+0085"), (("\u202eb", "x"), "U+202E"), (("a\u200b", "a"), "U+200B"),
    (("ALL", "all"), "alone"), (("é", "e\u0301"), "alone"), (("a b", "a  b"), "alone"), (("ﬁne", "fine"), "alone"),
    (("x" * (LONGEST + 1), "y"), "101 characters"), (("a", "a"), "twice"),
)  # fmt: skip


class Served:
    """What a table asks of a model: its classes, and that it says everything."""

    output_shapes = dict.fromkeys(
        ("calibrated_probabilities", "prediction_set", "domain_distance", "refer", "refer_reason"), ()
    )

    def __init__(self, labels):
        self.labels = labels


@pytest.mark.parametrize("labels", GOOD)
def test_every_table_has_a_column_for_every_class(labels, tmp_path):
    assert describe_faults(labels) == ""
    assert name_columns(labels) == labels
    assert len(list_columns(Served(labels))) == 3 + 2 * len(labels) + 4
    shares = [1 / len(labels)] * len(labels)
    record = Predictions(["a"], ["s"], ["g"], [len(labels) - 1], [shares], labels)
    write_predictions(record, tmp_path / "p.csv")
    found = read_predictions(tmp_path / "p.csv")
    assert (found.classes, found.labels.tolist()) == (labels, [len(labels) - 1])
    queue = ReviewQueue([ReviewItem(1, "a", "a", labels[0], "", "", "")], labels, 1, None, {}, 0, 0, {})
    assert to_table(queue).columns.is_unique
    assert pd.Index(map(str.casefold, to_table(queue).columns)).is_unique


@pytest.mark.parametrize(("labels", "fault"), BAD)
def test_a_name_that_stands_for_something_else_is_refused_with_the_cure(labels, fault, tmp_path):
    examples = make_examples([{"id": str(n), "path": "/x", "label": label} for n, label in enumerate(labels)])
    with pytest.raises(DataError, match="must give names of classes") as told:
        Collection("folder", tmp_path, examples, labels)
    assert fault in str(told.value)
    assert str(told.value).isprintable()
    new = yaml.safe_load(describe_renaming(labels))
    if "twice" not in fault:
        assert [old for (old,) in new.values()] == list(labels)
        assert describe_faults(list(new)) == ""


def test_half_a_character_is_refused():
    with pytest.raises(DataError, match=r'"\\ud800" holds half a character'):
        make_examples([{"id": "a", "path": "/a", "label": "\ud800"}])
    assert "U+D800" in describe_faults(["\ud800", "x"])


def test_a_class_of_an_old_model_gives_way_to_the_column():
    labels = ("refer", "x", "calibrated_x", "class_refer")
    columns = list(list_columns(Served(labels)))
    assert columns[2:6] == ["class_class_refer", "x", "class_calibrated_x", "class_refer"]
    assert len(columns) == len(set(columns)) == 3 + 8 + 4
    assert json.dumps(columns)
