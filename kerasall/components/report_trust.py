"""Sections of a report on calibration, thresholds and referral."""

from __future__ import annotations

from kerasall.components.evidence import Evidence
from kerasall.evaluation.report_document import Section
from kerasall.evaluation.trust_section_calibration import FITTED, calibration_section
from kerasall.evaluation.trust_section_operating import operating_section
from kerasall.evaluation.trust_section_refer import refer_section


def make_trust(evidence: Evidence) -> list[Section]:
    """What the exported model says besides its answer; nothing where nothing was fitted."""
    trust = evidence.trust
    if trust is None:
        return []
    sections = [calibration_section(trust.calibration)]
    if trust.points or trust.benefit:
        fitted = FITTED[trust.safeguards.fitted_on]
        chosen = f"Thresholds were chosen on {fitted}"
        chosen += (
            "; what they reach is measured part by part, with a threshold from the other parts."
            if trust.calibration.cross_fitted
            else ", none of which is scored here."
        )
        sections.append(operating_section(trust.points, trust.benefit, evidence.facts.malignant, chosen))
    return [*sections, refer_section(trust.referral, trust.safeguards, bool(evidence.facts.malignant))]
