"""One rule an item of a checklist: what the run knows, what the authors state, and where it stands in the report.

The lists (``kerasall/published/items/``) name these rules; several lists share most of them. A rule without functions is answered
by the authors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kerasall.studies.checklists import data_rules as data
from kerasall.studies.checklists import model_rules as model
from kerasall.studies.checklists import score_rules as score
from kerasall.studies.checklists.facts import RunFacts


@dataclass(frozen=True)
class Rule:
    """How an item is answered.

    Attributes:
        states: settings of ``study`` that belong to it, in order; what of them is empty the authors have yet to state.
        tells: gives the sentences that the run knows; None where it knows nothing of this.
        where: anchors of the report's sections that hold it.
        absent: gives the reason why the item does not apply to this run, or "".
        written: whether the authors have to write something that no setting holds.
    """

    states: tuple[str, ...] = ()
    tells: Callable[[RunFacts], Iterable[str]] | None = None
    where: tuple[str, ...] = ()
    absent: Callable[[RunFacts], str] | None = None
    written: bool = False


RULES: dict[str, Rule] = {
    "title": Rule(("title",), model.describe_kind, ("summary",)),
    "abstract": Rule((), model.describe_for_abstract, ("summary",), written=True),
    "background": Rule(("background", "intended_use"), model.describe_research_only, ("summary",)),
    "intended_use": Rule(("intended_use",), model.describe_research_only, ("summary",)),
    "inequalities": Rule(("inequalities",)),
    "objectives": Rule(("objectives",)),
    "design": Rule(("design",)),
    "goal": Rule(("objectives",), model.describe_goal, ("summary",)),
    "ethics": Rule(("ethics",)),
    "data_source": Rule(("data_source", "representativeness"), data.describe_source, ("data",)),
    "setting": Rule(("setting",)),
    "dates": Rule(("dates",)),
    "setting_and_dates": Rule(("setting", "dates")),
    "eligibility": Rule(("eligibility",), data.describe_eligibility, ("flow",)),
    "recruitment": Rule(("recruitment",)),
    "treatments": Rule(("treatments",)),
    "acquisition": Rule(("acquisition",), data.describe_files, ("data",)),
    "acquired_and_preprocessed": Rule(("acquisition",), model.describe_acquisition, ("data", "provenance")),
    "devices": Rule(("acquisition",), model.describe_devices, ("data", "provenance")),
    "deidentification": Rule(("deidentification",)),
    "preprocessing": Rule((), data.describe_preprocessing, ("provenance", "data")),
    "subsets": Rule(("acquisition",), data.describe_subsets, ("provenance",)),
    "missing_data": Rule(("missing_data",), data.describe_missing, ("flow", "data")),
    "reference_standard": Rule(("reference_standard",), data.describe_labels, ("corrections",)),
    "reference_rationale": Rule(("reference_rationale",)),
    "classes": Rule(("reference_standard",), data.describe_classes, ("data",)),
    "outcome": Rule(("reference_standard", "reference_rationale"), data.describe_outcome, ("data",)),
    "labellers": Rule(("labellers",)),
    "agreement": Rule(("agreement",), data.describe_one_label),
    "blinding": Rule(("blinding",)),
    "blinding_of_test": Rule((), model.describe_blind_model),
    "time_between": Rule(("time_between",)),
    "predictors": Rule((), model.describe_predictors, ("summary",)),
    "predictors_measured": Rule(("acquisition",), model.describe_measured, ("data",)),
    "partition": Rule((), data.describe_partition, ("flow", "data")),
    "level_apart": Rule((), data.describe_level, ("summary", "weaknesses")),
    "parts_compared": Rule(("representativeness",), data.describe_parts_compared, ("data",)),
    "representativeness": Rule(("representativeness",), data.describe_apart),
    "sample_size": Rule(("sample_size",), data.describe_sample_size, ("sample-size", "scores")),
    "model": Rule((), model.describe_model, ("summary", "provenance")),
    "index_test": Rule((), model.describe_index_test, ("summary", "provenance")),
    "development": Rule(("model_rationale",), model.describe_development, ("training", "flow", "tuning")),
    "software": Rule((), model.describe_software, ("provenance",)),
    "initial_weights": Rule((), model.describe_initial_weights, ("summary",)),
    "training": Rule((), model.describe_training, ("training", "provenance")),
    "class_imbalance": Rule((), model.describe_balance, ("training",)),
    "model_choice": Rule((), model.describe_choice, ("training", "tuning", "combinations")),
    "ensemble": Rule((), model.describe_ensemble, ("ensemble", "members"), absent=model.describe_no_ensemble),
    "metrics": Rule(
        ("analysis_rationale",),
        score.describe_metrics,
        ("scores", "confusion", "calibration", "thresholds", "refer"),
    ),
    "statistics": Rule((), score.describe_statistics, ("scores",)),
    "variability": Rule((), score.describe_variability, ("scores", "subjects", "subgroups")),
    "robustness": Rule((), score.describe_robustness, ("scores", "subjects", "views", "tuning")),
    "explanation": Rule((), model.describe_explanation),
    "calculation": Rule((), model.describe_calculation, ("summary",)),
    "updating": Rule((), score.describe_updating, ("calibration",)),
    "thresholds": Rule(("analysis_rationale",), score.describe_thresholds, ("thresholds",)),
    "indeterminate": Rule(("indeterminate",), score.describe_indeterminate, ("refer",)),
    "internal_test": Rule((), score.describe_internal, ("scores",)),
    "external_test": Rule(("representativeness",), score.describe_external),
    "fairness": Rule(("fairness",), score.describe_fairness, ("subgroups",)),
    "fairness_discussed": Rule(("ethics", "fairness")),
    "flow": Rule((), data.describe_flow, ("flow",)),
    "demographics": Rule(("demographics",), data.describe_people, ("data",)),
    "severity": Rule(("severity",)),
    "performance": Rule((), score.describe_performance, ("scores", "subgroups")),
    "accuracy": Rule((), score.describe_accuracy, ("scores", "confusion", "calibration")),
    "cross_table": Rule((), score.describe_cross_table, ("confusion",)),
    "failures": Rule((), score.describe_failures, ("confusion", "gallery", "subjects")),
    "adverse_events": Rule(("adverse_events",)),
    "interpretation": Rule(("interpretation", "fairness")),
    "limitations": Rule(("limitations",), score.describe_limits, ("weaknesses",)),
    "implications": Rule(("implications", "intended_use"), model.describe_research_only, ("summary",)),
    "poor_input": Rule(("users",), score.describe_poor_input, ("refer",)),
    "users": Rule(("users",), score.describe_users, ("summary",)),
    "next_steps": Rule(("next_steps",)),
    "involvement": Rule(("involvement",)),
    "registration": Rule(("registration",)),
    "protocol": Rule(("protocol",), model.describe_technical, ("provenance",)),
    "funding": Rule(("funding",)),
    "conflicts": Rule(("conflicts",)),
    "model_given": Rule(("code_availability",), model.describe_given, ("summary",)),
    "data_availability": Rule(("data_availability",)),
    "code_availability": Rule(("code_availability",), model.describe_technical, ("provenance",)),
    "availability": Rule(("data_availability", "code_availability"), model.describe_given, ("provenance",)),
    "audit": Rule((), model.describe_kept),
}
"""Name of a rule -> how it answers."""
