"""Settings of the data: source, checks, split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from kerasall.settings.base import Positive, Share, Strict


class SyntheticSettings(Strict):
    """Rendered cells; see ``kerasall.data.synthetic``."""

    kind: Literal["cnmc", "aria"] = "cnmc"
    subjects_per_class: Positive = 16
    images_per_subject: Positive = 40
    size: Positive | None = None
    seed: int = 0
    shuffle_labels: bool = False
    exact_copies: Annotated[int, Field(ge=0)] = 0
    near_copies: Annotated[int, Field(ge=0)] = 0
    truncated: Annotated[int, Field(ge=0)] = 0


class AriaSettings(Strict):
    """The four-class set: which variant, and into how many blocks of consecutive numbers a class is cut."""

    variant: Literal["Original", "Segmented"] = "Original"
    blocks: Positive = 10


class DataSettings(Strict):
    """Where the examples come from and what their classes mean."""

    source: Literal["auto", "cnmc", "aria", "folder", "csv", "records", "synthetic"] = "auto"
    path: str | None = None
    label_csv: str | None = None
    malignant: tuple[str, ...] | None = Field(
        default=None, description="class names that mean leukaemia, one word or a list"
    )
    label: str = Field(
        default="auto",
        description="where an image's class stands: auto, folder, folder:N (the N-th folder below data.path), "
        "column:NAME of a table, or pattern:REGEX with a group `label` on the relative path",
    )
    subject: str = Field(
        default="auto",
        description="where an image's patient stands: as for the label (group `subject`), or none: it is known that "
        "no patient can be told, and scores may be too good",
    )
    columns: dict[Literal["path", "label", "subject", "fold"], str] = Field(
        default={},
        description="column of a table for each of path, label, subject, fold (a ready-made split)",
    )
    root: str | None = Field(
        default=None, description="folder that a table's relative paths start from; default: the table's own"
    )
    classes: tuple[str, ...] | dict[str, tuple[str, ...]] | None = Field(
        default=None,
        description="the classes to use, in class order, or new name -> names in the data that it joins; "
        "images of other classes are left out",
    )
    corrections: tuple[str, ...] = Field(
        default=(),
        description="files of corrected labels, the first to be applied first; see kerasall review",
    )
    aria: AriaSettings = AriaSettings()
    synthetic: SyntheticSettings = SyntheticSettings()

    @field_validator("corrections", "malignant", "classes", mode="before")
    @classmethod
    def _one_word_is_a_list_of_one(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: (names,) if isinstance(names, str) else names for key, names in value.items()}
        return (value,) if isinstance(value, str) else value


class NearDuplicates(Strict):
    """See ``kerasall.data.duplicates.NearDuplicateSettings``; absent values take its defaults."""

    enabled: bool = True
    nominate: Share | None = None
    confirm: Share | None = None
    max_subjects: Positive = 3
    max_share: Share = 0.05


class CheckSettings(Strict):
    """What is looked for before anything trains."""

    near_duplicates: NearDuplicates = NearDuplicates()
    two_label_subjects: Literal["error", "warning"] = "error"
    schema_file: str | None = Field(
        default=None, description="a pinned schema.json; default: inferred from the data"
    )
    unreadable: Literal["error", "leave_out"] = Field(
        default="error",
        description="whether images that cannot be read stop the run or are left out and listed",
    )
    max_side: Positive = 8192
    max_pixels: Positive = 50_000_000


class SplitSettings(Strict):
    """How examples are parted. Groups (subjects joined with duplicate clusters) are never divided."""

    kind: Literal["holdout", "folds", "official_folds", "given"] = "holdout"
    validation: Share = 0.2
    test: Share = 0.2
    test_folds: tuple[str, ...] = Field(
        default=(), description="the publisher's parts that are the test part"
    )
    selection: Share = Field(
        default=0.0,
        description="share of the part on which a faithful copy chooses and is scored, as its paper was",
    )
    selection_folds: tuple[str, ...] = Field(
        default=(), description="the publisher's parts that are that part"
    )
    unit: Literal["group", "image"] = Field(
        default="group",
        description="image deals out single images, which leaks: for copies of papers that did so",
    )
    folds: Annotated[int, Field(ge=2)] = 5
    inner_validation: Share = Field(
        default=0.15,
        description="share of a fold's training images on which its epochs are decided; 0 fixes the epochs; "
        "the held-out fold decides nothing",
    )
    training_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="share of the training groups to train on; see kerasall run --learning-curve"
    )
    file: str | None = Field(default=None, description="a frozen split to use again")
    on_leak: Literal["stop", "report"] = "stop"

    @property
    def has_test(self) -> bool:
        """Whether some images are kept for the score alone."""
        return bool(self.test_folds or (self.kind in ("holdout", "given") and self.test))

    @property
    def has_selection(self) -> bool:
        """Whether there is a part on which a faithful copy chooses and is scored."""
        return bool(self.selection or self.selection_folds)
