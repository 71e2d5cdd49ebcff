"""The metadata store: runs, executions, artifacts, parameters, metrics and what came of what, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError
from kerasall.locks import FILE, locked
from kerasall.pipeline.artifacts import Artifact
from kerasall.shown_text import tell

SCHEMA_VERSION = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, experiment TEXT NOT NULL, state TEXT NOT NULL,
    started REAL NOT NULL, finished REAL, command TEXT, settings TEXT, error TEXT);
CREATE TABLE IF NOT EXISTS executions (
    id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs(id), step TEXT NOT NULL,
    component TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
    started REAL NOT NULL, finished REAL, error TEXT);
CREATE TABLE IF NOT EXISTS artifacts (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, name TEXT NOT NULL, type TEXT NOT NULL,
    digest TEXT NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    execution_id INTEGER NOT NULL REFERENCES executions(id), artifact_id INTEGER NOT NULL REFERENCES artifacts(id),
    role TEXT NOT NULL CHECK (role IN ('input', 'output')), argument TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parameters (
    execution_id INTEGER NOT NULL REFERENCES executions(id), name TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS metrics (
    execution_id INTEGER NOT NULL REFERENCES executions(id), name TEXT NOT NULL, value TEXT NOT NULL);
"""


class MetadataStore:
    """Reads and writes the SQLite file; every call is one transaction.

    No result is read from it: what ran stands in each run's run.json, what was made in the artifacts. So it may be moved
    away, and a run that cannot write to it any more goes on.

    Raises:
        ArtifactError: by every call, where the file cannot be read or written; the message names it and the cure.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with self._connection() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise ArtifactError(
                    f"{self.path} must have schema version {SCHEMA_VERSION}, but has {version}: "
                    "use the kerasall that wrote it, or another runs folder (KERASALL_RUNS)"
                )
            connection.executescript(_TABLES + f"PRAGMA user_version = {SCHEMA_VERSION};")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # A lock of one's own, because SQLite itself cannot do without those of the disk.
        try:
            with locked(self.path.with_suffix(".lock")) as held:
                options = "?nolock=1" if held == FILE else ""
                opened = sqlite3.connect(f"{self.path.absolute().as_uri()}{options}", uri=True, timeout=60)
                opened.row_factory = sqlite3.Row
                with closing(opened) as connection, connection:
                    yield connection
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(describe_fault(self.path, error)) from None

    def start_run(self, name: str, experiment: str, command: str, settings: Any) -> int:
        """Notes that a run starts; returns its id."""
        with self._connection() as connection:
            return _insert(
                connection, "runs", name=name, experiment=experiment, state="running", started=time.time(),
                command=command, settings=json.dumps(settings),
            )  # fmt: skip

    def end_run(self, run_id: int, state: str, error: str | None = None) -> None:
        """Notes how a run ended: ``complete`` or ``failed``."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE runs SET state = ?, finished = ?, error = ? WHERE id = ?",
                (state, time.time(), error, run_id),
            )

    def start_execution(
        self, run_id: int, step: str, component: str, key: str, parameters: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
    ) -> int:  # fmt: skip
        """Notes that a step starts, with what it reads; returns the execution's id."""
        with self._connection() as connection:
            execution = _insert(
                connection, "executions", run_id=run_id, step=step, component=component, key=key,
                state="running", started=time.time(),
            )  # fmt: skip
            for name, value in parameters.items():
                _insert(connection, "parameters", execution_id=execution, name=name, value=json.dumps(value))
            for argument, artifact in inputs.items():
                _link(connection, execution, artifact, "input", argument)
            return execution

    def end_execution(
        self, execution: int, state: str, outputs: Mapping[str, Artifact] | None = None,
        metrics: Mapping[str, Any] | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        """Notes how a step ended: ``complete``, ``cached`` or ``failed``."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE executions SET state = ?, finished = ?, error = ? WHERE id = ?",
                (state, time.time(), error, execution),
            )
            for argument, artifact in (outputs or {}).items():
                _link(connection, execution, artifact, "output", argument)
            for name, value in (metrics or {}).items():
                _insert(connection, "metrics", execution_id=execution, name=name, value=json.dumps(value))

    def runs(self) -> list[dict[str, Any]]:
        """The latest execution of every run name, newest first."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT * FROM runs WHERE id IN (SELECT MAX(id) FROM runs GROUP BY name) ORDER BY id DESC"
            )
            return [dict(row) for row in rows]

    def executions(self, run_id: int) -> list[dict[str, Any]]:
        """The steps of a run in order, each with its metrics."""
        with self._connection() as connection:
            rows = connection.execute("SELECT * FROM executions WHERE run_id = ? ORDER BY id", (run_id,))
            found = [dict(row) for row in rows]
            for row in found:
                query = "SELECT name, value FROM metrics WHERE execution_id = ?"
                metrics = connection.execute(query, (row["id"],))
                row["metrics"] = {m["name"]: json.loads(m["value"]) for m in metrics}
            return found


def read_keys(path: str | Path, run_name: str) -> list[tuple[str, str]]:
    """Component and key of every step that the last execution of a run began; nothing is written.

    Where the store cannot be read there are none, and a line on standard error says so.
    """
    path = Path(path)
    if not path.exists():
        return []
    query = "SELECT component, key FROM executions WHERE run_id = (SELECT MAX(id) FROM runs WHERE name = ?) ORDER BY id"
    fault: Exception | None = None
    for options in ("mode=ro", "mode=ro&nolock=1"):  # a disk may have no locks
        try:
            with closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=5)
            ) as store:
                return [(str(component), str(key)) for component, key in store.execute(query, (run_name,))]
        except (sqlite3.Error, OSError) as error:
            fault = fault or error
    assert fault is not None
    tell(f"not looked up: {describe_fault(path, fault)}")
    return []


def describe_fault(path: Path, error: Exception) -> str:
    """What is wrong with the store, and the cure."""
    code = getattr(error, "sqlite_errorcode", None)
    cure = (
        "move it away, and a new one is begun: runs, reports and artifacts do not depend on it"
        if code is None or (code & 0xFF) not in _CURES
        else _CURES[code & 0xFF]
    )
    return f"{path} must be the SQLite file in which runs are noted down, but {error or type(error).__name__}: {cure}"


_CURES = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "make room on its disk, or see whether the disk is well",
    sqlite3.SQLITE_BUSY: "wait until the other process is through, and give the command again",
    sqlite3.SQLITE_LOCKED: "wait until the other process is through, and give the command again",
    sqlite3.SQLITE_READONLY: "allow writing to it and to its folder, or set KERASALL_RUNS to another folder",
    sqlite3.SQLITE_CANTOPEN: "allow reading and writing it and its folder, or set KERASALL_RUNS to another folder",
    sqlite3.SQLITE_PERM: "allow reading and writing it and its folder, or set KERASALL_RUNS to another folder",
    sqlite3.SQLITE_AUTH: "allow reading and writing it and its folder, or set KERASALL_RUNS to another folder",
}
"""Code of SQLite -> what to do; of others the file itself is at fault."""


def _insert(connection: sqlite3.Connection, table: str, **values: Any) -> int:
    marks = ", ".join("?" * len(values))
    cursor = connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _link(
    connection: sqlite3.Connection, execution: int, artifact: Artifact, role: str, argument: str
) -> None:
    connection.execute(
        "INSERT INTO artifacts (path, name, type, digest, bytes) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (path) DO UPDATE SET digest = excluded.digest, bytes = excluded.bytes",
        (str(artifact.path), artifact.name, artifact.type, artifact.digest, artifact.size),
    )
    found = connection.execute("SELECT id FROM artifacts WHERE path = ?", (str(artifact.path),)).fetchone()
    _insert(
        connection, "events", execution_id=execution, artifact_id=found["id"], role=role, argument=argument
    )
