"""From the evidence of one evaluation to the document of its report."""

from __future__ import annotations

import platform
import resource

from kerasall import __version__
from kerasall.components.evidence import Evidence
from kerasall.components.model_card import make_results
from kerasall.components.record_tables import table_sections
from kerasall.components.report_data import list_weaknesses, make_data
from kerasall.components.report_images import make_gallery, make_subject_calls, make_subjects
from kerasall.components.report_review import make_corrections, make_review
from kerasall.components.report_scores import (
    make_confusion,
    make_ensemble,
    make_scores,
    make_summary,
    read_score,
)
from kerasall.components.report_training import make_training
from kerasall.components.report_trust import make_trust
from kerasall.components.report_words import describe_model
from kerasall.components.tuning_record import as_stated, tuning_sections
from kerasall.config import dump_settings
from kerasall.evaluation.report_background import provenance_section, weakness_section
from kerasall.evaluation.report_document import Fact, Report
from kerasall.evaluation.views_section import views_section


def make_report(evidence: Evidence) -> Report:
    """The report of one classifier's evaluation."""
    settings = evidence.settings
    main = read_score(evidence, settings.evaluate.main_metric)
    facts = (
        Fact("Experiment", settings.experiment),
        Fact("Model", evidence.training.get("model") or describe_model(settings)),
        Fact("Data", f"{evidence.facts.source}, {len(evidence.examples):,} images"),
        Fact("Seed", str(settings.seed) + (f", repetition {settings.repeat}" if settings.repeat else "")),
    )
    return Report(
        title=f"{settings.experiment}: {', '.join(evidence.facts.labels)}",
        subtitle=settings.description,
        protocol=settings.protocol,
        facts=facts,
        results=make_results(evidence),
        sections=(
            make_summary(evidence, main),
            make_scores(evidence, main),
            *make_ensemble(evidence),
            *tuning_sections(evidence.tuning),
            *table_sections(evidence.training),
            make_confusion(evidence),
            *make_trust(evidence),
            *([views_section(evidence.views)] if evidence.views else []),
            make_gallery(evidence),
            *make_review(evidence),
            *make_corrections(evidence),
            *make_subjects(evidence),
            *make_subject_calls(evidence),
            *make_training(evidence),
            make_data(evidence),
            weakness_section(list_weaknesses(evidence), settings.departures),
            provenance_section(
                evidence.command,
                dump_settings(as_stated(settings)),
                environment=describe_environment(evidence),
            ),
        ),
    )


def describe_environment(evidence: Evidence) -> dict[str, str]:
    """Software, device, minutes and memory."""
    import keras
    import tensorflow as tf

    devices = ", ".join(sorted({device.device_type for device in tf.config.list_physical_devices()}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "Software": f"kerasall {__version__}, Keras {keras.__version__}, TensorFlow {tf.__version__}, "
        f"Python {platform.python_version()}",
        "Device": f"{devices}, {platform.machine()}",
        "Training": f"{evidence.training['seconds'] / 60:.1f} minutes",
        "Peak memory": f"{peak:.1f} GiB",
        "Seed": f"{evidence.settings.seed}{', deterministic' if evidence.settings.deterministic else ''}",
    }
