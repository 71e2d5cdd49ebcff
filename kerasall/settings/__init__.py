"""The settings of an experiment, row by row: names, kinds, ranges, defaults. Strict and frozen."""

from kerasall.settings.data import CheckSettings, DataSettings, SplitSettings, SyntheticSettings
from kerasall.settings.experiment import BlessSettings, CalibrateSettings, EvaluateSettings, Settings
from kerasall.settings.study import StudySettings
from kerasall.settings.systems import (
    BackboneSettings,
    DeepFeatureSettings,
    EnsembleSettings,
    ExtractorSettings,
    HeadSettings,
    MemberSettings,
    ModelSettings,
    OptimizerSettings,
    StageSettings,
    SweepSettings,
    TrainSettings,
    TrialSettings,
    TuneSettings,
)

__all__ = [
    "BackboneSettings", "BlessSettings", "CalibrateSettings", "CheckSettings", "DataSettings", "DeepFeatureSettings",
    "EnsembleSettings", "EvaluateSettings", "ExtractorSettings", "HeadSettings", "MemberSettings", "ModelSettings",
    "OptimizerSettings", "Settings", "SplitSettings", "StageSettings", "StudySettings", "SweepSettings", "SyntheticSettings", "TrainSettings", "TrialSettings",
    "TuneSettings",
]  # fmt: skip
