"""SchemaGen: what data of this kind look like: classes, sizes, formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kerasall.data.statistics import Schema, infer_schema
from kerasall.files import read_json, sha256_of_file, write_json
from kerasall.pipeline.component import Input, Output, component


def hash_schema_file(schema_file: str | None) -> str | None:
    """Content of the pinned schema, where one is named."""
    return sha256_of_file(schema_file) if schema_file and Path(schema_file).is_file() else None


@component(fingerprint=hash_schema_file)
def schema_gen(
    statistics: Annotated[Path, Input("Statistics")],
    schema_file: str | None,
    schema: Annotated[Path, Output("Schema")],
) -> None:
    """Reads the pinned schema, or infers one from the statistics."""
    if schema_file:
        found = Schema.from_json(read_json(schema_file))
    else:
        found = infer_schema(read_json(statistics / "statistics.json"))
    write_json(schema / "schema.json", found.to_json())
