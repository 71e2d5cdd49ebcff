"""The settings of an experiment, row by row: names, kinds, ranges, defaults. Strict and frozen."""

from __future__ import annotations

from kerasall.settings.base import Positive, Protocol, Share, Strict
from kerasall.settings.data import (
    AriaSettings,
    CheckSettings,
    DataSettings,
    NearDuplicates,
    SplitSettings,
    SyntheticSettings,
)
from kerasall.settings.experiment import Settings
from kerasall.settings.judgement import BlessSettings, CalibrateSettings, EvaluateSettings, ServeSettings
from kerasall.settings.systems import (
    BackboneSettings,
    DeepFeatureSettings,
    EnsembleSettings,
    ExtractorSettings,
    FeatureChoice,
    MemberSettings,
    SweepChoice,
    SweepSettings,
    TrialSettings,
    TuneSettings,
)
from kerasall.settings.training import (
    HeadSettings,
    ModelSettings,
    OptimizerSettings,
    StageSettings,
    TrainSettings,
)

__all__ = [
    "AriaSettings",
    "BackboneSettings",
    "BlessSettings",
    "CalibrateSettings",
    "CheckSettings",
    "DataSettings",
    "DeepFeatureSettings",
    "EnsembleSettings",
    "EvaluateSettings",
    "ExtractorSettings",
    "FeatureChoice",
    "HeadSettings",
    "MemberSettings",
    "ModelSettings",
    "NearDuplicates",
    "OptimizerSettings",
    "Positive",
    "Protocol",
    "ServeSettings",
    "Settings",
    "Share",
    "SplitSettings",
    "StageSettings",
    "Strict",
    "SweepChoice",
    "SweepSettings",
    "SyntheticSettings",
    "TrainSettings",
    "TrialSettings",
    "TuneSettings",
]
