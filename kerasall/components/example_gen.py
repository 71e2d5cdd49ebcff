"""ExampleGen: from a data source to the table of examples."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from kerasall.data.examples import Collection, read_examples, write_attributes, write_collection
from kerasall.data.label_corrections import KINDS, apply_corrections, write_corrections
from kerasall.data.own_images import name_classes, pick_classes
from kerasall.data.sources import detect_source, read_source
from kerasall.data.spelling import is_placeholder, join_spellings
from kerasall.errors import DataError, SettingsError
from kerasall.files import sha256_of_file, sha256_of_json
from kerasall.pipeline.component import Output, Unkeyed, component
from kerasall.settings import DataSettings

MOST_VALUES = 20
"""Most different values of such a column: with more, subgroups are too small to say anything."""
OWN_IMAGES = ("folder", "csv")
"""Sources that hold a person's own images. The others say themselves what their classes and patients are."""


def list_files(data: DataSettings) -> str | None:
    """Digest of names, sizes and times of the files that the reader finds, and of corrections' contents.

    None for rendered cells that nobody corrected.
    """
    corrected = [sha256_of_file(path) for path in data.corrections if Path(path).is_file()]
    if data.source == "synthetic":
        return sha256_of_json(corrected) if corrected else None
    root = _require_path(data)
    listed = [Path(path) for path in read_collection_of(data, Path()).examples["path"]]
    tables = [path for path in (root, Path(data.label_csv or root)) if path.is_file()]
    return sha256_of_json([*corrected, *([str(p), _size_and_times(p)] for p in [*tables, *listed])])


def files_exist(outputs: Mapping[str, Path]) -> bool:
    """Whether every listed image is still there; rendered cells lie in a cache that may be deleted."""
    return all(map(os.path.exists, read_examples(outputs["examples"] / "examples.csv")["path"]))


@component(fingerprint=list_files, still_valid=files_exist)
def example_gen(
    data: DataSettings,
    examples: Annotated[Path, Output("Examples")],
    cache_folder: Annotated[Path, Unkeyed()],
    attributes: Annotated[Path, Output("Attributes")],
    subgroups: Sequence[str] = (),
) -> dict[str, Any]:
    """Reads the names, labels and subjects of a data source; no pixel is read.

    Each row also carries the file's size and times, so that a changed file reruns what follows.
    Corrections of labels are applied here, and what they changed is kept beside the table. The columns ``subgroups``
    become an artifact of their own, which the Evaluator reads, and a Tuner whose noise
    divides the scored images by them: to name others trains nothing again.
    """
    read = read_collection_of(data, cache_folder, subgroups)
    write_attributes(tabulate_attributes(read, subgroups), attributes)
    collection, corrected = apply_corrections(read, data.corrections)
    collection.examples["state"] = [_size_and_times(Path(p)) for p in collection.examples["path"]]
    write_collection(collection, examples)
    write_corrections(corrected, examples)
    counts = (
        {f"labels_{kind}": sum(file.count(kind) for file in corrected) for kind in KINDS} if corrected else {}
    )
    return {"images": len(collection.examples), "source": collection.source, **counts}


def tabulate_attributes(collection: Collection, subgroups: Sequence[str]) -> pd.DataFrame:
    """One row an image: its id, and what the named columns say of it, spellings of one value joined, "" for not known.

    Raises:
        DataError: a column has too many values to score each.
    """
    ids = collection.examples["id"]
    table = pd.DataFrame({"id": ids})
    for name in subgroups:
        said = collection.examples["fold"] if name == "fold" else ids.map(collection.attributes[name])
        known = said.where(~said.map(is_placeholder), "")
        spelled = join_spellings(Counter(known[known != ""]))
        table[name] = known.map(lambda value, spelled=spelled: spelled.get(value, ""))
        if (count := table[name].nunique()) > MOST_VALUES:
            raise DataError(
                f"a column of evaluate.subgroups or tune.noise.scored.column must have at most {MOST_VALUES} different values, but {name!r} has {count:,}: "
                "join them in the table (ages by decades, for example), or leave it out"
            )
    return table


def read_collection_of(data: DataSettings, cache_folder: Path, subgroups: Sequence[str] = ()) -> Collection:
    """The collection that ``data`` describes, with the malignant classes it names.

    Args:
        data: settings.
        cache_folder: of rendered cells.
        subgroups: columns of a table whose values become attributes; fold is known of every source.

    Raises:
        SettingsError: no path is set for a source that reads files, a setting is for another source, or a class is named
            that is not there.
        DataError: the source does not hold what its reader expects.
    """
    columns = [name for name in subgroups if name != "fold"]
    if data.source == "synthetic":
        _require_table(columns, "synthetic")
        _require_no_folds(data, "synthetic", "what is rendered")
        from kerasall.data.synthetic import SyntheticSettings, render_cells

        settings = SyntheticSettings(**data.synthetic.model_dump())
        collection = render_cells(
            cache_folder / "synthetic" / sha256_of_json(data.synthetic.model_dump())[:16], settings
        )
    else:
        path = _require_path(data)
        name = detect_source(path) if data.source == "auto" else data.source
        _require_table(columns, name)
        kept = {"keep": columns} if columns else {}
        collection = read_source(name, path, **_options(data, name, path), **kept)
    collection = replace(collection, sixteen_bit=data.sixteen_bit)
    if data.classes and collection.source not in OWN_IMAGES:
        collection = pick_classes(collection, data.classes)
    if data.malignant is None:
        return collection
    return replace(collection, malignant=name_classes(data.malignant, collection.labels, "data.malignant"))


def _require_table(columns: Sequence[str], name: str) -> None:
    if columns and name != "csv":
        raise SettingsError(
            f"evaluate.subgroups and tune.noise.scored.column must name columns of a table of images, or fold, but {', '.join(columns)} "
            f"is asked of the source {name}: list the images in a table with these columns, or leave them out"
        )


def _require_no_folds(data: DataSettings, name: str, what: str | Path) -> None:
    if data.folds and name != "cnmc":
        raise SettingsError(
            f"data.folds names published parts of C-NMC, but {what} is read as the source {name}: take it out"
        )


def _options(data: DataSettings, name: str, path: Path) -> dict[str, Any]:
    """What the reader is given; of a lab's own images what was said of them."""
    _require_no_folds(data, name, path)
    said = ("label", "subject", "columns", "root", "classes")
    stated = [key for key in said if getattr(data, key) != DataSettings.model_fields[key].default]
    if name in OWN_IMAGES:
        return {key: getattr(data, key) for key in stated}
    for key in stated:
        if key != "classes":
            raise SettingsError(
                f"data.{key} is for folders and tables of your own, but {path} is read as the source {name}: take it out, or "
                "set data.source: folder"
            )
    by_source = {"aria": data.aria.model_dump(), "cnmc": {"label_csv": data.label_csv, "folds": data.folds}}
    return by_source.get(name, {})


def _require_path(data: DataSettings) -> Path:
    if not data.path:
        raise SettingsError(
            f"data.path must name the folder of the {data.source} images, but is not set: "
            "give --data PATH, or write data.path into the config"
        )
    path = Path(data.path).expanduser().absolute()
    if not path.exists():
        raise SettingsError(f"the data path {path} must exist, but does not: correct --data or data.path")
    return path


def _size_and_times(path: Path) -> str:
    """Size, and both times: a copy that keeps the time of the content still changes the other."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
