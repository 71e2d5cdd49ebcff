"""One patient or class, spelt in several ways: what counts as the same name, and which names stand for nothing.

No distance between words: ``pre`` and ``pro``, ``P1`` and ``P11`` are near and still two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from kerasall.errors import near_names
from kerasall.listing.folders import list_some

_LETTERS = {
    "a\u0308": "ae",
    "o\u0308": "oe",
    "u\u0308": "ue",
    "a\u030a": "aa",
    "\u00f8": "oe",
    "\u00e6": "ae",
}
"""Letter as Unicode takes it apart -> how it is written where a keyboard lacks it."""
_PLAIN = {"\u00f8": "o", "\u00e6": "a", "\u0142": "l", "\u0131": "i"}
"""Letters that Unicode does not take apart -> without their stroke."""

_ACCENTED = "\u0000-\u03ff\u0435"
"""Letters that stay the same with an accent: Latin, Greek and the Russian e. Elsewhere a sign makes another letter."""

PLACEHOLDERS = frozenset(
    (
        "", "-", "--", "---", "?", "??", "???", ".", "/", "unknown", "unk", "na", "n/a", "n.a.", "n.a", "#n/a", "nan",
        "none", "null", "nil", "missing", "noid", "nopatient", "notavailable", "notknown", "undefined", "anonymous", "tbd",
        "unbekannt", "keine", "keineangabe", "k.a.", "ohne", "inconnu", "inconnue", "aucun", "aucune", "nonconnu",
        "desconocido", "desconocida", "ninguno", "sindatos", "sconosciuto", "patientunknown", "unknownpatient",
    )
)  # fmt: skip
"""Keys of patients that are none: words for "not known"."""


@lru_cache(maxsize=1 << 16)
def key_of(name: str) -> str:
    """What all spellings of one name share: case, accents, blanks, underscores and hyphens between them left out.

    Separators between two digits stay (``1-12`` is not ``11-2``), and so do signs at the ends (``-1``, ``CD19+``).
    A number that a spreadsheet wrote with decimals is the whole number (``5.0`` is ``5``); leading zeros stay.
    """
    return _close_up(_take_apart(name))


def keys_of(name: str) -> frozenset[str]:
    """The key and, of a name with an umlaut, also that of its spelling with two letters: ``u`` and ``ue``."""
    apart = _take_apart(name)
    spelt = apart
    for letter, pair in _LETTERS.items():
        spelt = spelt.replace(letter, pair)
    return frozenset((_close_up(apart), _close_up(spelt)))


def is_placeholder(name: str) -> bool:
    """Whether a patient's name says that the patient is not known."""
    return key_of(name) in PLACEHOLDERS


def join_spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Gives every spelling the most frequent one of its name; of equally frequent ones the first when sorted.

    Args:
        counts: name, as it was written -> number of images.

    Returns:
        Spelling -> the one that is kept; every distinct name is a key.
    """
    kin: dict[str, set[str]] = {}  # key -> all spellings that have it, shared by all keys of the set
    for name in sorted(counts):
        keys = keys_of(name)
        joined = {name}.union(*(kin.get(key, ()) for key in keys))
        for key in keys.union(*map(keys_of, joined)):
            kin[key] = joined
    return {name: min(kin[key_of(name)], key=lambda each: (-counts[each], each)) for name in counts}


def describe_joined(kept: dict[str, str], what: str) -> str:
    """A sentence on the spellings that became one, such as "P01 (also p01, P 01)"; "" where there are none."""
    others: dict[str, list[str]] = {}
    for name in sorted(kept):
        if kept[name] != name:
            others.setdefault(kept[name], []).append(name)
    shown = [f"{name} (also {', '.join(map(repr, also))})" for name, also in sorted(others.items())]
    return f"Different spellings are taken for one {what} each: {list_some(shown)}." if shown else ""


def find_zero_padded(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ by leading zeros alone, such as P1 and P01: two patients, or one written twice."""
    forms: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        forms.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", key_of(name)), []).append(name)
    return [(found[0], found[1]) for found in forms.values() if len(found) > 1]


def find_name(wanted: str, known: Iterable[str]) -> str | None:
    """The known name that is spelt so, literally or else by its keys; None where there is none or more than one."""
    known = list(known)
    if wanted in known:
        return wanted
    found = [name for name in known if keys_of(name) & keys_of(wanted)]
    return found[0] if len(found) == 1 else None


def describe_absent(absent: Sequence[str], known: Sequence[str]) -> str:
    """What is said of names that are not there: each with the nearest that is, and all there are."""
    keys = {key_of(name): name for name in known}
    near = {name: [keys[key] for key in near_names(key_of(name), keys)] for name in absent}
    shown = [repr(name) + (f" (did you mean {found[0]!r}?)" if found else "") for name, found in near.items()]
    return f"{', '.join(shown)} {'is' if len(absent) == 1 else 'are'} not: there are {list_some(sorted(known), 20)}"


def _take_apart(name: str) -> str:
    """The name in lower case with every accent a character of its own."""
    folded = unicodedata.normalize("NFKD", name).casefold().strip().strip("_").strip()
    return unicodedata.normalize("NFKD", folded)  # folding may have put some together


def _close_up(text: str) -> str:
    """Without accents, decimals of whole numbers and what separates words."""
    plain = re.sub(f"(?<=[{_ACCENTED}])[\u0300-\u036f]+", "", text)
    plain = "".join(_PLAIN.get(letter, letter) for letter in plain)
    if re.fullmatch(r"\d+\.0+", plain):
        return plain.partition(".")[0]
    plain = re.sub(r"(?<=\d)[\s_-]+(?=\d)", "-", plain)
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=[^\W_])", "", plain)
