"""A model goes to its run's name; one of other classes never becomes a version of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasall.components import pusher as pusher_module
from kerasall.components.exporter import MODEL
from kerasall.components.pusher import pusher, still_pushed
from kerasall.data.statistics import SEEN
from kerasall.errors import ArtifactError, ModelError
from kerasall.files import read_json, write_json, write_text
from kerasall.serving.card import require_same_classes, write_manifest


def push(
    folder: Path, labels: list[str], malignant: list[str] | None = None, mark: str = "", name: str = "cells"
):
    """Pushes a model of these classes; ``mark`` tells one model from another."""
    made = folder / "artifacts" / f"{'-'.join([*labels, *(malignant or [])])}{mark}"
    write_text(made / "saved" / MODEL / "saved_model.pb", mark)
    write_text(made / "saved" / MODEL / "labels.txt", "".join(f"{label}\n" for label in labels))
    write_manifest(made / "saved" / MODEL)
    results = {"labels": labels, "malignant": labels[:1] if malignant is None else malignant}
    write_json(made / "evaluation" / "card.json", {"results": results})
    write_text(made / "evaluation" / SEEN, "")
    write_json(made / "blessing" / "blessing.json", {"blessed": True})
    write_json(made / "report" / "verdict.json", {"blessed": True, "criteria": []})
    write_text(made / "report" / "report.html", "")
    (made / "pushed").mkdir(exist_ok=True)
    inputs = {
        "saved_model": made / "saved",
        "evaluation": made / "evaluation",
        "blessing": made / "blessing",
    }
    done = pusher.function(
        **inputs, report=made / "report", name=name, force=False, destination=str(folder / "models"),
        pushed=made / "pushed",
    )  # fmt: skip
    assert read_json(made / "pushed" / "pushed.json")["path"] == done["path"]
    return Path(done["path"]).relative_to(folder / "models").as_posix()


def test_a_model_takes_the_name_and_the_next_number(tmp_path):
    assert push(tmp_path, ["all", "hem"]) == "cells/1"
    assert push(tmp_path, ["all", "hem"], mark="better") == "cells/2"
    assert push(tmp_path, ["all", "hem"], name="mine") == "mine/1"


def test_other_classes_get_a_name_of_their_own_and_keep_it(tmp_path, capsys):
    assert push(tmp_path, ["all", "hem"]) == "cells/1"
    assert push(tmp_path, ["benign", "early", "pre"]) == "cells-2/1"
    assert "must have the classes of version 1, ['all', 'hem']" in capsys.readouterr().err
    assert push(tmp_path, ["hem", "all"], ["all"]) == "cells-3/1", "another order reads one class for another"
    assert push(tmp_path, ["all", "hem"], ["hem"]) == "cells-4/1", "other malignant ones are missed"
    assert push(tmp_path, ["benign", "early", "pre"], mark="better") == "cells-2/2"
    assert push(tmp_path, ["benign", "early", "pre"]) == "cells-2/1", "pushed before: found again"
    assert push(tmp_path, ["all", "hem"], mark="better") == "cells/2"


def test_at_the_door_the_folder_is_asked(tmp_path):
    push(tmp_path, ["all", "hem"])
    models = tmp_path / "models"
    require_same_classes(models / "cells", ["all", "hem"])
    require_same_classes(models / "cells", ["all", "hem"], ["all"])
    require_same_classes(models / "none", ["a", "b"])
    with pytest.raises(ModelError, match=r"the classes of version 1, .*'b'\]: give another --name"):
        require_same_classes(models / "cells", ["a", "b"])
    with pytest.raises(ModelError, match=r"malignant classes of version 1, \['all'\], but has \['hem'\]"):
        require_same_classes(models / "cells", ["all", "hem"], ["hem"])


def test_what_cannot_be_told_is_not_joined(tmp_path):
    push(tmp_path, ["all", "hem"])
    write_text(tmp_path / "models" / "cells" / "1" / "card.json", "[]")
    assert push(tmp_path, ["all", "hem"], mark="next") == "cells-2/1"


def test_an_export_that_was_changed_is_not_pushed(tmp_path, monkeypatch):
    push(tmp_path, ["all", "hem"], mark="one")
    model = tmp_path / "artifacts" / "all-hemone" / "saved" / MODEL
    (tmp_path / "models" / "cells" / "1" / "card.json").unlink()  # so that it is pushed anew
    real = pusher_module.shutil.copytree

    def spoil(source: Path, copy: Path, **options: object) -> None:
        real(source, copy, **options)
        (copy / "saved_model.pb").write_text("onf")

    monkeypatch.setattr(pusher_module.shutil, "copytree", spoil)
    with pytest.raises(ArtifactError, match=rf"{model}/saved_model\.pb must have"):
        push(tmp_path, ["all", "hem"], mark="one")
    assert [path.name for path in (tmp_path / "models" / "cells").iterdir()] == ["1"]


def test_a_pushed_model_that_was_changed_with_its_manifest_is_pushed_anew(tmp_path, capsys):
    push(tmp_path, ["all", "hem"])
    outputs = {"pushed": tmp_path / "artifacts" / "all-hem" / "pushed"}
    assert still_pushed(outputs)
    pushed = tmp_path / "models" / "cells" / "1"
    write_text(pushed / "saved_model.pb", "another")
    assert not still_pushed(outputs)
    write_manifest(pushed)
    assert not still_pushed(outputs)
    assert push(tmp_path, ["all", "hem"]) == "cells/2"
    assert f"{pushed} is no longer what was pushed there" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "says"), [("labels.txt", "was changed"), ("card.json", "missing")])
def test_a_damaged_version_is_told_of_when_the_next_is_pushed(tmp_path, capsys, file, says):
    push(tmp_path, ["all", "hem"])
    damaged = tmp_path / "models" / "cells" / "1" / file
    damaged.unlink() if says == "missing" else damaged.write_text("all\nhem\n\n")
    assert push(tmp_path, ["all", "hem"]) == "cells/2"
    told = capsys.readouterr().err
    assert str(damaged) in told
    assert says in told
    assert "the next number is taken" in told
    push(tmp_path, ["all", "hem"], mark="other")
    assert "labels" not in capsys.readouterr().err, "of a version of another export nothing is asked"
