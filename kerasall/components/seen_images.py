"""Which images a model has seen, by the SHA-256 of their files: so that nobody scores it on them again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kerasall.components.statistics_gen import SCAN
from kerasall.data.statistics import read_scan
from kerasall.errors import ArtifactError
from kerasall.files import atomic_path

SEEN = "seen_images.csv"

"""Name of the file beside a model's card: columns sha256 and part, sorted."""


def write_seen(examples: pd.DataFrame, statistics: Path, folder: Path) -> None:
    """Writes the hash of every image that trained, stopped, calibrated or scored a model, with its part.

    Args:
        examples: table with the columns id and part.
        statistics: folder of the image scan.
        folder: where the file shall lie.
    """
    table = read_scan(statistics / SCAN).table.set_index("id")["sha256"]
    rows = pd.DataFrame(
        {"sha256": table.reindex(examples["id"]).to_numpy(), "part": examples["part"].to_numpy()}
    )
    rows = rows[rows["sha256"].fillna("") != ""].drop_duplicates().sort_values(["sha256", "part"])
    with atomic_path(folder / SEEN) as temporary:
        rows.to_csv(temporary, index=False)


def read_seen(folder: Path) -> dict[str, str] | None:
    """SHA-256 -> part of every image a model has seen; None where that was not written down.

    Raises:
        ArtifactError: the file is not such a table.
    """
    path = folder / SEEN
    if not path.is_file():
        return None
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        return dict(zip(rows["sha256"], rows["part"], strict=True))
    except (OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{path} must have the columns sha256 and part, but reading it failed: {error}"
        ) from None
