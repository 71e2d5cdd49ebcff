"""The metadata store: runs, executions, artifacts, parameters, metrics and what came of what, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError
from kerasall.pipeline.artifacts import Artifact

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
    """Reads and writes the SQLite file; every call is one transaction."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
        connection = sqlite3.connect(self.path, timeout=60)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                yield connection
        finally:
            connection.close()

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
