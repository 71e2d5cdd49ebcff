"""Browsing a project's trials: table, CSV, page, TensorBoard, and the command that finds them in a run."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import keras_tuner
import pandas as pd
import pytest
from experiment import FACTORS, OBJECTIVE, make_oracle, respond
from pandas.testing import assert_frame_equal
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.util.tensor_util import make_ndarray
from typer.testing import CliRunner

from kerasall.cli.app import app
from kerasall.csv_tables import write_csv
from kerasall.errors import ArtifactError, SettingsError
from kerasall.files import write_json
from kerasall.pipeline.artifacts import ArtifactStore
from kerasall.pipeline.metadata import MetadataStore
from kerasall.pipeline.runner import RunPlaces
from kerasall.report.figures_style import new_figure
from kerasall.report.pages.trials import draw_learning_curves, draw_parallel_coordinates, render_trial_page
from kerasall.report.taguchi import describe_trials, list_columns
from kerasall.studies.finished_run import choose_out, find_trials
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.trial_events import (
    EPOCHS,
    TrialListing,
    list_trials,
    sort_trials,
    write_events,
)
from kerasall.taguchi.tuner import TaguchiTuner

HOSTILE = "</script><script>alert('x')</script>&<b>"
TROUBLED = "0012"
"""The trial that fails: row 4, repeat 2."""


class Trained(keras_tuner.Tuner):
    """A plain tuner whose trials keep epochs, as ``TaguchiTuner`` has it, and one of which fails."""

    def run_trial(self, trial, *arguments, **options):
        values = trial.hyperparameters.values
        if (values["taguchi/row"], values["taguchi/repeat"]) == (4, 2):
            raise keras_tuner.errors.FailedTrialError(HOSTILE)
        score = respond(values)
        rows = [{"loss": 1 / (i + 1), "val_loss": 1.5 / (i + 1)} for i in range(values["epochs"])]
        Path(self.get_trial_dir(trial.trial_id), "epochs.json").write_text(json.dumps(rows))
        return {"score": score, "loss": 1 - score, "balanced_accuracy": score / 2}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """L9 twice and two confirmation runs, with dummy levels; trial 0012 failed."""
    folder = tmp_path_factory.mktemp("project")
    oracle = make_oracle(confirmations=2, max_retries_per_trial=0)
    Trained(oracle=oracle, directory=str(folder), project_name="p").search(verbose=0)
    return folder / "p"


@pytest.fixture(scope="module")
def listing(project) -> TrialListing:
    return list_trials(project)


@pytest.fixture(scope="module")
def page(listing) -> str:
    return render_trial_page(listing, "p")


@pytest.fixture
def begun(tmp_path) -> TrialListing:
    """An experiment of which three trials ended and one runs; names and levels are hostile."""
    oracle = TaguchiOracle(OBJECTIVE, {HOSTILE: ["<i>", "b"], "rate": [1e-5, 2e-5]}, repeats=2)
    oracle.verbose = 0
    oracle._set_project_dir(str(tmp_path), "p")
    for score in (0.1, 0.3, 0.2):
        trial = oracle.create_trial("tuner0")
        oracle.update_trial(trial.trial_id, {"score": score})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    oracle.create_trial("tuner0")
    return list_trials(tmp_path / "p")


# --- table -------------------------------------------------------------------------------------------


def test_the_csv_is_the_table_of_raw_responses(project, listing, tmp_path):
    write_csv(listing.table, tmp_path / "trials.csv")
    read = pd.read_csv(tmp_path / "trials.csv", dtype={"trial": str})
    expected = TaguchiOracle.from_project(project.parent, "p").results()
    assert_frame_equal(read.astype({"row": str}), expected.astype({"row": str}), check_dtype=False)
    assert [p.name for p in tmp_path.iterdir()] == ["trials.csv"]


def test_reading_changes_nothing(project):
    before = {p: p.stat().st_mtime_ns for p in project.rglob("*")}
    list_trials(project)
    assert {p: p.stat().st_mtime_ns for p in project.rglob("*")} == before


def test_the_listing_counts_marks_the_best_and_analyses(listing):
    assert listing.statuses == {"COMPLETED": 19, "FAILED": 1}
    assert listing.best == listing.table.loc[listing.table["objective"].idxmax(), "trial"]
    assert listing.analysis is not None
    best = listing.design.settings_of(listing.analysis.best_levels)
    assert (best["optimizer"], best["learning_rate"]) == ("adam", 1e-4)
    assert set(listing.epochs) == set(listing.table["trial"]) - {TROUBLED}
    assert listing.metrics == ["balanced_accuracy", "loss"]


def test_json_has_every_trial_and_null_for_what_is_absent(listing):
    found = json.loads(json.dumps(listing.to_json(), allow_nan=False))
    assert [trial["trial"] for trial in found["trials"]] == list(listing.table["trial"])
    failed = found["trials"][int(TROUBLED)]
    assert (failed["status"], failed["objective"], failed["optimizer level"]) == ("FAILED", None, 2)
    assert found["best"] == listing.best
    assert found["analysis"]["best_levels"] == listing.analysis.best_levels


@pytest.mark.parametrize("width", [44, 60, 80, 120, None])
def test_text_fits_the_terminal_and_tells_twins_apart(width, listing):
    lines = describe_trials(listing, width=width).splitlines()
    rows = [line for line in lines if re.match(r"[ *] +00\d\d ", line)]
    assert len(rows) == len(listing.table)
    assert width is None or max(map(len, rows)) <= width
    assert sum(bool(re.match(r"\* +0", line)) for line in lines) == 1
    if width is None or width >= 80:
        assert ("(1)" in rows[0], "(3)" in rows[6]) == (True, True)  # adam both
        assert ("Too wide" in "\n".join(lines)) == (width is not None)
        assert all(
            f"{score:.4f}" in row
            for row, score in zip(rows, listing.table["objective"], strict=True)
            if score == score
        )


def test_what_gives_way_in_a_narrow_terminal_is_named(listing):
    text = describe_trials(listing, width=44)
    told = re.search(r"Too wide for this terminal: (.*); trials.csv", text)
    assert told is not None
    header = text.splitlines()[0]
    missing = told.group(1).split(", ")
    assert {"seconds", "loss", "balanced_accuracy"} <= set(missing)
    assert set(missing) <= {column.name for column in list_columns(listing)}
    assert not set(missing) & set(header.split())


def test_small_and_large_numbers_keep_their_digits(tmp_path):
    oracle = TaguchiOracle(OBJECTIVE, {"a": [1, 2]}, repeats=1)
    oracle.verbose = 0
    oracle._set_project_dir(str(tmp_path), "p")
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"score": 1.25e-6, "cost": 12345.6})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    text = describe_trials(list_trials(tmp_path / "p"))
    assert "1.25e-06" in text
    assert "12346" in text


@pytest.mark.parametrize(("direction", "first"), [("max", "idxmax"), ("min", "idxmin")])
def test_sorting_by_the_objective_puts_the_best_first(direction, first, listing):
    found = sort_trials(listing.table, "objective", direction)
    assert found.index[0] == getattr(listing.table["objective"], first)()
    turned = sort_trials(listing.table, "-objective", direction)
    assert found["trial"].iloc[-1] == turned["trial"].iloc[-1] == TROUBLED  # has none, so stands last
    assert list(turned["objective"].dropna()) == list(found["objective"].dropna())[::-1]


def test_sorting_by_place_and_factor(listing):
    rows = list(sort_trials(listing.table, "row", "max")["row"])
    assert rows == [row for row in range(1, 10) for _ in range(2)] + ["confirmation"] * 2
    found = sort_trials(listing.table, "optimizer", "max")
    assert list(found["optimizer level"]) == sorted(listing.table["optimizer level"])
    first = found[found["optimizer level"] == 1]["trial"]
    assert list(first) == sorted(first)
    with pytest.raises(SettingsError, match="learning_rate"):
        sort_trials(listing.table, "rate", "max")


def test_an_experiment_that_goes_on_says_what_is_missing(begun):
    assert begun.statuses == {"COMPLETED": 3, "RUNNING": 1, "WAITING": 4}
    text = describe_trials(begun, width=80)
    assert "3 completed, 1 running, 4 waiting" in text
    assert "No analysis yet: every row must have a finished repeat, but there is none in row 4" in text


def test_a_folder_without_an_experiment_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"oracle\.json"):
        list_trials(tmp_path)


# --- page --------------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """Collects a page's elements."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_shows_every_trial_and_every_completed_one_as_a_line(listing, page):
    page = Parsed(page)
    rows = [row for row in page.all("tr") if "data-trial" in row]
    assert [row["data-trial"] for row in rows] == list(listing.table["trial"])
    assert [row["data-trial"] for row in rows if row.get("class") == "best"] == [listing.best]
    lines = [group for group in page.all("g") if "data-trial" in group]
    completed = set(listing.table["trial"]) - {TROUBLED}
    assert {line["data-trial"] for line in lines} == completed
    assert len(lines) == len(completed) * (1 + len(("loss", "val_loss")))
    assert {line["data-trial"] for line in lines if line["class"] == "trial best"} == {listing.best}


def test_the_page_asks_nothing_of_the_network(page):
    text, page = page, Parsed(page)
    assert not page.all("link")[1:]
    assert len(page.all("script")) == 1
    assert "src" not in page.all("script")[0]
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert not re.search(r"(?:https?:)?//(?!www\.w3\.org)\w", re.sub(r"data:[^\"']*", "", text))


def test_the_page_is_accessible(page):
    page = Parsed(page)
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    assert all(image.get("alt") for image in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a for _, a in page.elements if "aria-labelledby" in a]
    assert all(set((a["aria-labelledby"] or "").split()) <= set(ids) for a in named)
    assert all(drawing.get("role") == "img" and "aria-labelledby" in drawing for drawing in page.all("svg"))
    assert all(
        area.get("tabindex") == "0" for area in page.all("div") if "scroll" in (area.get("class") or "")
    )
    assert [link["href"] for link in page.all("a") if (link["href"] or "")[1:] not in ids] == []


def test_names_and_messages_are_escaped(listing, begun):
    for found in (listing, begun):
        text = render_trial_page(found, HOSTILE)
        assert HOSTILE not in text
        assert "<i>" not in text
        assert len(Parsed(text).all("script")) == 1
    assert "alert(&#39;x&#39;)" in text


def test_a_page_of_an_unfinished_experiment(begun):
    text = render_trial_page(begun, "p")
    assert "No analysis yet" in text
    assert [g["data-trial"] for g in Parsed(text).all("g") if "data-trial" in g] == ["0000", "0002", "0001"]


def drawn_trials(axes) -> dict:
    """Trial -> points of its line, in the order in which the lines are drawn."""
    lines = [line for line in axes.lines if line.get_gid()]
    return {line.get_gid(): line.get_xydata() for line in sorted(lines, key=lambda line: line.get_zorder())}


def test_lines_pass_through_their_levels_and_end_at_their_response(listing):
    axes = new_figure()[1]
    text = draw_parallel_coordinates(axes, listing)
    assert [label.get_text() for label in axes.get_xticklabels()] == [*FACTORS, "score"]
    assert [label.get_text() for label in axes.texts[:3]] == ["adam (1)", "sgdm", "adam (3)"]
    table, lines, (low, high) = listing.table.set_index("trial"), drawn_trials(axes), axes.get_ylim()
    for x, (name, values) in enumerate(FACTORS.items()):
        shares = {trial: (points[x, 1] - low) / (high - low) for trial, points in lines.items()}
        levels = {trial: int(share * len(values)) + 1 for trial, share in shares.items()}
        assert levels == table.loc[list(lines), f"{name} level"].to_dict()
        inside = [share * len(values) % 1 for share in shares.values()]
        assert 0.15 < min(inside) < max(inside) < 0.85  # lines of two levels stay apart
        assert all(points[x, 0] == x for points in lines.values())
    assert {trial: points[-1, 1] for trial, points in lines.items()} == table["objective"].dropna().to_dict()
    assert list(lines)[-1] == listing.best
    assert f"best at optimizer = {table.loc[listing.best, 'optimizer']}" in text


def test_curves_hold_every_epoch(listing, page):
    titles = re.findall('<div class="half"><h3>([^<]*)', page)
    assert titles == ["val_loss", "loss (training)"]
    epochs = listing.table.set_index("trial")["epochs"]
    axes = new_figure()[1]
    text = draw_learning_curves(axes, listing, "val_loss")
    lines = drawn_trials(axes)
    assert {trial: len(points) for trial, points in lines.items()} == epochs.drop(TROUBLED).to_dict()
    assert lines["0000"].tolist() == [[n, 1.5 / n] for n in range(1, 9)]
    assert text == "val_loss of 19 trials over up to 12 epochs; last values from 0.125 to 0.1875."


# --- TensorBoard -------------------------------------------------------------------------------------


def read_sessions(folder: Path) -> dict[str, api_pb2.SessionGroup]:
    """Every trial as TensorBoard's HParams tab lists it."""
    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(folder))
    context = Context(TBContext(multiplexer=runs, data_provider=provider, logdir=str(folder)))
    asked = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=999, allowed_statuses=[0, 1, 2, 3])
    answer = list_session_groups.Handler(RequestContext(), context, "", asked).run()
    return {group.name: group for group in answer.session_groups}


def plain(value) -> str | float | bool:
    return getattr(value, value.WhichOneof("kind"))


def test_tensorboard_lists_every_trial_with_factors_and_metrics(listing, tmp_path):
    sessions = read_sessions(write_events(listing, tmp_path))
    assert list(sessions) == list(listing.table["trial"])  # repeats of a row are not merged
    for row in listing.table.to_dict("records"):
        session = sessions[row["trial"]]
        hparams = {name: plain(value) for name, value in session.hparams.items()}
        assert {name: hparams[name] for name in FACTORS} == {name: row[name] for name in FACTORS}
        assert hparams["optimizer level"] == str(row["optimizer level"])
        assert (hparams["row"], hparams["repeat"]) == (str(row["row"]), row["repeat"])
        metrics = {metric.name.tag: metric.value for metric in session.metric_values}
        expected = {name: row[name] for name in ("score", "loss", "balanced_accuracy", "seconds")}
        assert metrics == ({} if row["trial"] == TROUBLED else pytest.approx(expected, rel=1e-6))
    status = {name: session.sessions[0].status for name, session in sessions.items()}
    assert status.pop(TROUBLED) == api_pb2.STATUS_FAILURE
    assert set(status.values()) == {api_pb2.STATUS_SUCCESS}


def test_tensorboard_draws_the_epochs(listing, tmp_path):
    write_events(listing, tmp_path)
    events = EventAccumulator(str(tmp_path / "0001"))
    events.Reload()
    curve = [float(make_ndarray(event.tensor_proto)) for event in events.Tensors(f"{EPOCHS}val_loss")]
    assert curve == pytest.approx([row["val_loss"] for row in listing.epochs["0001"]])
    assert [event.step for event in events.Tensors(f"{EPOCHS}val_loss")] == list(range(1, 11))


def test_events_written_again_replace_their_files_and_spare_others(listing, tmp_path):
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "events.out.tfevents.1.own").write_bytes(b"")
    files = [
        {p: p.read_bytes() for p in write_events(listing, tmp_path).rglob("*") if p.is_file()}
        for _ in range(2)
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 1 + 1 + len(listing.table)


def test_a_taguchi_tuner_writes_them_as_trials_end(tmp_path):
    oracle = TaguchiOracle(OBJECTIVE, {"rate": [0.1, 0.2], "flag": [True, False]}, repeats=1)
    run = lambda trial: {"score": trial.settings["rate"]}  # noqa: E731
    tuner = TaguchiTuner(oracle, run=run, directory=str(tmp_path), project_name="p")
    tuner.search()
    sessions = read_sessions(tmp_path / "p" / "tensorboard")
    for row in tuner.results().to_dict("records"):
        session = sessions[row["trial"]]
        assert {name: plain(session.hparams[name]) for name in ("rate", "flag")} == {
            "rate": row["rate"], "flag": row["flag"],
        }  # fmt: skip
        assert session.metric_values[0].name.tag == "score"
        assert session.metric_values[0].value == pytest.approx(row["objective"])


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def runs(project, tmp_path, monkeypatch) -> Path:
    """A runs folder with a finished run, whose artifact holds the project."""
    root = tmp_path / "runs"
    monkeypatch.setenv("KERASALL_RUNS", str(root))
    artifact = root / "artifacts" / "Tuner" / "0123" / "results"
    shutil.copytree(project, artifact / "project")
    write_json(artifact.parent / "artifact.json", {})
    step = {"step": "Tuner", "outputs": {"results": {"path": str(artifact)}}}
    write_json(root / "vote" / "run.json", {"steps": [step]})
    return root


def test_the_command_prints_the_table_and_writes_table_and_page(runs, listing, tmp_path):
    arguments = ["trials", "vote", "--sort", "objective", "--tensorboard", str(tmp_path / "events")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].startswith(f"*   {listing.best} ")
    assert (runs / "vote" / "trials.csv").is_file()
    assert "<title>vote" in (runs / "vote" / "trials.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "events").iterdir())) == 1 + len(listing.table)
    assert sorted(p.name for p in (runs / "artifacts" / "Tuner" / "0123").iterdir()) == [
        "artifact.json",
        "results",
    ]


def test_json_is_all_that_stands_on_standard_output(runs, listing):
    result = CliRunner().invoke(app, ["trials", "vote", "--json", "--sort", "objective"])
    found = json.loads(result.stdout)
    assert found["trials"][0]["trial"] == listing.best


def test_a_run_that_was_broken_off_shows_what_it_has(runs, project):
    places = RunPlaces(runs, "broken")
    write_json(places.folder / "run.json", {"steps": []})
    store = MetadataStore(places.metadata)
    store.start_execution(store.start_run("broken", "e", "", {}), "Tuner", "Tuner", "ab" * 32, {}, {})
    _, scratch = ArtifactStore(places.artifacts).open("Tuner", "ab" * 32, ["results"])
    with pytest.raises(ArtifactError, match=r"holds none"):
        find_trials("broken")
    shutil.copytree(project, scratch / "project")
    found = find_trials("broken")
    assert found.project == scratch / "project"
    assert found.out == runs / "broken"


def test_a_folder_is_found_by_itself_or_from_above(project, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "savedmodels"))
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path))
    assert find_trials(str(project)).project == project
    found = find_trials(str(project.parent))
    assert (found.project, choose_out(found, None)) == (project, project)
    with pytest.raises(ArtifactError, match="there are none yet: `kerasall run`"):
        find_trials("absent")
    for name in "ab":
        shutil.copytree(project, tmp_path / name)
    with pytest.raises(ArtifactError, match="name one of them"):
        find_trials(str(tmp_path))


def test_nothing_is_written_into_an_artifact(runs, tmp_path):
    inside = runs / "artifacts" / "Tuner" / "0123" / "results" / "project"
    found = find_trials(str(inside))
    with pytest.raises(SettingsError, match="--out"):
        choose_out(found, None)
    assert choose_out(found, tmp_path) == tmp_path
