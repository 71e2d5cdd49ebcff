"""A lab's own images, listed in a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from kerasall.data.examples import Collection
from kerasall.data.locations import Location, parse_location
from kerasall.data.own_images import Classes, find_counted_again, make_collection
from kerasall.data.spelling import key_of
from kerasall.errors import DataError, SettingsError, did_you_mean, near_names
from kerasall.listing import tables
from kerasall.listing.columns import ROLES, find_column, find_columns
from kerasall.listing.folders import is_image_name, list_some
from kerasall.listing.written_paths import FolderIndex, find_as_written, is_absolute, split_path
from kerasall.paths import folder_of

Row = dict[str, str]
"""What one line says, by role: the path as it is written."""


def read_table(
    path: str | Path, label: str = "auto", subject: str = "auto", columns: Mapping[str, str] | None = None,
    root: str | Path | None = None, classes: Classes | None = None, keep: Sequence[str] = (),
) -> Collection:  # fmt: skip
    """Reads a table of images: CSV and its kin, Excel, Parquet, JSON lines; see ``kerasall.listing.tables``.

    Columns are told by their names in four languages (``kerasall.listing.columns``); those without a use are left
    out with a warning. A path that leads nowhere is looked for below ``root``: without the drive and the folders of
    another machine, in another case, in a subfolder, without its suffix; what is found so is told in a warning.

    Args:
        path: the table.
        label: where the class stands: auto (in a column), column:NAME, folder:N (the N-th folder of the path below
            ``root``), or pattern:REGEX with a group ``label``, searched in the path below ``root``.
        subject: where the patient stands: likewise, with a group ``subject``, or none.
        columns: role (path, label, subject, fold) -> name of its column, where it cannot be told.
        root: folder that relative paths start from; by default the table's own.
        classes: as ``make_collection``.
        keep: names of further columns, whose values become the collection's attributes.

    Raises:
        SettingsError: an option is none of these.
        DataError: what is wrong with the table, all in one message, each problem with its lines and its cure.
    """
    file = _absolute(path)
    folder = folder_of(file).absolute() if root is None else _absolute(root)
    locations = {
        "label": parse_location(label, "data.label"),
        "subject": parse_location(subject, "data.subject"),
    }
    named = _name_columns(locations, columns or {})
    table = tables.read_table(file, "a table of images")
    if not table.columns:
        raise DataError(
            f"{file} must be a table of images, but is empty: fill it, with the names of columns first"
        )
    problems, warnings = list(table.problems), list(table.notes)
    elsewhere = [role for role, place in locations.items() if place.kind in ("none", "folder", "pattern")]
    places = _find_places(table, [role for role in ROLES if role not in elsewhere], named, problems)
    kept = _find_kept(table, keep, problems)
    rows = {
        number: {role: line[at] for role, at in (places | kept).items()}
        for number, line in table.lines.items()
    }
    _require_filled(rows, ["path", "label"], problems)
    written = {number: row["path"] for number, row in rows.items() if row.get("path")}
    found = _locate(written, folder, file, problems, warnings)
    rows = {number: _place(rows[number], path, folder) for number, path in found.items()}
    for role, location in locations.items():
        if role in elsewhere and location.kind != "none":
            _read_from_paths(rows, role, location, problems, warnings)
    rows = _join_repeated(rows, problems, warnings, list(kept))
    if problems:
        raise DataError(_describe(file, problems))
    # Whichever columns are kept, the same words: a warning is read by steps that know nothing of subgroups.
    if unused := [name or "(no name)" for at, name in enumerate(table.columns) if at not in places.values()]:
        warnings.append(
            f"columns without a use here were left out: {list_some(unused)} (but for those that evaluate.subgroups names)"
        )
    if again := find_counted_again(rows.values()):
        warnings.append(
            f"numbers of patients such as {list_some(again, 3)} come back under several classes and are taken for the same "
            "patients; if every class counts its own, write the class in front of them"
        )
    if "subject" in named:
        subject = f"column:{named['subject']}"
    notes = _describe_reading(table, places, locations, next(iter(rows.values()), {}))
    collection = make_collection(
        "csv", folder, list(rows.values()), classes=classes, subject=subject, notes=notes, warnings=warnings
    )
    said = {name: {row["id"]: row[_kept(name)] for row in rows.values()} for name in keep}
    return replace(collection, attributes=said)


def _kept(name: str) -> str:
    """Key in a row of a column that is kept beside the roles."""
    return f"column {name}"


def _describe_reading(
    table: tables.Table, places: Mapping[str, int], locations: Mapping[str, Location], first: Row
) -> list[str]:
    """What each column was taken for, by the first image; nothing of a table whose columns are called by their roles."""
    words = {"path": "path", "label": "class", "subject": "patient", "fold": "ready-made part"}
    read = {role: f"column {table.columns[at]}" for role, at in places.items()}
    read |= {
        role: f"its path ({at.setting})" for role, at in locations.items() if at.kind in ("folder", "pattern")
    }
    if not first or all(where == f"column {role}" for role, where in read.items()):
        return []
    said = [
        f"{words[role]} {first['id' if role == 'path' else role] or '(none)'} from {read[role]}"
        for role in words
        if role in read
    ]
    return [f"The table is read as in {', '.join(said)}."]


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _describe(file: Path, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{file}: {problems[0]}"
    return "\n- ".join([f"{file} must be a table of images, but has {len(problems)} faults:", *problems])


# --- which column is which


def _name_columns(locations: Mapping[str, Location], columns: Mapping[str, str]) -> dict[str, str]:
    """Role -> name of the column that somebody named for it."""
    named = dict(columns)
    if unknown := sorted(set(named) - set(ROLES)):
        raise SettingsError(
            f"data.columns must name columns for some of {list(ROLES)}, but has {unknown}: correct it"
        )
    for role, location in locations.items():
        if location.kind == "folder" and location.folder is None:
            raise SettingsError(
                f"data.{role} of a table must say which folder of its paths is meant, but is only folder: set folder:1 for "
                "the first of the path"
            )
        if location.kind in ("none", "folder", "pattern") and role in named:
            raise SettingsError(
                f"the {role} must stand in one place, but data.{role} is {location.kind} and data.columns names "
                f"{named[role]!r}: remove one"
            )
        if location.kind == "column" and named.setdefault(role, location.column) != location.column:
            raise SettingsError(
                f"data.{role} and data.columns must name the same column for the {role}, but name {location.column!r} and "
                f"{named[role]!r}: remove one"
            )
    return named


def _find_places(
    table: tables.Table, roles: Iterable[str], named: Mapping[str, str], problems: list[str]
) -> dict[str, int]:
    """Role -> place of its column."""
    places = {}
    for role in roles:
        if role in named:
            at = find_column(table.columns, named[role])
            if at is None:
                near = near_names(named[role], [name for name in table.columns if name])
                problems.append(
                    f"the column {named[role]!r} is named for the {role}, but is not there"
                    f"{f' (is {near[0]!r} meant?)' if near else ''}: {_list_columns(table)}"
                )
            found = [] if at is None else [at]
        else:
            found = find_columns(table.columns, role)
            if len(found) > 1:
                names = [table.columns[at] for at in found]
                problems.append(
                    f"one column must hold the {role}, but {' and '.join(map(repr, names))} may: say which by "
                    f"data.columns: {{{role}: {names[0]}}} (--set 'data.columns.{role}={names[0]}')"
                )
            elif not found and role in ("path", "label"):
                problems.append(_describe_absent(role, table))
        if len(found) == 1:
            places[role] = found[0]
    for at in {at for at in places.values() if list(places.values()).count(at) > 1}:
        sharing = [role for role, place in places.items() if place == at]
        problems.append(
            f"one column cannot be {' and '.join(sharing)}, but {table.columns[at]!r} is: correct data.columns"
        )
    return places


def _find_kept(table: tables.Table, keep: Iterable[str], problems: list[str]) -> dict[str, int]:
    """Key in a row -> place of every column that is kept."""
    places = {_kept(name): find_column(table.columns, name) for name in keep}
    for name in keep:
        if places[_kept(name)] is None:
            hint = did_you_mean(name, [each for each in table.columns if each])
            problems.append(
                f"the column {name!r} is named by evaluate.subgroups or tune.noise.scored.column, but is not there{f' ({hint})' if hint else ''}: "
                f"{_list_columns(table)}"
            )
    return {key: at for key, at in places.items() if at is not None}


def _describe_absent(role: str, table: tables.Table) -> str:
    if image := next(filter(is_image_name, table.columns), ""):
        cure = f"{image} is an image and no name: write a line with the names of the columns above it"
    else:
        cure = f"say which it is by data.columns: {{{role}: NAME}} (--set data.columns.{role}=NAME)"
    if role == "label":
        cure += ", or, if the path tells the class, set data.label to folder:N or pattern:REGEX"
    known = ", ".join(ROLES[role][0][:3] + ROLES[role][1][:3])
    read = [note for note in table.notes if "#" in note or "sheets" in note]
    above = f" ({'; '.join(read)})" if read else ""
    return (
        f"no column is known as the {role} by its name ({known}, ...): {_list_columns(table)}{above}; {cure}"
    )


def _list_columns(table: tables.Table) -> str:
    return f"the columns are {list_some([name or '(no name)' for name in table.columns], 20)}"


# --- what the rows say


def _require_filled(rows: Mapping[int, Row], roles: Iterable[str], problems: list[str]) -> None:
    for role in roles:
        if empty := [number for number, row in rows.items() if row.get(role) == ""]:
            problems.append(
                f"every row must give a {role}, but {_list_lines(empty)} not: fill it in, or remove the row"
            )


def _list_lines(numbers: Sequence[int]) -> str:
    one = len(numbers) == 1
    return f"line{'' if one else 's'} {list_some([str(n) for n in numbers], 10)} do{'es' if one else ''}"


def _locate(
    written: Mapping[int, str], root: Path, file: Path, problems: list[str], warnings: list[str]
) -> dict[int, str]:
    """Line -> path of its image."""
    if not root.is_dir():
        problems.append(f"data.root must be the folder that paths start from, but {root} is none: correct it")
        return {}
    found = {number: path for number, name in written.items() if (path := find_as_written(root, name))}
    missing = [number for number in written if number not in found]
    if not missing:
        return found
    index = FolderIndex.of(root)
    images = _search(index, {number: written[number] for number in missing}, some_found=bool(found))
    once = {number: str(root.joinpath(*hits[0])) for number, hits in images.items() if len(hits) == 1}
    if once:
        first = next(iter(once))
        warnings.append(
            f"{len(once)} paths were found below {root} otherwise than they are written, such as {written[first]} in "
            f"line {first} as {'/'.join(images[first][0])}: look whether that is right"
        )
    if several := {number: hits for number, hits in images.items() if len(hits) > 1}:
        number, hits = next(iter(several.items()))
        problems.append(
            f"every path must mean one image, but {_list_lines(list(several))} not: {written[number]} may be "
            f"{list_some(['/'.join(hit) for hit in hits])}; write the folder as well"
        )
    if gone := [number for number, hits in images.items() if not hits]:
        named = list_some([f"{written[number]} in line {number}" for number in gone])
        problems.append(
            f"every image must exist, but {len(gone)} of {len(written)} do not: {named}; paths start from {root}: "
            f"{_hint(written[gone[0]], index, file)}"
        )
    return {number: path for number in written if (path := found.get(number) or once.get(number))}


def _search(
    index: FolderIndex, written: Mapping[int, str], some_found: bool
) -> dict[int, list[tuple[str, ...]]]:
    """Line -> images below the folder that its path may mean."""
    parts = {number: split_path(name) for number, name in written.items()}
    # The folders of another machine are in every path; a relative path of a table whose others fit is just wrong.
    foreign = {number for number, name in written.items() if is_absolute(name) or not some_found}
    dropped = index.find_prefix([parts[number] for number in foreign])
    if dropped is None and not some_found and all(map(is_absolute, written.values())):
        shared = takewhile(
            lambda each: len(set(each)) == 1, zip(*(names[:-1] for names in parts.values()), strict=False)
        )
        dropped = tuple(each[0] for each in shared)
    images = {}
    for number, names in parts.items():
        loses = dropped and number in foreign and names[: len(dropped)] == dropped
        images[number] = index.find(names[len(dropped) :] if loses and dropped else names)
    return images


def _hint(written: str, index: FolderIndex, file: Path) -> str:
    if find_as_written(folder_of(file), written):
        return "the first lies below the table's own folder; leave data.root out"
    alike = index.find(split_path(written)[-1:]) or index.find(
        (PurePosixPath(written.replace("\\", "/")).stem,)
    )
    near = f" (is {'/'.join(alike[0])} meant?)" if alike else ""
    return f"correct them, or set data.root to the folder that they start from (--set data.root=FOLDER){near}"


def _place(row: Row, path: str, folder: Path) -> Row:
    below = Path(path).relative_to(folder) if Path(path).is_relative_to(folder) else Path(path)
    return row | {"id": below.as_posix(), "path": path}


def _read_from_paths(
    rows: dict[int, Row], role: str, location: Location, problems: list[str], warnings: list[str]
) -> None:
    """Fills in what the paths of images say."""
    ids = [row["id"] for row in rows.values()]
    if location.folder is not None:
        folders = {name: PurePosixPath(name).parts[:-1] for name in ids}
        said = {name: "".join(each[location.folder - 1 : location.folder]) for name, each in folders.items()}
    else:
        try:
            said = location.search(ids) if ids else {}
        except DataError as error:
            problems.append(str(error))
            return
    for row in rows.values():
        row[role] = said.get(row["id"], "")
    if silent := [number for number, row in rows.items() if not row[role]]:
        found = f"{location.setting} gives no {role} for {len(silent)} of {len(rows)} paths, such as {rows[silent[0]]['id']}"
        if role == "label":
            problems.append(f"{found} in line {silent[0]}: correct it, or remove these rows")
        else:
            warnings.append(found)


def _join_repeated(
    rows: Mapping[int, Row], problems: list[str], warnings: list[str], kept: Sequence[str]
) -> dict[int, Row]:
    """One row an image: equal ones are joined, others contradict each other."""
    lines: dict[str, list[int]] = {}
    for number, row in rows.items():
        lines.setdefault(row["id"], []).append(number)
    repeated = {name: numbers for name, numbers in lines.items() if len(numbers) > 1}
    torn, equal = [], []
    for name, numbers in repeated.items():
        said = {
            role: [rows[number].get(role, "") for number in numbers]
            for role in ("label", "subject", "fold", *kept)
        }
        apart = [role for role, words in said.items() if len(set(map(key_of, words))) > 1]
        where = f"{name} in lines {', '.join(map(str, numbers))}"
        equal.append(where)
        torn += [f"{where} ({role} {', '.join(map(repr, dict.fromkeys(said[role])))})" for role in apart]
    if torn:
        problems.append(
            f"an image listed twice must be the same in both lines, but is not: {list_some(torn)}; keep one"
        )
    elif equal:
        warnings.append(
            f"{len(equal)} images are listed more than once, and were read once: {list_some(equal)}"
        )
    return {numbers[0]: rows[numbers[0]] for numbers in lines.values()}
