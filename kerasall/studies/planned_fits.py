"""How often an experiment trains, and on how many images an epoch: from names and settings, before a pixel is read.

The split is drawn as the run will draw it. Only what the pixels tell is missing: copies that the search for duplicates
finds join groups, and may move a few images from one part to another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kerasall.settings import DataSettings, Settings, TrainSettings

# The processes that build the networks import this, too, and quieten TensorFlow themselves: nothing here loads it.
if TYPE_CHECKING:
    import numpy as np

    from kerasall.data.development import Development
    from kerasall.data.examples import Collection
    from kerasall.data.splits import Split


@dataclass(frozen=True)
class Fit:
    """A training of a network: its rows, and how often it is done on as many.

    Attributes:
        name: of the fold that is held out, ``holdout``, ``final`` (on all folds), or ``features``.
        images: that an epoch visits, oversampled ones among them; None where the data are not known.
        runs: how often, with other seeds or settings.
    """

    name: str
    images: int | None
    runs: int = 1

    def steps(self, batch_size: int) -> int | None:
        """Steps of the optimizer an epoch."""
        return None if self.images is None else -(-self.images // batch_size)


def plan_split(settings: Settings) -> tuple[Split, Development] | None:
    """The split as it will be drawn, and what of it is developed on; None where no data path is set.

    Raises:
        KerasallError: the data do not hold what their reader expects, or cannot be split so.
    """
    from kerasall.components.transform import HIDDEN, draw_split
    from kerasall.data.development import Development, facts_of, without_parts
    from kerasall.data.splits import keep_training_share

    data = settings.data
    if data.source != "synthetic" and not data.path:
        return None
    collection = _list_examples(data)
    drawn = draw_split(collection, settings.split, [], settings.seed, "")
    drawn = keep_training_share(drawn, settings.split.training_share)
    table = collection.examples.merge(drawn.table[["id", "group", "part"]], on="id", validate="one_to_one")
    shown = table[~table["part"].isin(HIDDEN)].reset_index(drop=True)
    return drawn, Development(shown, without_parts(drawn, HIDDEN), facts_of(collection, ""), [])


def _list_examples(data: DataSettings) -> Collection:
    """The collection; rendered cells are listed, not rendered."""
    from kerasall.components.example_gen import read_collection_of
    from kerasall.data.synthetic import SyntheticSettings, list_cells

    if data.source != "synthetic":
        return read_collection_of(data, Path())
    cells = list_cells(Path(), SyntheticSettings(**data.synthetic.model_dump()))
    return cells if data.malignant is None else replace(cells, malignant=data.malignant)


def describe_split(drawn: Split) -> str:
    """How many images stand in each part."""
    counts = drawn.table["part"].value_counts()
    parts = ", ".join(
        f"{part} {counts[part]:,}" for part in [*drawn.parts, *set(counts.index) - {*drawn.parts}]
    )
    return (
        f"images: {len(drawn.table):,} ({parts}), as far as names tell: copies that are found may move some"
    )


def plan_fits(
    settings: Settings, data: Development | None, train: TrainSettings, *, compared: bool = False,
    runs: int = 1, finals: int = 1,
) -> tuple[Fit, ...]:  # fmt: skip
    """Every training of one network with its images.

    Args:
        settings: of the experiment.
        data: that ``plan_split`` gave; None where they are not known.
        train: of the network.
        compared: whether cells are compared (a sweep), whose epochs nothing decides.
        runs: how often every division is trained.
        finals: trainings on all folds, where there are folds.

    Returns:
        Empty where the data alone could tell how many there are.
    """
    split = settings.split
    if data is None:
        if split.kind not in ("holdout", "folds") or split.file:
            return ()
        folded = split.kind == "folds"
        names = [f"fold_{number}" for number in range(split.folds)] if folded else ["holdout"]
        ends = [Fit("final", None, finals)] if folded and finals else []
        return (*(Fit(name, None, runs) for name in names), *ends)

    from kerasall.components.classifier_training import balance_rows

    def count(rows: np.ndarray) -> int:
        return len(balance_rows(data.labels, data.facts.labels, rows, train.oversample, settings.seed))

    divisions = data.divide(
        data.compared if compared else data.recorded, 0.0 if compared else split.inner_validation
    )
    fits = [Fit(division.name, count(division.fitted), runs) for division in divisions]
    if data.split.folds and finals:
        fits.append(Fit("final", count(data.training_rows), finals))
    return tuple(fits)


def plan_features(settings: Settings, data: Development | None) -> tuple[Fit, ...]:
    """The passes through a frozen network: of the images, and of their changed copies."""
    assert settings.deep_features is not None
    copies = settings.deep_features.augmented_copies if settings.augment is not None else 0
    return (Fit("features", None if data is None else len(data.examples), 1 + copies),)
