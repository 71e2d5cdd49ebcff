"""What the authors state of a study and no run can know: texts for the report and the checklists of reviewers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, model_serializer

from kerasall.settings.base import Strict


def _as_statement(value: Any) -> Any:
    """A text without blanks at its ends; a year is one, too. 2019.10 is refused: as a number it would be 2019.1."""
    if value is None:
        return ""
    if isinstance(value, bool | float):
        raise ValueError("must be a text: put it in quotation marks")
    return str(value).strip() if isinstance(value, str | int) else value


Statement = Annotated[str, BeforeValidator(_as_statement)]
"""Words of the authors; "" where they state nothing."""


class StudySettings(Strict):
    """What the authors state of the study. It changes no number: the report alone is made again for it."""

    title: Statement = ""
    """title of the study, which names the method (deep learning), the disease, and whose images they are"""
    background: Statement = ""
    """the clinical question, why a model is made for it, and which models there are"""
    objectives: Statement = ""
    """what the study asks, and its hypotheses if it has some"""
    intended_use: Statement = ""
    """what the model is for, for which patients, where in their care, and who uses it"""
    inequalities: Statement = ""
    """known differences in health, or in access to care, between groups of people with this disease"""
    design: Statement = ""
    """prospective or retrospective: whether the data were collected for this study, and which kind of study it is"""
    model_rationale: Statement = ""
    """why this kind of model, and these settings of it"""
    data_source: Statement = ""
    """where the images come from, why they were taken, and the address or publication of a public data set"""
    setting: Statement = ""
    """the centres: how many, where, and of which kind"""
    dates: Statement = ""
    """first and last day on which patients were seen"""
    eligibility: Statement = ""
    """which patients and which images were taken in, and which were not, in the order it was decided"""
    recruitment: Statement = ""
    """how patients were found (symptoms, earlier tests, a register), and whether in sequence, at random or as it came"""
    treatments: Statement = ""
    """treatments before the images were made"""
    acquisition: Statement = ""
    """how the images were made: smear, stain, microscope, magnification, camera, and who chose or cut out the cells"""
    deidentification: Statement = ""
    """how names and other marks of persons were removed"""
    reference_standard: Statement = ""
    """what the true class of an image or patient rests on, and from which finding on it counts, so that others can
    repeat it"""
    reference_rationale: Statement = ""
    """why this reference standard and no other"""
    labellers: Statement = ""
    """who labelled the images, those of the test part too: how many, how experienced, with which instructions and tools"""
    agreement: Statement = ""
    """how far labellers agree with each other and with themselves, and how they settled what they disagreed on"""
    blinding: Statement = ""
    """what the labellers knew of the patients, of each other's labels and of a model's answers"""
    time_between: Statement = ""
    """time, and treatments, between the image and the reference standard"""
    indeterminate: Statement = ""
    """what became of images or patients whose reference standard was unclear"""
    missing_data: Statement = ""
    """what was missing (images, labels, patients), why, and what was done about it"""
    demographics: Statement = ""
    """age, sex and clinical features of the patients, if they can be told in every part"""
    severity: Statement = ""
    """how far the disease had gone in those who have it, and what the others had instead"""
    representativeness: Statement = ""
    """how far the patients are like those the model is meant for, and how development and test data differ"""
    sample_size: Statement = ""
    """how the numbers of patients and images came about"""
    analysis_rationale: Statement = ""
    """why these measures of performance and these thresholds, and which of them were settled before any score was seen"""
    fairness: Statement = ""
    """what was done so that the model is as good for every group of people, or why nothing was"""
    adverse_events: Statement = ""
    """harm that came from taking the sample or from the reference standard"""
    interpretation: Statement = ""
    """what the results mean beside the aims and beside earlier studies"""
    limitations: Statement = ""
    """what limits the study, beside what the report says of itself"""
    implications: Statement = ""
    """what follows for practice"""
    users: Statement = ""
    """what users of the model have to do and to know, and what they do with poor images"""
    next_steps: Statement = ""
    """what is to be studied next, above all elsewhere"""
    involvement: Statement = ""
    """how patients and the public took part, or that they did not"""
    ethics: Statement = ""
    """the committee that approved the study and its number, and the patients' consent or its waiver"""
    registration: Statement = ""
    """register and number of the study, or that it was not registered"""
    protocol: Statement = ""
    """where the study's protocol can be read, or that there is none"""
    funding: Statement = ""
    """who paid for the study, and what part they had in it"""
    conflicts: Statement = ""
    """interests of the authors, commercial ones above all"""
    data_availability: Statement = ""
    """whether and where others get the data"""
    code_availability: Statement = ""
    """whether and where others get the code and the model"""

    @model_serializer
    def _only_what_is_stated(self) -> dict[str, str]:
        """What is empty is left out of settings that are written, where forty empty lines would hide the others."""
        return {name: text for name in type(self).model_fields if (text := getattr(self, name))}
