"""SchemaGen: what data of this kind look like: classes, sizes, formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kerasall.data.validation import infer_schema
from kerasall.files import read_json, write_json
from kerasall.pipeline.component import Input, Output, component


@component
def schema_gen(
    statistics: Annotated[Path, Input("Statistics")],
    schema: Annotated[Path, Output("Schema")],
) -> None:
    """Infers the schema from the statistics."""
    write_json(schema / "schema.json", infer_schema(read_json(statistics / "statistics.json")).to_json())
