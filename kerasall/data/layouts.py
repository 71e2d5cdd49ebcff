"""Which folder of a tree is the class, which the patient and which a part of a split, told from the paths alone.

Evidence are words (``ALL``, ``patient 3``, ``train``) and shape: a class is one of few names and stands above many
folders, each of which is under one class; names that are fewer than the folders above them, and come back under
these, are classes below patients. A doubtful patient is told, a doubtful class refused with every reading.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kerasall.data.folder_levels import MANY_NUMBERS, Level, Tree, folder_of
from kerasall.data.locations import Location
from kerasall.data.spelling import key_of
from kerasall.data.vocabulary import (
    CLASS_WORDS,
    COUNTED,
    has_part_word,
    is_class_word,
    is_code,
    is_other_word,
    is_patient_word,
    name_part,
    strip_copy_words,
)
from kerasall.errors import DataError
from kerasall.listing.folders import list_some
from kerasall.settings.yaml_text import write_yaml

_MANY_CLASSES = 30
"""More folders than these with names that say nothing are hardly classes."""
_FEW_FOLDERS = 6
"""Fewer folders whose names say nothing are hardly patients."""
_WORD = r"[^\W\d_]+"
_FILE_PATTERNS = (
    rf"^(?:.*/)?(?P<label>{_WORD})[^/]*$", r"[_-](?P<label>[^/_.-]+)\.[^/.]+$", rf"[_-](?P<label>{_WORD})[_-][^/]*$",
)  # fmt: skip
"""Where names of files have the class: in front, at the end, between."""
_RARE = 0.25
"""Share of images: a folder that fewer of them lie in is no rival for the class."""


@dataclass(frozen=True)
class Layout:
    """What the folders are: number of the folder (1 = top) that is the class, the patient, the part; None for none.

    ``warnings`` are what is doubtful.
    """

    label: int | None
    subject: int | None
    fold: int | None
    warnings: tuple[str, ...] = ()


def decide_layout(
    paths: Sequence[str],
    label: Location,
    subject: Location,
    *,
    labels: Mapping[str, str] | None = None,
    classes: Names[str] = (),
) -> Layout:
    """Decides what every folder level is.

    Args:
        paths: relative paths of the images with forward slashes, in any order.
        label: where the class stands, as somebody said; ``labels`` holds what a pattern found.
        subject: where the patient stands, as somebody said.
        labels: path -> class, where a pattern gave it.
        classes: names that are known to be classes of these data.

    Raises:
        DataError: the class is not clear, or a named folder does not exist; the message shows every reading with an
            example and its settings.
    """
    tree = _Decision(paths, frozenset(map(key_of, classes)))
    for location in (label, subject):
        tree.require_folder(location)
    if labels is not None:
        number = tree.find_labels(labels)
    elif not (number := label.folder):
        number = tree.choose_class(label, subject)
        tree.require_alike(tree.levels[number - 1], subject)
    tree = tree.narrow(number, tree.known)
    patient, warnings = tree.choose_subject(number, subject)
    if number is not None and number == patient:
        raise DataError(
            f"data.label and data.subject must name different folders, but both are folder {number}, such as "
            f"{tree.find_example([number])}: correct one of them"
        )
    doubts = [*tree.doubt_classes(number), *warnings]
    return Layout(number, patient, tree.choose_fold({number, patient}), tuple(doubts))


def describe_reading(layout: Layout, path: str, label: str, subject: str) -> str:
    """One path read as the layout says: ``ALL/P01/7.png: class ALL (1st folder), patient P01 (2nd folder)``."""
    told = [f"class {label} ({_place(layout.label)})"]
    told.append(f"patient {subject} ({_place(layout.subject)})" if subject else "no patient known")
    if fold := folder_of(path, layout.fold):
        told.append(f"{'part' if name_part(fold) else 'fold'} {fold} ({_place(layout.fold)})")
    return f"{path}: {', '.join(told)}"


def _place(number: int | None) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number or 0, "th")
    return f"{number}{ending} folder" if number else "by the pattern"


class _Decision(Tree):
    """The questions that decide, and what is said where they cannot."""

    def require_folder(self, location: Location) -> None:
        if location.folder and location.folder > self.depth:
            raise DataError(
                f"{location.setting} must name a folder of the images' relative paths, but is folder:{location.folder} where "
                f"the deepest path has {self.depth}, {self.find_example([self.depth])}: 1 is the folder right below data.path"
            )

    def narrow(self, number: int | None, keys: Names[str]) -> _Decision:
        """The tree below the folders of a level that are named so, if there are any; else all of it."""
        below = [path for path in self.paths if number and key_of(folder_of(path, number)) in keys]
        return _Decision(below, self.known) if below else self

    # --- the class ---

    def choose_class(self, label: Location, subject: Location) -> int:
        """Number of the level that is the class.

        Raises:
            DataError: no level is, or more than one could be.
        """
        self._require_whole_parts(subject)
        rivals = self._list_rivals(subject)
        first = rivals[0]
        if label.kind == "folder":
            return first.number
        words = [level for level in rivals if level.kind == "class"]
        words = words[:1] + [level for level in words[1:] if not self.repeats(words[0], level)]
        if len(words) > 1:
            self.require_alike(words[0], subject)
            inner = self._read_innermost(words[0], words[1])
            levels = words[:1] if inner else words[:2]
            self._refuse("the names of two levels of folders are classes", levels, subject, inner)
        if words:
            if words[0] is not first:
                reason = f"{_show(words[0])} are names of classes and stand below {_show(first)}"
                self._refuse(reason, [words[0], first], subject)
            if sum(map(has_part_word, first.names)) > 1:
                self._refuse(f"the names {_show(first)} hold a class and a part of a split", [first], subject)
            return first.number
        self._require_not_above(first, subject)
        self._require_none_below(rivals, subject)
        if len(rivals) == 1 or rivals[1].images < _RARE * len(self.paths):
            return self._require_class(first, subject)
        return self._choose_by_shape(first, rivals[1], subject)

    def _list_rivals(self, subject: Location) -> list[Level]:
        """The levels that could be the class, from the top; at least one."""
        levels = [each for each in self.levels if each.kind != "part" and each.number != subject.folder]
        if levels and all(level.single and level.kind in ("other", "date") for level in levels):
            reason = f"all images lie below {_show(levels[-1])}, which tells no class from another"
            self._refuse(reason, levels[-1:], subject)
        telling = [each for each in levels if not each.single and each.kind not in ("other", "date", "fold")]
        telling = [each for each in telling if each.images >= _RARE * len(self.paths)] or telling
        if not any(level.kind == "class" for level in telling):
            # One class alone, above its patients.
            alone = [level for level in levels if level.single and level.kind == "class"][-1:]
            if alone and telling and telling[0].kind in ("patient", "code"):
                return alone
            telling = sorted([*alone, *telling], key=lambda level: level.number)
        if telling:
            return telling
        if vague := [level for level in levels if not level.single]:
            reason = f"the names of the folders, such as {_show(vague[0])}, are hardly classes"
            self._refuse(reason, vague[:1], subject)
        if levels:
            return levels[-1:]
        raise DataError(
            "there must be a folder for every class, but there are only folders that look like parts of a split, "
            f"such as {_show(self.levels[0])}: sort the images of each into class folders (train/<class>/<image>), list "
            "them in a table with the columns path and label, or name these folders as the classes: --set data.label=folder:1"
        )

    def _require_whole_parts(self, subject: Location) -> None:
        """Folders named train beside folders of another kind: a part beside classes."""
        for level in self.levels:
            parts = [name for name in level.names if name_part(name)]
            if "train" in map(name_part, parts) and len(parts) < len(level.names):
                others = [name for name in level.names if name not in parts]
                below = [each for each in self.levels[level.number :] if not each.single]
                self._refuse(
                    f"{list_some(parts)} look like parts of a split and stand beside {list_some(others)}",
                    [*below[:1], level], subject,
                )  # fmt: skip

    def _require_not_above(self, first: Level, subject: Location) -> None:
        """Names that say nothing, below folders of batches or days: nothing tells that they are classes."""
        above = [
            each
            for each in self.levels[: first.number - 1]
            if not each.single and each.kind in ("other", "date")
        ]
        if above and above[0].number != subject.folder:
            reason = f"folders such as {_show(above[0])} stand above {_show(first)}, and neither names known classes"
            self._refuse(reason, [first, above[0]], subject)

    def _require_none_below(self, rivals: Sequence[Level], subject: Location) -> None:
        """Names that say nothing, and below the patients few others that come back: site/patient/class as well."""
        for upper, lower in pairwise(rivals[1:]):
            few = len(lower.names) < len(upper.names) and lower.kind not in ("patient", "code")
            if few and self.count_pairs(upper.number, lower.number) > len(lower.names):
                reason = f"the names {_show(lower)} come back below {_show(upper)}, and neither they nor {_show(rivals[0])} name known classes"
                self._refuse(reason, [lower, rivals[0]], subject)

    def _require_class(self, level: Level, subject: Location) -> int:
        """The one level there is, unless its names are a patient's or too many."""
        many = MANY_NUMBERS if level.kind == "number" else _MANY_CLASSES
        if {self._keys[name] for name in level.names} & self.known:
            return level.number
        if level.kind in ("patient", "code") or len(level.names) > many:
            self._refuse(
                f"the {len(level.names)} folders such as {_show(level)} look like patients", [level], subject
            )
        return level.number

    def _choose_by_shape(self, upper: Level, lower: Level, subject: Location) -> int:
        above, below = len(upper.names), len(lower.names)
        pairs = self.count_pairs(upper.number, lower.number)
        if below < above and pairs > below:
            reason = (
                f"the {below} names {_show(lower)} come back below the {above} folders {_show(upper)}, as classes do "
                "below patients"
            )
            self._refuse(reason, [lower, upper], subject)
        if upper.kind in ("patient", "code") or (upper.kind == "number" and above > MANY_NUMBERS):
            self._refuse(
                f"folders such as {_show(upper)}, at the top, look like patients", [lower, upper], subject
            )
        if pairs > 1.2 * below and not (lower.coded and above < below) and lower.kind != "patient":
            reason = (
                f"the names {_show(lower)} come back below {_show(upper)}, and neither names known classes"
            )
            self._refuse(reason, [upper, lower], subject)
        return self._require_class(upper, subject)

    def require_alike(self, level: Level, subject: Location) -> None:
        """No folder beside the classes may be a patient's, nor hold folders that are named as classes.

        Raises:
            DataError: one does; the message has the classes without it.
        """
        named = {self._keys[name] for name in level.names if not any(map(str.isdigit, name))}
        words = [name for name in level.names if is_class_word(name) or self._keys[name] in self.known]
        if self.known & {self._keys[name] for name in level.names}:  # somebody said which are
            return
        odd = [name for name in level.names if words and name not in words and is_patient_word(name)]
        for names in self.folders:
            above, below = names[level.number - 1 : level.number], names[level.number :]
            ours = {self._keys[name] for name in below} - {self._keys[name] for name in above}
            wanted = named if above and above[0] in words else named | CLASS_WORDS
            if above and ours & wanted and self._keys[above[0]] not in map(key_of, odd):
                odd.append(above[0])
        rest = [name for name in level.names if name not in odd]
        if odd and rest:
            reason = f"{list_some(odd, 3)} beside {list_some(rest, 3)} are patients' folders, or hold folders named as classes do"
            self._refuse(reason, [level], subject, without=rest)

    def _refuse(
        self, reason: str, levels: Sequence[Level], subject: Location, more: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Shows every reading with its settings."""
        shown = []
        for level, chosen in [*([(levels[0], without)] if without else []), *((each, ()) for each in levels)]:
            tree, patient = self.narrow(level.number, set(map(key_of, chosen))), subject.folder
            if subject.kind == "auto":
                patient = tree.choose_subject(level.number, subject)[0]
            path = tree.find_example([level.number, patient])
            layout = Layout(level.number, patient, None)
            reading = describe_reading(layout, path, folder_of(path, level.number), folder_of(path, patient))
            settings = [f"data.label: folder:{level.number}"]
            if patient and subject.kind == "auto":
                settings.append(f"data.subject: folder:{patient}")
            if chosen:
                settings.append(f"data.classes: {_list(chosen)}")
            shown.append(_show_reading(reading, settings))
        shown += more if more or without else self._read_parts_of_names(levels)
        which = (
            "one of these readings is right, set what stands below it"
            if len(shown) > 1
            else "this is right, set so"
        )
        raise DataError(
            f"the folders must show which of them is the class and which the patient, but {reason}. If {which}; otherwise "
            f"list the images in a table with the columns path, label and subject:{''.join(shown)}"
        )

    def doubt_classes(self, number: int | None) -> list[str]:
        """Warnings where folders such as masks, or a second one of a class, stand beside the classes."""
        names = self.levels[number - 1].names if number else ()
        if self.known & {self._keys[name] for name in names}:
            return []  # somebody said which are
        doubts = []
        odd = [
            name for name in names
            if not is_class_word(name) and (is_other_word(name) or is_patient_word(name))
        ]  # fmt: skip
        if odd and (rest := [name for name in names if name not in odd]):
            doubts.append(
                f"{list_some(odd)} beside {list_some(rest)} are taken for classes too; if they are none, set data.classes: "
                f"{_list(rest)}"
            )
        spelt = {self._keys[name]: name for name in names}
        twice = [
            (one, name)
            for name in names
            if (one := spelt.get(key_of(strip_copy_words(name)))) and one != name
        ]
        for one, name in twice:
            doubts.append(
                f"{one} and {name} are taken for two classes; if they are one, set data.classes to join them, such as "
                f"{{{one}: {_list([one, name])}}}, with every other class in a list of its own"
            )
        return doubts

    def _read_parts_of_names(self, levels: Sequence[Level]) -> list[str]:
        """The readings of ALL_01 and P01_ALL, where the class is part of the patient's name, and of P01/ALL_1.png."""
        level = levels[-1]
        if len(levels) > 1:
            return []
        above, shown = f"^{'[^/]+/' * (level.number - 1)}", []
        patient = None if any(map(has_part_word, level.names)) else level.number
        for pattern in (f"{above}(?P<label>{_WORD})", f"{above}[^/]*?(?P<label>{_WORD})/"):
            labels = set(_search_labels(pattern, self.paths).values())
            if 1 < len(set(map(key_of, labels))) <= len(level.names) / 2 and not any(map(name_part, labels)):
                shown.append(self._show_pattern(pattern, patient))
        if not shown and (pattern := find_file_pattern(self.paths)):
            shown.append(self._show_pattern(pattern, patient if level.coded and not level.single else None))
        return shown

    def _show_pattern(self, pattern: str, patient: int | None) -> str:
        path = self.find_example([patient])
        label = _search_labels(pattern, [path])[path]
        reading = describe_reading(Layout(None, patient, None), path, label, folder_of(path, patient))
        settings = [f"data.label: pattern:{pattern}"]
        return _show_reading(reading, settings + [f"data.subject: folder:{patient}"] * bool(patient))

    def _read_innermost(self, upper: Level, lower: Level) -> list[str]:
        """The reading of malignant/early, malignant/pre and benign alone: the innermost class, by its name."""
        names: dict[str, str] = {}  # class -> the first path
        above = set()
        for path in self.paths:
            inner, outer = folder_of(path, lower.number), folder_of(path, upper.number)
            if is_class_word(inner) or key_of(inner) in self.known:
                names.setdefault(inner, path)
            elif outer:
                above.add(outer)
                names.setdefault(outer, path)
        inside = {name: path for name, path in names.items() if name not in above}
        if not above or not inside or above & {folder_of(path, upper.number) for path in inside.values()}:
            return []
        either = "|".join(map(re.escape, sorted(names)))
        label, subject = f"(?:^|/)(?P<label>{either})/", f"(?:^|/)(?:{either})/(?P<subject>[^/]+)/"
        path = inside[min(inside)]
        settings, patient = [f"data.label: pattern:{label}"], re.search(subject, path)
        if patient and self.choose_subject(upper.number, Location("data.subject", "auto"))[0]:
            settings.append(f"data.subject: pattern:{subject}")
        else:
            patient = None
        found = re.search(label, path)
        reading = describe_reading(
            Layout(None, None, None),
            path,
            found["label"] if found else "",
            patient["subject"] if patient else "",
        )
        return [_show_reading(reading, settings)]

    # --- the patient and the part ---

    def find_labels(self, labels: Mapping[str, str]) -> int | None:
        """The level whose names stand for the classes that a pattern found, one for one, if there is one."""
        for level in self.levels:
            pairs = {(folder_of(path, level.number), label) for path, label in labels.items()}
            if len(pairs) == len(dict(pairs)) == len({label for _, label in pairs}):
                return level.number
        return None

    def choose_subject(self, label: int | None, subject: Location) -> tuple[int | None, list[str]]:
        """Number of the level that is the patient, and what is doubtful about it."""
        if subject.kind in ("none", "pattern"):
            return None, []
        if subject.folder:
            chosen = self.levels[subject.folder - 1 : subject.folder]  # none below the classes that are used
            return subject.folder, [
                doubt for level in chosen for doubt in self._doubt(level, label, stated=True)
            ]
        others = [each for each in self.levels if each.kind not in ("part", "fold") and not each.single]
        below = [level for level in others if level.number > (label or 0)]
        above = [level for level in others if level.number < (label or 0)]
        if subject.kind == "folder":
            if not below and not above:
                raise DataError(
                    "data.subject: folder needs a level of folders beside the class, but there is none: "
                    "set data.subject: none, or pattern:REGEX on the files' names"
                )
            return (below or above[-1:])[0].number, []
        reasons = {level.number: self._find_objection(level, label) for level in below}
        named = [level for level in below if level.kind == "patient"]
        fitting = [level for level in below if not reasons[level.number]]
        enough = max(_FEW_FOLDERS, 3 * len(self.levels[label - 1].names) if label else 0)
        over = [
            each for each in above if each.coded or (each.kind == "unknown" and len(each.names) >= enough)
        ]
        chosen = [*named, *fitting, *over][:1]
        if chosen:
            return chosen[0].number, self._doubt(chosen[0], label)
        many = [each for each in above if label and len(each.names) > len(self.levels[label - 1].names)]
        reasons |= {
            each.number: "they stand above the classes, and their names are not a patient's" for each in many
        }
        return None, [
            f"folders such as {_show(level)} are not taken for patients: {reasons[level.number]}. If each is one "
            f"patient, set data.subject: folder:{level.number}"
            for level in (below or many)[:1]
        ]

    def _find_objection(self, level: Level, label: int | None) -> str:
        """Why a level below the class is not taken for patients; "" where it is."""
        if level.kind == "patient":
            return ""
        if level.kind in ("class", "other", "date"):
            return "their names are not a patient's"
        if self.count_folders(level.number) == level.images:
            return "each holds one image"
        if label is None:
            return "" if level.kind == "code" else "their names do not say that they are patients"
        pairs, names = self.count_pairs(label, level.number), len(level.names)
        classes = self.count_names(label, level.number)
        if pairs <= classes:
            return "there is one per class"
        if level.kind == "unknown" and (names < max(_FEW_FOLDERS, 3 * classes) or pairs > 1.2 * names):
            return "they are few, and their names do not say that they are patients"
        return ""

    def _doubt(self, level: Level, label: int | None, stated: bool = False) -> list[str]:
        """What may be wrong with a level of patients; that somebody stated it, only that names may mean several."""
        doubts = []
        if level.kind == "unknown" and not stated:
            doubts.append(
                f"{len(level.names)} folders such as {_show(level)} are taken for patients because of their place and "
                "number; if they are none, set data.subject: none"
            )
        above = [
            each.number for each in self.levels[: level.number - 1] if not each.single and each.kind != "fold"
        ]
        again = [number for number in above if self._comes_back(number, level)]
        if again:
            upper = "class" if label in again else f"folder such as {self.levels[again[0] - 1].names[0]}"
            doubts.append(
                f"numbers of patients come back under several {'classes' if label in again else 'folders'} and are taken for "
                f"the same patients; if every {upper} counts its own, set data.subject: "
                f"'pattern:{_pattern_from(again[0], level.number)}'"
            )
        if holding := self._find_holding_patients(level):
            doubts.append(
                f"folders such as {list_some(holding, 3)} are taken for one patient each, but hold folders named as patients or "
                "classes; if the innermost folder is the patient, set data.subject: 'pattern:(?P<subject>[^/]+)/[^/]+$'"
            )
        vague = [name for name in level.names if is_other_word(name)] if level.coded else []
        if vague:
            doubts.append(
                f"{list_some(vague, 3)} beside patients such as {next(n for n in level.names if n not in vague)} are taken for "
                "one patient each; if they hold images of several, call them unknown"
            )
        return doubts

    def _find_holding_patients(self, level: Level) -> list[str]:
        """Folders of a level of patients that hold folders of patients, as ``2021/P01`` beside ``P02``."""
        below: dict[str, set[str]] = {}
        for names in self.folders:
            inner = names[level.number : level.number + 1]
            if inner and (
                is_patient_word(inner[0])
                or is_class_word(inner[0])
                or (is_code(inner[0]) and not is_code(names[level.number - 1]))
            ):
                below.setdefault(names[level.number - 1], set()).add(self._keys[inner[0]])
        # Where all of them do, as patients hold slides p1 and p2, it is a level of its own.
        if 2 * len(below) > len(level.names):
            return []
        return sorted(name for name, inner in below.items() if not is_patient_word(name))

    def _comes_back(self, upper: int, level: Level) -> bool:
        """Whether several names that may be counted, such as 1 or P01, stand below more than one of the upper."""
        above: dict[str, set[str]] = {}
        for names in self.folders:
            if len(names) >= level.number and COUNTED.fullmatch(names[level.number - 1]):
                above.setdefault(self._keys[names[level.number - 1]], set()).add(self._keys[names[upper - 1]])
        return any(len(each) > 1 for each in above.values())

    def choose_fold(self, taken: Names[int | None]) -> int | None:
        """The level of ready-made parts, or else of numbered folds."""
        free = [each for each in self.levels if each.number not in taken and not each.single]
        for kind in ("part", "fold"):
            if found := [level.number for level in free if level.kind == kind]:
                return found[0]
        return None


def find_file_pattern(paths: Sequence[str]) -> str:
    """A pattern under which the names of all files begin, end, or go on with one of few classes; "" where none is."""
    fitting = {}
    for pattern in _FILE_PATTERNS:
        found = set(map(key_of, _search_labels(pattern, paths).values()))
        if 1 < len(found) <= min(_MANY_CLASSES, len(paths) / 2):
            fitting[pattern] = (not any(map(is_class_word, found)), len(found))
    return min(fitting, key=fitting.__getitem__, default="")


def _search_labels(pattern: str, paths: Sequence[str]) -> dict[str, str]:
    """Path -> class; nothing where the pattern does not match them all."""
    found = {path: match["label"] for path in paths if (match := re.search(pattern, path))}
    return found if len(found) == len(paths) else {}


def _list(names: Sequence[str]) -> str:
    """Names as a list in a config: in quotation marks where YAML needs them."""
    return write_yaml(list(names), default_flow_style=True, width=10**6).strip()


def _show_reading(reading: str, settings: Sequence[str]) -> str:
    """A reading with its settings, for a config and for the command line; patterns in quotation marks, for both."""
    pairs = [each.split(": ", 1) for each in settings]
    config = " and ".join(
        f"{key}: '{value}'" if value.startswith("pattern:") else f"{key}: {value}" for key, value in pairs
    )
    options = " ".join(f"--set {shlex.quote(f'{key}={value}')}" for key, value in pairs)
    return f"\n  {reading}\n    {config} ({options})"


def _pattern_from(first: int, last: int) -> str:
    """Pattern whose patient is all folders from the first to the last: patient 1 of one class is not that of another."""
    return f"^{'[^/]+/' * (first - 1)}(?P<subject>{'/'.join(['[^/]+'] * (last - first + 1))})/"


def _show(level: Level) -> str:
    return list_some(level.names, 3)
