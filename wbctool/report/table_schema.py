"""Table Schemas of counts.csv, differential.csv and cells.csv: what their columns mean, for programs and people."""

from __future__ import annotations

import json
from importlib.resources import files

TABLES = ("counts", "differential", "cells")
SCHEMA_BEGINNING = (
    '{\n "$schema": "https://specs.frictionlessdata.io/schemas/table-schema.json",\n "title": "One row per '
)


def table_schema_json(table: str) -> str:
    """Return the Table Schema of one CSV file.

    Args:
        table: One of ``TABLES``, the name of the CSV file without its ending.

    Returns:
        The schema as JSON. It has a column ``p_<class>`` for every class; a model that knows fewer classes writes fewer
        columns.

    Raises:
        ValueError: There is no such table.

    References:
        Table Schema, https://specs.frictionlessdata.io/table-schema/
    """
    if table not in TABLES:
        raise ValueError(f"no Table Schema for {table!r}; choose one of {', '.join(TABLES)}")
    return files("wbctool.report").joinpath("schemas", f"{table}.json").read_text(encoding="utf-8")


def read_column_types(table: str) -> dict[str, str]:
    """Return the type of each column of a CSV file by its name: ``string``, ``boolean``, ``integer`` or ``number``."""
    return {field["name"]: field["type"] for field in json.loads(table_schema_json(table))["fields"]}


def table_schema_files() -> dict[str, bytes]:
    """Return every schema by the name of the file to write, ``<table>.schema.json``, in the order of ``TABLES``."""
    return {f"{table}.schema.json": table_schema_json(table).encode() for table in TABLES}
