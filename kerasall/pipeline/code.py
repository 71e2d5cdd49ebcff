"""Digest of the code a module runs: its own source and all of the package's that it imports.

A step is keyed by this, so that a change of code reruns just the steps that the change can reach.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the sources of ``module`` and of every module of its package it imports, however deep.

    Imports inside functions count. Modules of other packages do not: the versions of those that compute
    enter the key beside this digest.
    """
    digest = hashlib.sha256()
    for name in sorted(imported_modules(module)):
        digest.update(name.encode())
        digest.update(_source(name))
    return digest.hexdigest()


def imported_modules(module: str) -> set[str]:
    """``module`` and the modules of the same top-level package that it imports, directly or not."""
    package = module.split(".")[0]
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        tree = ast.parse(_source(name))
        waiting += [n for n in _imports(tree) if n.split(".")[0] == package and _is_module(n)]
    return found


def _imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _source(name: str) -> bytes:
    origin = _origin(name)
    return Path(origin).read_bytes() if origin else b""


def has_source(module: str) -> bool:
    """Whether the module's source is a file that ``code_digest`` can read."""
    return _origin(module) is not None


@cache
def _is_module(name: str) -> bool:
    return _origin(name) is not None


@cache
def _origin(name: str) -> str | None:
    """The source file of a module, found without importing it: an import could load TensorFlow."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    package, *rest = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    base = Path(spec.origin).parent.joinpath(*rest)
    return next((str(p) for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)
