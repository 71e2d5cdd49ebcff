"""Ensembles as whole systems: weights from the right images only, one graph, one report, the shipped configs."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from command_line import invoke

import kerasall
from kerasall.components.ensembler import choose_coefficients, ensembler, require_members
from kerasall.components.trainer import ChainInTwo
from kerasall.components.transform import draw_split, training_images
from kerasall.data.development import Development, Facts, read_development, read_rows, write_development
from kerasall.data.examples import Collection, read_examples
from kerasall.data.splits import Split, read_split
from kerasall.data.training_record import ENSEMBLE
from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.ensemble_rules import combine_predictions, member_weights
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import read_json, write_json
from kerasall.models.prediction import predict_outputs
from kerasall.models.saving import load_model, save_model
from kerasall.preprocessing.operations import Chain
from kerasall.serving.predictor import Predictor
from kerasall.serving.web.answers import read_facts as read_model_facts
from kerasall.settings import EnsembleSettings, MemberSettings, SplitSettings
from kerasall.settings.loading import load_settings, validate
from kerasall.studies.comparison import read_members
from kerasall.studies.experiment import run_experiment
from kerasall.studies.tables import look_up

ROOT = Path(__file__).parents[1]
CLASSES = ("all", "hem")
NAMES = ("one", "two", "three")


# --- the Ensembler on members whose answers are known ---------------------------------------------


def table_of(parts: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ids = [f"i{number:03d}" for number in range(len(parts))]
    labels = rng.permutation(np.resize(CLASSES, len(parts)))
    return pd.DataFrame(
        {"id": ids, "label": labels, "subject": ids, "group": ids, "part": parts, "path": ids, "fold": ""}
    )


def record_of(table: pd.DataFrame, part_names: list[str], seed: int, skill: float) -> Predictions:
    """Random predictions of some parts, right in about ``skill`` of the images; in the order of the parts."""
    rows = pd.concat([table[table["part"] == part] for part in part_names])
    labels = rows["label"].map({name: i for i, name in enumerate(CLASSES)}).to_numpy()
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.5, 1, len(rows))
    called = np.where(rng.random(len(rows)) < skill, labels, 1 - labels)
    probabilities = np.where(called[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    return Predictions(rows["id"], rows["subject"], rows["group"], labels, probabilities, CLASSES)


class Workshop:
    """Folders of three tiny trained members, as their Trainers leave them, and the Ensembler over them."""

    def __init__(self, folder: Path, kind: str, parts: list[str]):
        self.folder = folder
        self.table = table_of(parts)
        columns = ["id", "label", "subject", "group", "part"]
        self.split = Split(kind, self.table[columns], 0)
        facts = Facts(CLASSES, ("all",), "subject", "test", (), "")
        chain = [{"op": "center_crop", "height": 8, "width": 8}]
        (folder / "development").mkdir(parents=True)
        write_development(Development(self.table, self.split, facts, chain), folder / "development")
        own = [p for p in self.split.parts if p in ("validation", *self.split.folds)]
        self.own = [record_of(self.table, own, n, skill) for n, skill in enumerate((0.95, 0.8, 0.7))]
        self.selection = (
            [record_of(self.table, ["selection"], n + 9, s) for n, s in enumerate((0.6, 0.7, 0.95))]
            if "selection" in parts
            else []
        )
        self.members = [MemberSettings(name=name) for name in NAMES]
        self.members[1] = MemberSettings(name="two", steps=({"op": "resize", "height": 5, "width": 5},))

    def size_of(self, number: int) -> int:
        return 5 if self.members[number].steps else 8

    def leave_members(self) -> None:
        for number, name in enumerate(NAMES):
            model, record = self.folder / name / "trained", self.folder / name / "record"
            model.mkdir(parents=True)
            record.mkdir()
            save_model(self.build(number), model / "model.keras")
            write_predictions(self.own[number], record / "predictions.npz")
            if self.selection:
                write_predictions(self.selection[number], record / "selection.npz")
            write_json(record / "training.json", {"parameters": 1, "seconds": 1.0, "fits": {}})

    def build(self, number: int) -> keras.Model:
        side = self.size_of(number)
        image = keras.Input((side, side, 3), name="image")
        pooled = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        dense = keras.layers.Dense(
            2, "softmax", kernel_initializer=keras.initializers.RandomNormal(seed=number)
        )
        return keras.Model(image, dense(pooled), name="member")

    def run(self, out: str = "out", **ensemble) -> Path:
        if not (self.folder / NAMES[0]).exists():
            self.leave_members()
        for name in ("trained", "record"):
            (self.folder / out / name).mkdir(parents=True)
        ensembler.function(
            development=self.folder / "development",
            models=[self.folder / name / "trained" for name in NAMES],
            records=[self.folder / name / "record" for name in NAMES],
            members=self.members,
            ensemble=EnsembleSettings(**ensemble),
            trained=self.folder / out / "trained",
            record=self.folder / out / "record",
        )
        return self.folder / out


PARTS = ["train"] * 20 + ["validation"] * 40
FOLDS = ["fold_0"] * 30 + ["fold_1"] * 30


def test_weights_are_the_members_kappa_on_validation_images(tmp_path):
    shop = Workshop(tmp_path, "holdout", PARTS)
    out = shop.run(rule="weighted_average", weights="kappa")
    made = read_json(out / "record" / ENSEMBLE)
    np.testing.assert_allclose(made["weights"], member_weights(shop.own, "kappa"))
    assert "validation" in made["decided_by"]
    combined = read_predictions(out / "record" / "predictions.npz")
    expected = combine_predictions(shop.own, "weighted_average", made["weights"])
    np.testing.assert_allclose(combined.probabilities, expected.probabilities)


def test_given_weights_are_taken_as_they_are(tmp_path):
    out = Workshop(tmp_path, "holdout", PARTS).run(rule="weighted_average", weights=(0.665, 0.697, 0.657))
    made = read_json(out / "record" / ENSEMBLE)
    assert made["weights"] == [0.665, 0.697, 0.657]
    assert made["decided_by"] == "the config gives the weights"


@pytest.mark.parametrize("rule", ["weighted_average", "stacking"])
def test_an_out_of_fold_image_has_no_part_in_its_own_weights(tmp_path, rule):
    shop = Workshop(tmp_path, "folds", FOLDS)
    settings = EnsembleSettings(rule=rule, weights="accuracy")
    out = shop.run(rule=rule, weights="accuracy")
    combined = read_predictions(out / "record" / "predictions.npz")
    for fold, other in (("fold_0", "fold_1"), ("fold_1", "fold_0")):
        inside, outside = (np.isin(shop.own[0].ids, shop.split.ids(part)) for part in (fold, other))
        chosen = choose_coefficients([each.take(outside) for each in shop.own], settings)
        expected = combine_predictions(
            [each.take(inside) for each in shop.own], rule, chosen.weights, chosen.stacking
        )
        found = combined.take(np.isin(combined.ids, expected.ids))
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.probabilities, expected.probabilities)


def test_only_a_faithful_copy_weighs_by_the_images_it_is_scored_on_and_says_so(tmp_path):
    shop = Workshop(tmp_path, "holdout", [*PARTS, *["selection"] * 40])
    out = shop.run(rule="weighted_average", weights="kappa", weights_from="selection")
    made = read_json(out / "record" / ENSEMBLE)
    np.testing.assert_allclose(made["weights"], member_weights(shop.selection, "kappa"))
    assert "chosen on the scored images" in made["decided_by"]
    scored = read_predictions(out / "record" / "selection.npz")
    assert set(scored.ids) == set(shop.split.ids("selection"))
    honest = shop.run("honest", rule="weighted_average", weights="kappa")
    np.testing.assert_allclose(
        read_json(honest / "record" / ENSEMBLE)["weights"], member_weights(shop.own, "kappa")
    )


def test_members_see_in_the_ensemble_what_they_were_trained_on(tmp_path):
    """A member with steps of its own answers as it does after its own two chains."""
    shop = Workshop(tmp_path, "holdout", PARTS)
    ensemble = load_model(shop.run(rule="average") / "trained" / "model.keras")
    files = np.random.default_rng(0).integers(0, 255, (6, 11, 9, 3), np.uint8)
    common = Chain.from_json([{"op": "center_crop", "height": 8, "width": 8}])
    outputs = predict_outputs(ensemble, [np.stack([common(file).numpy() for file in files])])
    for number, member in enumerate(shop.members):
        chain = ChainInTwo(common, Chain.from_json(list(member.steps)))
        pixels = np.stack([chain(file).numpy() for file in files])
        own = np.asarray(
            load_model(tmp_path / member.name / "trained" / "model.keras")(pixels.astype("float32"))
        )
        np.testing.assert_allclose(outputs["member_probabilities"][:, number], own, atol=1e-6)


def test_the_chain_of_a_member_has_a_key_of_its_own():
    crop, resize = ({"op": op, "height": 8, "width": 8} for op in ("center_crop", "resize"))
    in_two = ChainInTwo(Chain.from_json([crop]), Chain.from_json([resize]))
    assert in_two.to_json() != Chain.from_json([crop, resize]).to_json()
    assert ChainInTwo(Chain.from_json([crop]), Chain()).to_json() == Chain.from_json([crop]).to_json()


# --- settings, split, balance ---------------------------------------------------------------------

PLAIN = {"experiment": "x", "pipeline": "p", "members": [{"name": "one"}, {"name": "two"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": [{"name": "one"}, {"name": "one"}]}, "different names"),
        ({"members": [{"name": "one"}, {"name": "ensemble"}]}, "no member must be called ensemble"),
        ({"ensemble": {"weights": [1.0]}}, "one number per member"),
        ({"ensemble": {"weights_from": "selection"}, "split": {"selection": 0.1}}, "faithful"),
        ({"ensemble": {"weights_from": "selection"}, "protocol": "faithful"}, "needs split.selection"),
        ({"split": {"unit": "image"}}, "legal only under protocol: faithful"),
        ({"split": {"selection_folds": ["prelim"]}}, "legal only under protocol: faithful"),
        ({"members": [{"name": "one", "epochs": {"nothing": 3}}]}, "its stages are"),
        ({"train": {"oversample": "majority", "class_weights": "balanced"}}, "set one of them to none"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        validate(PLAIN | changes, "here")


def test_members_have_seeds_and_epochs_of_their_own():
    settings = validate(
        PLAIN | {"members": [{"name": "one", "epochs": {"head": 3}}, {"name": "two"}]}, "here"
    )
    one, two = settings.members
    assert one.seed(0) != two.seed(0) != two.seed(1)
    assert [m.training(settings.train).stages[0].epochs for m in (one, two)] == [3, 10]


def test_one_member_is_no_ensemble_and_is_refused_before_it_trains():
    settings = validate(PLAIN | {"members": [{"name": "one"}]}, "here")
    with pytest.raises(SettingsError, match="at least 2 members"):
        require_members(settings)


def collection_of(count: int) -> Collection:
    number = np.arange(count)
    table = pd.DataFrame(
        {
            "id": [f"i{n:03d}" for n in number], "label": np.resize(CLASSES, count),
            "subject": [f"s{n // 10}" for n in number], "fold": np.where(number < count // 4, "prelim", "train"),
        }
    )  # fmt: skip
    return Collection("test", ROOT, table.assign(path=table["id"]), CLASSES, subject_kind="subject")


def test_a_faithful_split_has_a_selection_part_and_no_test_part():
    drawn = draw_split(
        collection_of(120), SplitSettings(test=0, selection_folds=("prelim",)), [], seed=0, fingerprint=""
    )
    assert drawn.parts == ("train", "validation", "selection")
    assert len(drawn.ids("selection")) == 30
    dealt = draw_split(
        collection_of(120), SplitSettings(test=0, selection=0.1, unit="image"), [], seed=0, fingerprint=""
    )
    assert dealt.unit == "image"
    assert len(dealt.ids("selection")) == 12
    assert dealt.table.groupby("subject")["part"].nunique().max() > 1  # what makes it a leaky protocol


def test_no_image_of_the_selection_part_is_trained_on():
    table = table_of([*FOLDS, *["selection"] * 10])
    split = Split("folds", table[["id", "label", "subject", "group", "part"]], 0)
    data = Development(table, split, Facts(CLASSES, (), "subject", "test", (), ""), [])
    assert set(table["part"].iloc[data.training_rows]) == {"fold_0", "fold_1"}


# --- whole runs -----------------------------------------------------------------------------------

TINY = {
    "pipeline": str(ROOT / "pipelines" / "four_stage_vote.py"),
    "data": {
        "source": "synthetic",
        "synthetic": {"kind": "cnmc", "subjects_per_class": 6, "images_per_subject": 6, "size": 48, "seed": 5},
    },
    "checks": {"near_duplicates": {"enabled": False}},
    "split": {"validation": 0.3, "test": 0.3},
    "preprocess": [{"op": "reinhard"}, {"op": "resize", "height": 64, "width": 64}],
    "members": [
        {"name": "small", "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"}},
        {
            "name": "smaller",
            "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
            "steps": [{"op": "resize", "height": 32, "width": 32}],
            "epochs": {"all": 2},
        },
    ],
    "train": {
        "batch_size": 8,
        "oversample": {"all": 40, "hem": 40},
        "stages": [{"name": "all", "trainable": "all", "train_batch_norm": True, "epochs": 1}],
    },
    "evaluate": {"resamples": 200, "gallery": 2},
}  # fmt: skip


class Runs:
    """A working folder whose runs stay in this process."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))

    def run(self, config: Path | None = None, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KERASALL_RUNS", str(self.folder / "runs"))
            patch.setenv("KERASALL_SAVEDMODELS", str(self.folder / "savedmodels"))
            return run_experiment(config or self.folder / "tiny.yaml", say=lambda _: None, **options)

    def report(self, result) -> dict:
        return json.loads((result.folder / "report.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("ensembles"))


@pytest.fixture(scope="module")
def vote(runs):
    """One finished vote of two members: two voters can tie."""
    return runs.run(force=True)


def test_every_member_is_a_step_and_the_ensemble_is_exported_with_its_votes(runs, vote):
    assert [s for s in vote.states if s.startswith("Trainer")] == ["Trainer small", "Trainer smaller"]
    assert read_json(vote.artifacts["Exporter", "parity"] / "parity.json")["passed"]
    test = read_rows(vote.artifacts["Transform", "test"])
    answers = Predictor(runs.folder / "savedmodels" / "tiny").predict(
        [Path(p).read_bytes() for p in test["path"]]
    )
    members = answers.extras["member_probabilities"]
    assert members.shape == (len(test), 2, 2)
    votes = np.stack([(members.argmax(axis=-1) == c).sum(axis=1) for c in (0, 1)], axis=1)
    np.testing.assert_array_equal(answers.extras["votes"], votes)
    np.testing.assert_allclose(answers.probabilities, votes / 2)
    expected = np.where(votes[:, 0] == votes[:, 1], members.mean(axis=1).argmax(axis=1), votes.argmax(axis=1))
    np.testing.assert_array_equal(answers.label_indices, expected)


def test_the_report_shows_members_beside_the_ensemble_and_states_the_tie_rule(runs, vote):
    document = runs.report(vote)
    results = document["results"]
    assert results["scored"] == "test"
    assert set(results["ensemble"]["scores"]) == {"small", "smaller"}
    page = (vote.folder / "report.html").read_text(encoding="utf-8")
    assert "can tie" in page[page.index('<section id="ensemble"') :]
    predictions = read_predictions(vote.artifacts["Evaluator", "evaluation"] / "predictions.npz")
    right = (predictions.decisions == predictions.labels).sum()
    assert sum(v["ensemble_right"] for v in results["ensemble"]["members_right"]) == right
    assert "smaller, stage 1: all" in page


def test_every_member_is_reported_by_all_that_the_ensemble_is_reported_by(runs, vote):
    results = runs.report(vote)["results"]
    evaluation = vote.artifacts["Evaluator", "evaluation"]
    page = (vote.folder / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="members"') :].partition("</section>")[0]
    for name in ("small", "smaller"):
        part = results["ensemble"]["parts"]["members"][name]
        assert part["metrics"].keys() == results["metrics"].keys()  # evaluate.metrics among them
        own = read_predictions(evaluation / "members" / f"{name}.npz")
        assert part["confusion_matrix"] == confusion_matrix(own).tolist()
        wrong = (own.decisions != own.labels).sum()
        assert f"<summary>{name}: {wrong} wrong call" in section
        assert (vote.artifacts["ReportGen", "report"] / "figures" / f"confusion-{name}.svg").is_file()


def test_a_member_without_a_map_is_named_wherever_maps_are_shown(runs, vote):
    """The smaller member sees 32 pixels, of which its last feature map makes one place."""
    reason = "the last feature map must have several places to tell apart, but is 1 x 1"
    assert list(vote.no_maps) == ["smaller"]
    assert reason in vote.no_maps["smaller"]
    page = (vote.folder / "report.html").read_text(encoding="utf-8")
    assert f"No map shows where smaller looks: {reason}" in page
    facts = read_model_facts(Predictor(runs.folder / "savedmodels" / "tiny"))
    assert (facts.explains, facts.no_maps) == (True, vote.no_maps)


def test_images_that_a_member_alone_gets_wrong_are_explained(runs, vote, tmp_path):
    evaluation = vote.artifacts["Evaluator", "evaluation"]
    ensemble = read_predictions(evaluation / "predictions.npz")
    alone = {}
    for name in ("small", "smaller"):
        own = read_predictions(evaluation / "members" / f"{name}.npz")
        alone[name] = set(own.ids[~own.right & ensemble.right])
    name = max(alone, key=lambda each: len(alone[each]))
    assert alone[name]
    result = invoke("explain", vote.folder, "--wrong-member", name, "--most", 3, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"wrong and the ensemble right on {len(alone[name])} scored image" in result.stderr
    assert "the maps leave out smaller: " in result.stderr
    document = json.loads((tmp_path / "explanations.json").read_text())
    shown = [row["path"] for row in document["images"]]
    assert len(shown) == min(3, len(alone[name]))
    assert all(any(path.endswith(known) for known in alone[name]) for path in shown)
    assert [each["name"] for each in document["images"][0]["networks"]] == ["small"]
    with pytest.raises(SettingsError, match=r"must be a member of the run tiny \(small, smaller\)"):
        invoke("explain", vote.folder, "--wrong-member", "large", "--out", tmp_path)
    with pytest.raises(SettingsError, match="neither is given"):
        invoke("explain", vote.folder, "--out", tmp_path)


def test_members_of_a_run_are_compared_with_one_another_and_their_ensemble(runs, vote, tmp_path):
    result = invoke("compare", vote.folder, "--members", "--json", "--out", tmp_path)
    document = json.loads(result.stdout)
    assert [system["name"] for system in document["systems"]] == ["small", "smaller", "ensemble"]
    results = runs.report(vote)["results"]
    for system in document["systems"][:2]:
        part = results["ensemble"]["parts"]["members"][system["name"]]
        assert system["confusion_matrix"] == part["confusion_matrix"]
    assert document["systems"][2]["confusion_matrix"] == results["confusion_matrix"]
    assert "--members" in (tmp_path / "report.html").read_text()
    found = kerasall.compare(vote, members=True)
    assert [pair.first for pair in found.pairs] == ["small", "small", "smaller"]
    with pytest.raises(DataError, match="given twice"):
        read_members([str(vote.folder), str(vote.folder)])


def test_oversampling_touches_training_images_alone(vote):
    training = read_json(vote.artifacts["Ensembler", "record"] / "training.json")["members"]["small"]
    assert training["classes"]["visited_an_epoch"] == {"all": 40, "hem": 40}
    split = read_examples(vote.artifacts["Transform", "development"] / "examples.csv")
    train = split[split["part"] == "train"]["label"].value_counts()
    assert training["classes"]["images"] == {"all": train["all"], "hem": train["hem"]}
    validation = read_predictions(vote.artifacts["Trainer small", "record"] / "predictions.npz")
    assert set(validation.ids) == set(split[split["part"] == "validation"]["id"])


def test_stains_are_fitted_on_training_images_alone_and_travel_with_the_model(vote):
    stored = read_json(vote.artifacts["Ensembler", "trained"] / "preprocess.json")
    assert len(stored[0]["mean"]) == 3
    from kerasall.preprocessing.stain import fit_reinhard

    table = read_rows(vote.artifacts["Transform", "development"])
    fitted = fit_reinhard(training_images(table[table["part"] == "train"]))
    np.testing.assert_allclose(stored[0]["mean"], fitted.mean)
    assert read_development(vote.artifacts["Transform", "development"]).stated == TINY["preprocess"]


@pytest.mark.slow
def test_another_rule_trains_nothing_anew_and_a_faithful_copy_is_labelled(runs, vote):
    result = runs.run(name="average", overrides=["ensemble.rule=average"])
    assert {name for name, state in result.states.items() if state != "cached"} == {
        "Ensembler", "Calibrator", "Exporter", "Evaluator", "ReportGen", "Pusher",
    }  # fmt: skip
    assert runs.report(result)["results"]["ensemble"]["rule"] == "average"


@pytest.mark.slow
def test_a_faithful_run_scores_the_selection_part_and_is_never_blessed(runs, vote):
    faithful = ["protocol=faithful", "split.test=0", "split.selection=0.3", "split.unit=image",
                "split.on_leak=report", "ensemble.rule=weighted_average",
                "ensemble.weights=f1", "ensemble.weights_from=selection"]  # fmt: skip
    result = runs.run(name="faithful", overrides=faithful)
    document = runs.report(result)
    assert document["protocol"] == "faithful"
    assert document["results"]["scored"] == "selection"
    assert document["results"]["blessed"] is False
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "Single images were dealt out" in page
    assert "never divided" not in page
    split = read_examples(result.artifacts["Transform", "development"] / "examples.csv")
    assert document["results"]["images"] == (split["part"] == "selection").sum()
    assert "Weights chosen on the scored images" in page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["four_stage_vote_small", "weighted_ensemble_small"])
def test_the_shipped_small_configs_run_to_the_end(tmp_path, name):
    runs = Runs(tmp_path)
    result = runs.run(ROOT / "configs" / f"{name}.yaml", force=True)
    settings = load_settings(ROOT / "configs" / f"{name}.yaml")
    document = runs.report(result)
    assert set(document["results"]["ensemble"]["scores"]) == {member.name for member in settings.members}
    assert document["results"]["scored"] == ("out-of-fold" if settings.split.kind == "folds" else "test")
    assert Predictor(tmp_path / "savedmodels" / name).labels == tuple(document["results"]["labels"])
    if settings.split.kind == "folds":
        first = read_split(result.output("Split", "split.json")).ids("fold_0")
        member = read_predictions(result.artifacts["Evaluator", "evaluation"] / "members" / "mobilenet.npz")
        own = member.take(np.isin(member.ids, first))
        ours = look_up(result, "fold/1/member/mobilenet/accuracy")
        assert ours.value == pytest.approx((own.decisions == own.labels).mean())
