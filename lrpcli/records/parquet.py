"""The table of records as a Parquet file, which needs pyarrow."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from lrpcli.errors import OutputError, needs_package
from lrpcli.records.table import Cell, Column, Entry, path_text

ROWS = 10_000
"""Rows that are held at a time."""


def require_pyarrow(what: str = "A table as Parquet") -> Any:
    """The package pyarrow, for `what` needs it; ModelError that says how to install it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise needs_package(what, "pyarrow", "pack") from error
    return pyarrow


def write_parquet(shown: list[Column], rows: Iterable[Entry], file: BinaryIO) -> None:
    """Writes a table: texts, 64-bit numbers and truths, null where a cell is empty. Paths as in a CSV file, but exact.

    ModelError where pyarrow is missing, OutputError for a number that has no room, OSError if the file cannot be
    written.
    """
    arrow = require_pyarrow()
    types = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
    schema = arrow.schema([(column.name, types.get(column.type, arrow.string())) for column in shown])
    left = iter(rows)
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while batch := list(islice(left, ROWS)):
            cells = [[_cell(column, column.cell(entry)) for entry in batch] for column in shown]
            try:
                arrays = [arrow.array(values, kind.type) for values, kind in zip(cells, schema, strict=True)]
            except (OverflowError, arrow.ArrowInvalid) as error:
                raise OutputError(
                    f"A number in the journals has no room in a Parquet file: {error}. Take --format csv."
                ) from error
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _cell(column: Column, value: Cell) -> Cell:
    if not isinstance(value, str):
        return value
    return path_text(value) if column.type is Path else value.encode("utf-8", "backslashreplace").decode()
