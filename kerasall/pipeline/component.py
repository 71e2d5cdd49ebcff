"""A component is a typed function; calling its decorated form makes a step of a pipeline.

    @component
    def statistics_gen(examples: In["Examples"], settings: CheckSettings, statistics: Out["Statistics"]): ...

Arguments come in five kinds, told apart by their annotation:

    Annotated[Path, Input("Type")]    folder of an artifact that an earlier step made; with keyed=False a change
                                      of its content alone does not run the step again
    Annotated[list[Path], Input("T")] folders of any number of them, given as a list of channels
    Annotated[Path, Output("Type")]   empty folder to fill; becomes an artifact when the function returns
    Annotated[Path, Scratch()]        folder that outlives a kill and is emptied on success: for resuming
    Annotated[T, Unkeyed()]           a value that does not change the result (a cache folder, a device)
    anything else                     a parameter; part of the step's key, so it must turn into JSON

The undecorated function stays callable as ``statistics_gen.function`` with plain folders and values.

A step is keyed by what its code means as well: by the syntax trees of the modules it runs, so that a change of
arithmetic reruns just the steps it can reach, and a better sentence in a comment or a docstring reruns none.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import marshal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from kerasall.files import sha256_of_folder, sha256_of_json

TEMPLATES = "templates"
"""Name of the folders in which the package data lie that steps read."""


@dataclass(frozen=True)
class Input:
    """Marks an argument that receives the folder of an artifact of the given type.

    Attributes:
        type: the artifact's.
        keyed: whether its content enters the step's key. False says that the step need not run again for
            another content, and that what an earlier run read may stand in what it made.
    """

    type: str
    keyed: bool = True


@dataclass(frozen=True)
class Output:
    """Marks an argument that receives an empty folder to fill with an artifact of the given type."""

    type: str


@dataclass(frozen=True)
class Scratch:
    """Marks an argument that receives a folder kept over a kill and removed on success."""


@dataclass(frozen=True)
class Unkeyed:
    """Marks a value that must not change the result and so stays out of the step's key."""


@dataclass(frozen=True)
class Channel:
    """The promise of one output of a step, to be handed to later steps."""

    step: Step
    name: str
    type: str


class Component:
    """A typed function with its arguments sorted by kind. Made by the decorator ``component``."""

    def __init__(
        self,
        function: Callable[..., Mapping[str, Any] | None],
        fingerprint: Callable[..., Any] | None,
        still_valid: Callable[[Mapping[str, Path]], bool] | None,
    ):
        self.function = function
        self.fingerprint = fingerprint
        self.still_valid = still_valid
        self.name = "".join(word.capitalize() for word in function.__name__.split("_"))
        self.__doc__ = function.__doc__
        hints = get_type_hints(function, include_extras=True)
        hints.pop("return", None)
        self.marks = {name: _mark(hint) for name, hint in hints.items()}

    def of_kind(self, kind: type) -> dict[str, Any]:
        """The arguments marked with ``kind``, by name."""
        return {name: mark for name, mark in self.marks.items() if isinstance(mark, kind)}

    def code(self) -> str:
        """Digest of what this component runs, with all of the package's own that it imports."""
        if _source_file(self.function.__module__) is None:
            # Typed into an interpreter: what was compiled stands for the source.
            return hashlib.sha256(marshal.dumps(self.function.__code__)).hexdigest()
        return code_digest(self.function.__module__)

    def __call__(self, **arguments: Any) -> Step:
        """Makes a step; nothing runs yet.

        Raises:
            TypeError: an argument is missing or unknown, or a channel has another type than the input.
        """
        given_by_runner = self.of_kind(Output) | self.of_kind(Scratch)
        inspect.signature(self.function).bind(**arguments, **dict.fromkeys(given_by_runner))
        for name, mark in self.of_kind(Input).items():
            given = arguments.get(name)
            for channel in given if isinstance(given, list | tuple) else [given]:
                if channel is not None and getattr(channel, "type", None) != mark.type:
                    raise TypeError(
                        f"{self.name}: {name} must be a channel of type {mark.type}, but is {channel!r}"
                    )
        return Step(self, arguments)


def _mark(hint: Any) -> Any:
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Input | Output | Scratch | Unkeyed):
            return mark
    return None


def component(
    function: Callable[..., Any] | None = None,
    *,
    fingerprint: Callable[..., Any] | None = None,
    still_valid: Callable[[Mapping[str, Path]], bool] | None = None,
) -> Any:
    """Turns a typed function into a component.

    Args:
        function: returns None or a dictionary of numbers and words to record as metrics.
        fingerprint: called with the step's parameters (those its own signature names) before the key is
            made; returns JSON that stands for what the function reads from outside, such as a listing
            of a data folder.
        still_valid: called with the folders of a finished artifact (output name -> folder); False makes
            the step run again, for components that also write outside the store.
    """
    if function is None:
        return lambda inner: Component(inner, fingerprint, still_valid)
    return Component(function, fingerprint, still_valid)


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a component inside a pipeline."""

    component: Component
    arguments: Mapping[str, Any]
    name: str = ""

    @property
    def title(self) -> str:
        """The step's name in a run: the component's, unless it was renamed."""
        return self.name or self.component.name

    def named(self, name: str) -> Step:
        """The same step under a name of its own, where one component stands twice in a pipeline."""
        return Step(self.component, self.arguments, name)

    @property
    def outputs(self) -> dict[str, Channel]:
        """The channels of this step, by output name."""
        return {name: Channel(self, name, mark.type) for name, mark in self.component.of_kind(Output).items()}

    @property
    def inputs(self) -> dict[str, Channel]:
        """The channels this step reads, by argument name; those of a list as ``name[0]``, ``name[1]``, ..."""
        found: dict[str, Channel] = {}
        for name in self.component.of_kind(Input):
            value = self.arguments.get(name)
            if isinstance(value, Channel):
                found[name] = value
            elif isinstance(value, list | tuple):
                found |= {f"{name}[{number}]": channel for number, channel in enumerate(value)}
        return found

    def keyed_digests(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Of the content digests of ``inputs`` those that enter the key."""
        marks = self.component.of_kind(Input)
        return {name: digest for name, digest in digests.items() if marks[name.partition("[")[0]].keyed}

    def input_folders(self, folders: Mapping[str, Path]) -> dict[str, Any]:
        """The arguments that stand for artifacts, from the folder of each of ``inputs``."""
        given = {name: self.arguments.get(name) for name in self.component.of_kind(Input)}
        return {
            name: [folders[f"{name}[{number}]"] for number in range(len(value))]
            if isinstance(value, list | tuple)
            else folders[name]
            for name, value in given.items()
            if value is not None
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The values that enter the key, as JSON values, by argument name."""
        unkeyed = self.component.of_kind(Unkeyed)
        inputs = self.component.of_kind(Input)
        return {n: to_json(v) for n, v in self.arguments.items() if n not in unkeyed and n not in inputs}

    def external_fingerprint(self) -> Any:
        """What the component's fingerprint function says of the world outside, or None."""
        if self.component.fingerprint is None:
            return None
        wanted = inspect.signature(self.component.fingerprint).parameters
        return self.component.fingerprint(**{n: v for n, v in self.arguments.items() if n in wanted})


@dataclass(frozen=True)
class Pipeline:
    """Steps in the order they run, and what of them a person wants to find in the run's folder.

    Attributes:
        steps: every step; one that reads another's output stands after it.
        publish: name in the run's folder -> (channel, name inside the artifact), copied when ready.
    """

    steps: tuple[Step, ...]
    publish: Mapping[str, tuple[Channel, str]]

    def __post_init__(self) -> None:
        seen: list[Step] = []
        for step in self.steps:
            late = [c.step.title for c in step.inputs.values() if c.step not in seen]
            if late:
                raise TypeError(f"step {step.title} must stand after {late}, whose output it reads")
            if step.title in [other.title for other in seen]:
                raise TypeError(
                    f"steps must have different names, but {step.title} occurs twice: use .named()"
                )
            seen.append(step)


def to_json(value: Any) -> Any:
    """A parameter as JSON: pydantic models, dataclasses, paths, tuples and plain values.

    What has a method ``keyed`` says by it which of its values enter a step's key.
    """
    if hasattr(value, "keyed"):
        return to_json(value.keyed())
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a parameter must turn into JSON, but {value!r} is of {type(value).__name__}")


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the meaning of ``module`` and of every module of its package it imports, however deep.

    Of each module its syntax tree counts, without comments, formatting and strings that are statements of their
    own (docstrings). Package data counts by one rule: what a step reads lies in a folder ``templates`` beside the
    module that reads it, and a module whose code names that folder is digested with every file of it.

    Imports inside functions count. Modules of other packages do not: the versions of those that compute
    enter the key beside this digest. Another version of Python may write a syntax tree in another way.
    """
    return sha256_of_json({name: _read(name).meaning for name in imported_modules(module)})


def imported_modules(module: str) -> set[str]:
    """``module`` and the modules of the same top-level package that it imports, directly or not."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _read(name).imports - found
    return found


class _Module(NamedTuple):
    """Digests of a module's syntax tree and of the templates it reads, if any; what it imports of its package."""

    meaning: tuple[str, str | None]
    imports: frozenset[str]


@cache
def _read(module: str) -> _Module:
    source = _source_file(module)
    tree = ast.parse(source.read_bytes() if source else b"")
    imports, strings = set(), set()
    for node in ast.walk(tree):
        _remove_bare_strings(node)
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant):
            strings.add(node.value)
    package = module.split(".")[0]
    own = frozenset(name for name in imports if name.split(".")[0] == package and _source_file(name))
    templates = source.with_name(TEMPLATES) if source and TEMPLATES in strings else None
    data = sha256_of_folder(templates) if templates and templates.is_dir() else None
    return _Module((hashlib.sha256(ast.dump(tree).encode()).hexdigest(), data), own)


def _remove_bare_strings(node: ast.AST) -> None:
    """Takes the strings that stand as statements of their own out of a node's blocks."""
    for name, block in ast.iter_fields(node):
        if isinstance(block, list):
            setattr(node, name, [inner for inner in block if not _is_bare_string(inner)])


def _is_bare_string(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def _source_file(module: str) -> Path | None:
    """The source of a module, found without importing it: an import could load TensorFlow."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return Path(file) if file else None
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    base = Path(spec.origin).parent.joinpath(*rest)
    return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)
