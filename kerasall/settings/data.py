"""Settings of the data: source, checks, split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from kerasall.settings.base import Positive, Seed, Share, Strict


def _number_for_digits(value: object) -> object:
    """12 as a word is 12."""
    return int(value) if isinstance(value, str) and value.isdecimal() and value.isascii() else value


class SyntheticSettings(Strict):
    """Rendered cells; see ``kerasall.data.synthetic``."""

    kind: Literal["cnmc", "aria"] = "cnmc"
    """cnmc: single cells cut out on black, classes all and hem; aria: fields of several cells, classes Benign,
    Early, Pre and Pro"""
    subjects_per_class: Positive = 16
    """patients of each class, up to 10,000; a patient has one class"""
    images_per_subject: Positive = 40
    """images per patient on average, up to 10,000; each patient has between half and one and a half of it"""
    size: Positive | None = None
    """side of the square images in pixels, 32 to 2048; null: 450 for cnmc, 224 for aria"""
    seed: Seed = 0
    """of all that is drawn; the same settings render the same bytes"""
    shuffle_labels: bool = False
    """permute the labels over all images, so that nothing can be learnt: a model that scores above chance has
    seen its answers"""
    exact_copies: Annotated[int, Field(ge=0)] = 0
    """images that are repeated byte by byte under another patient of their class, at most a third of a class"""
    near_copies: Annotated[int, Field(ge=0)] = 0
    """images that are repeated mirrored, turned by a quarter and a little brighter under another patient of
    their class, at most a third of a class"""
    truncated: Annotated[int, Field(ge=0)] = 0
    """images whose file ends in the middle, at most a third of a class"""


class AriaSettings(Strict):
    """The four-class set: which variant, and into how many blocks of consecutive numbers a class is cut."""

    variant: Literal["Original", "Segmented"] = "Original"
    """which of the publisher's folders is read: photographs as they are, or with everything but the blasts
    blanked"""
    blocks: Positive = 10
    """runs of consecutive file numbers that each class is cut into and that stand in for patients, at least 2;
    more and smaller blocks leak"""


class DataSettings(Strict):
    """Where the examples come from and what their classes mean."""

    source: Literal["auto", "cnmc", "aria", "folder", "csv", "records", "synthetic"] = "auto"
    """which reader takes the data; auto: the first that recognises what lies at data.path"""
    path: str | None = None
    """folder, table or records to read, relative to the config; `--data` overrides it"""
    label_csv: str | None = None
    """C-NMC's table of labels of the preliminary test part; null: looked for in the folder"""
    folds: tuple[str, ...] = ()
    """of C-NMC: the published parts to read (fold_0, fold_1, fold_2, prelim), the others are passed over; none: all"""
    malignant: tuple[str, ...] | None = None
    """class names that mean leukaemia, one word or a list; null: as the source knows them (cnmc, aria, synthetic,
    records), else none, and malignant cells called benign are not counted"""
    label: str = "auto"
    """where an image's class stands: auto, folder, folder:N (the N-th folder below data.path, 1 is the top),
    column:NAME of a table, or pattern:REGEX with a group `label` on the relative path"""
    subject: str = "auto"
    """where an image's patient stands: as for the label (group `subject`), or none: it is known that no patient
    can be told, and scores may be too good"""
    columns: dict[Literal["path", "label", "subject", "fold"], str] = Field(default={})
    """column of a table for each of path, label, subject, fold (a ready-made split), where its header has
    another name"""
    root: str | None = None
    """folder that a table's relative paths start from, relative to the config; null: the table's own"""
    classes: tuple[str, ...] | dict[str, tuple[str, ...]] | None = None
    """the classes to use, in class order, or new name -> names in the data that it joins; images of other
    classes are left out; null: all"""
    sixteen_bit: Annotated[
        Literal["full", "minmax"] | Annotated[int, Field(ge=8, le=15)], BeforeValidator(_number_for_digits)
    ] = "full"
    """how 16-bit samples of PNG and TIFF become 8 bits, here and in the exported model. full: value // 256; a number of
    bits, such as 12: value // 16, for cameras that use no more of the 16, and a greater value makes a file unreadable;
    minmax: (value - min) * 255 // (max - min) of each image, which hides how bright it is"""
    corrections: tuple[str, ...] = ()
    """files of corrected labels, the first to be applied first; see `kerasall review`"""
    aria: AriaSettings = AriaSettings()
    """of source aria alone, the four-class set"""
    synthetic: SyntheticSettings = SyntheticSettings()
    """of source synthetic alone: what to render"""


class NearDuplicates(Strict):
    """See ``kerasall.data.duplicates.NearDuplicateSettings``; absent values take its defaults."""

    enabled: bool = True
    """look for near duplicates, which a split must not divide; false: byte-identical copies alone are found"""
    nominate: Share | None = None
    """correlation of two thumbnails' textures from which on a pair is looked at closely; null: 0.55"""
    confirm: Share | None = None
    """correlation of the aligned textures at 128 pixels from which on a pair counts as copies; null: 0.62;
    copies that were compressed, resized, shifted or turned reach 0.66 to 0.8"""
    max_subjects: Positive = 3
    """most patients that one group of near duplicates may join; more is an error, as they may be no copies"""
    max_share: Share = 0.05
    """largest share of all images that one group of near duplicates may hold; more is an error"""


class CheckSettings(Strict):
    """What is looked for before anything trains."""

    near_duplicates: NearDuplicates = NearDuplicates()
    """the search for copies that were changed: compressed, resized, shifted, turned"""
    two_label_subjects: Literal["error", "warning"] = "error"
    """what a patient with images of two classes is: an error stops the run"""
    schema_file: str | None = None
    """a pinned schema.json, relative to the config, that the data must match; null: inferred from the data"""
    unreadable: Literal["error", "leave_out"] = "error"
    """whether images that cannot be read stop the run or are left out and listed"""
    fewest_images: Positive = 20
    """images that every class of a folder or table must have before a run begins"""
    max_side: Positive = 8192
    """longest side in pixels of an image that is decoded; larger ones cannot be read"""
    max_pixels: Positive = 50_000_000
    """most pixels of an image that is decoded; larger ones cannot be read"""


class SplitSettings(Strict):
    """How examples are parted. Groups (subjects joined with duplicate clusters) are never divided."""

    kind: Literal["holdout", "folds", "official_folds", "given"] = "holdout"
    """holdout: training, validation and test part; folds: each held out once; official_folds: the publisher's
    folds; given: ready-made parts that the data state"""
    validation: Share = 0.2
    """share of the images, in whole groups, on which epochs and thresholds are decided; of a holdout split alone
"""
    test: Share = 0.2
    """share of the images, in whole groups, that is opened once for the score; of a holdout split alone; unread
    where test_folds are named"""
    test_folds: tuple[str, ...] = ()
    """the publisher's parts that are the test part"""
    selection: Share = 0.0
    """share of the part on which a faithful copy chooses and is scored, as its paper was; of a holdout split
    alone"""
    selection_folds: tuple[str, ...] = ()
    """the publisher's parts that are that part"""
    subjects: dict[Literal["validation", "test", "selection"], tuple[str, ...]] = Field(default={})
    """part -> ids of the patients that are it, where a paper or a study states them, instead of a share; all others are
    dealt out by the shares; of a holdout split alone"""
    unit: Literal["group", "image"] = "group"
    """what is dealt out whole: group (a patient with all copies of its images), or image, which leaks: for
    copies of papers that did so"""
    folds: Annotated[int, Field(ge=2)] = 5
    """number of folds, of kind folds alone"""
    inner_validation: Share = 0.15
    """share of a fold's training images on which its epochs are decided; 0 fixes the epochs; the held-out fold
    decides nothing"""
    training_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """share of the training groups to train on; see `kerasall run --learning-curve`"""
    file: str | None = None
    """a frozen split.json of an earlier run, relative to the config, that is used again instead of drawing one
"""
    joined: Literal["drop", "keep"] = "drop"
    """images of patients that stand in a held-out part under another subject id, where the publisher's folds or parts
    are kept: drop trains on none of them; keep drops copies alone, for comparison: never blessed"""
    on_leak: Literal["stop", "report"] = "stop"
    """what a patient or copy on two sides does: stop the run, or be listed in the report (protocol faithful
    alone)"""

    @property
    def has_test(self) -> bool:
        """Whether some images are kept for the score alone."""
        return bool(
            self.test_folds or "test" in self.subjects or (self.kind in ("holdout", "given") and self.test)
        )

    @property
    def has_validation(self) -> bool:
        """Whether a holdout split has a part on which epochs and thresholds are decided."""
        return bool(self.validation or "validation" in self.subjects)

    @property
    def has_selection(self) -> bool:
        """Whether there is a part on which a faithful copy chooses and is scored."""
        return bool(self.selection or self.selection_folds or "selection" in self.subjects)

    @model_validator(mode="after")
    def _a_published_part_is_one(self) -> SplitSettings:
        if both := sorted({*self.test_folds} & {*self.selection_folds}):
            raise ValueError(
                f"split.test_folds and split.selection_folds must differ, but both name {', '.join(both)}: leave it out of one"
            )
        return self

    @model_validator(mode="after")
    def _subjects_are_parts_of_their_own(self) -> SplitSettings:
        names = [name for part in self.subjects.values() for name in part]
        for part, stated in self.subjects.items():
            if not stated or "" in stated:
                raise ValueError(
                    f"split.subjects.{part} must name at least one patient, and none by an empty name, but is "
                    f"{list(stated)}: name them, or leave {part} out of split.subjects"
                )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"split.subjects must name a patient once, but {', '.join(twice)} is there twice: leave one out"
            )
        if self.subjects and (self.kind != "holdout" or self.unit == "image"):
            raise ValueError(
                "split.subjects needs split.kind: holdout and split.unit: group, but they are "
                f"{self.kind} and {self.unit}: leave it out (split.subjects: {{}}), or them"
            )
        if both := [part for part in self.subjects if getattr(self, f"{part}_folds", ())]:
            raise ValueError(
                f"the {both[0]} part is either split.subjects or split.{both[0]}_folds, not both: leave one out"
            )
        return self
