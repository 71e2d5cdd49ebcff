"""YAML as people write it, read with what YAML 1.2 takes for numbers, and within bounds.

PyYAML follows YAML 1.1, where ``1e-5`` is text, a class ``no`` is false, a patient ``007`` is 7 and ``1_2`` is 12. Here
what is written is what is meant: numbers in decimal, ``true`` and ``false``, ``null``; all else is text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kerasall.errors import SettingsError
from kerasall.paths import as_file

MOST_BYTES = 1 << 18
MOST_DEPTH = 50
MOST_VALUES = 20_000
"""Values of a document, those that aliases (``*name``) repeat counted each time."""

_CORE = "tag:yaml.org,2002:"
_INTEGER = r"[-+]?(?:0|[1-9][0-9]{0,17})\Z"  # a longer row of digits names something, and so does 007
_FLOAT = (
    r"(?=[^.eE]*[.eE])[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
_RESOLVERS = {
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)\Z", [*"tTfF"]),
    "int": (_INTEGER, [*"-+0123456789"]),
    "float": (_FLOAT, [*"-+.0123456789"]),
    "null": (r"(?:~|null|Null|NULL|)\Z", [*"~nN", ""]),
    "merge": (r"<<\Z", ["<"]),
}
"""What plain words are: how they are written, and the letters they begin with."""


class _Loader(yaml.SafeLoader):
    """Safe, and bounded: what aliases unfold to is counted before anything is made of it."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        name, before = event.anchor, self._values
        if isinstance(event, yaml.AliasEvent):
            if name in self.anchors and name not in self._sizes:
                raise _wrong(event, f"*{name} stands inside &{name}, and would have no end")
            self._values += self._sizes.get(name, 0)
        else:
            self._values += 1
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _wrong(event, f"it is nested more than {MOST_DEPTH} deep")
        if self._values > MOST_VALUES:
            raise _wrong(
                event, f"it holds more than {MOST_VALUES:,} values, those that aliases repeat counted too"
            )
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.MappingNode) and not isinstance(event, yaml.AliasEvent):
            _require_single_keys(node)
        if name is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[name] = self._values - before
        return node


def _require_single_keys(node: yaml.MappingNode) -> None:
    """Of two equal keys YAML would take the last, and forget the first without a word."""
    seen: dict[tuple[str, str], Any] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(key, "a key must be a word, but is a list or a mapping")
        first = seen.setdefault((key.tag, key.value), key)
        if first is not key:
            line = first.start_mark.line + 1
            raise _wrong(key, f"{key.value} stands here a second time, after line {line}: keep one of them")


def _wrong(at: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _convert(convert: Callable[[str], Any], what: str) -> Callable[[Any, Any], Any]:
    def construct(loader: Any, node: Any) -> Any:
        text = str(loader.construct_scalar(node))
        try:
            # JSON, which is YAML, writes letters beyond the first 65,536 as two halves.
            return convert(text.encode("utf-16", "surrogatepass").decode("utf-16"))
        except UnicodeDecodeError:
            raise _wrong(node, "it holds half of a surrogate pair, which is no text") from None
        except (ValueError, KeyError):
            raise _wrong(node, f"{text[:40]!r} must be {what}, but is not") from None

    return construct


for _kind, (_pattern, _first) in _RESOLVERS.items():
    _Loader.add_implicit_resolver(f"{_CORE}{_kind}", re.compile(_pattern), _first)
for _kind, _make in {
    "str": _convert(str, "text"),
    "int": _convert(int, "a whole number"),
    "float": _convert(lambda text: float(re.sub(r"\.(?=[iInN])", "", text)), "a number"),
    "bool": _convert(lambda text: {"true": True, "false": False}[text.lower()], "true or false"),
    "null": lambda loader, node: None,
    "seq": yaml.SafeLoader.construct_yaml_seq,
    "map": yaml.SafeLoader.construct_yaml_map,
}.items():
    _Loader.add_constructor(f"{_CORE}{_kind}", _make)
_Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)


class _Dumper(yaml.SafeDumper):
    """Puts into quotation marks what YAML 1.1 or the reader here would take for something else than text."""


def _represent_text(dumper: _Dumper, text: str) -> Any:
    # In other quotation marks PyYAML folds these like ends of lines, and reads another text.
    return dumper.represent_scalar(
        f"{_CORE}str", text, style='"' if set(text) & set("\x85\u2028\u2029") else None
    )


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver(f"{_CORE}float", re.compile(_FLOAT), [*"-+.0123456789"])


def read_yaml(path: Path, what: str = "", kind: str = "YAML") -> Any:
    """The values of a YAML file, or of a pipe.

    Args:
        path: of the file, UTF-8 or, with a byte order mark, UTF-16.
        what: it is, in front of its path in messages.
        kind: what it must be, in the words of messages.

    Raises:
        SettingsError: it cannot be read; the message names line and column.
    """
    name = f"{what} {path}".strip()
    try:
        with open(as_file(path), "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _failure(name, kind, error.strerror or error) from None
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if len(data) > MOST_BYTES:
        raise _failure(name, kind, f"it holds more than {MOST_BYTES:,} bytes")
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _failure(name, kind, f"line {line} is no UTF-8: save the file as UTF-8") from None
    return parse_yaml(text, name, kind)


def parse_yaml(text: str, what: str, kind: str = "YAML") -> Any:
    """The values of a text of YAML; arguments as ``read_yaml``.

    Raises:
        SettingsError: it is none, or deeper or larger than any config; the message names line and column.
    """
    if len(text) > MOST_BYTES:
        raise _failure(what, kind, f"it holds more than {MOST_BYTES:,} letters")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _failure(what, kind, error) from None


def _failure(what: str, kind: str, reason: Any) -> SettingsError:
    return SettingsError(f"{what} must be {kind}, but reading it failed: {reason}")


def write_yaml(value: Any, **options: Any) -> str:
    """YAML that ``parse_yaml`` reads as ``value`` again; options as ``yaml.dump``."""
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=True, **{"sort_keys": False, **options})


def write_line(value: Any) -> str:
    """A value on one line, as it is written in a config or behind ``--set KEY=``: a path with ``#`` in quotation marks."""
    return write_yaml(value, default_flow_style=True, width=10**9).removesuffix("\n").removesuffix("\n...")
