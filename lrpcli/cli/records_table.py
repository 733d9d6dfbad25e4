"""`lrp table`: the records of an output folder as one table."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrpcli.cli.options import FilledPath, PlacePath, verbosity
from lrpcli.cli.terminal import note, on_terminal, results, say, say_bytes
from lrpcli.errors import UsageError
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from lrpcli.records.table import Column, Entry, Records

FORMATS = ("csv", "parquet")
PIECE = 1 << 16
"""Bytes that are written to standard output at a time."""


@click.command()
@click.argument("output", metavar="OUTPUT", type=PlacePath())
@click.option(
    "-o", "--to", "out", metavar="FILE", type=FilledPath(), help="Write the table into a file, whole or not at all."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="csv, or parquet, which needs pyarrow.  [default: csv; parquet for a FILE called .parquet]",
)
@click.option("--failed", is_flag=True, help="Only images that failed, with kind and message.")
@verbosity
def table(output: str, out: str | None, kind: str | None, failed: bool, quiet: bool) -> None:
    """Print the records of OUTPUT as a table: a row for each image, and for each class of one that has several.

    Columns are input, status, label, score (the probability of the class), relevance, paths of the files, and the five
    best classes; a failed image has its kind of error and the message. Images come in the order in which they were
    first worked on. Only the journals are read: neither model nor pictures.
    """
    from lrpcli.records.folder import run_folder
    from lrpcli.records.table import Records

    records = Records(run_folder(output))
    if out is not None and out != "-":
        write_table(records, Path(out), kind, failed=failed)
    else:
        _print_table(records, kind or "csv", failed=failed)
    if not quiet and records.left_out():
        note(records.left_out())


OTHERS = (".arrow", ".feather", ".json", ".jsonl", ".ods", ".tsv", ".xls", ".xlsx")
"""Suffixes that say of a table what it would not be."""


def table_format(file: Path) -> str:
    """What a file of this name holds: its suffix says so. UsageError for that of another format."""
    if file.suffix.lower() in OTHERS:
        raise UsageError(
            f"{one_line(str(file))!r} cannot be written: tables are CSV or Parquet. Call it *.csv, which spreadsheets "
            "open, or *.parquet."
        )
    return "parquet" if file.suffix.lower() == ".parquet" else "csv"


def require_table_file(file: str | None) -> None:
    """UsageError, or ModelError where pyarrow is missing, if a table cannot be written into a file of this name."""
    if file is None:
        return
    if file == "-" or (Path(file).exists() and not Path(file).is_file()):
        raise UsageError(f"--csv {file!r} is no file to be written. Name one, or use lrp table afterwards.")
    if table_format(Path(file)) == "parquet":
        from lrpcli.records.parquet import require_pyarrow

        require_pyarrow()


def write_table(records: "Records", file: Path, kind: str | None = None, *, failed: bool = False) -> None:
    """Writes the table of records into a file. OutputError if it cannot be written; see Records for others."""
    from lrpcli.records.parquet import require_pyarrow, write_parquet
    from lrpcli.records.store import whole_file
    from lrpcli.records.table import columns, csv_lines, entries

    shown, rows = columns(records.description), entries(records, failed=failed)
    if (kind or table_format(file)) == "parquet":
        require_pyarrow()
        with whole_file(file) as written:
            write_parquet(shown, rows, written)
        return
    with whole_file(file) as written:
        written.writelines(csv_lines(shown, rows))


def _print_table(records: "Records", kind: str, *, failed: bool) -> None:
    from lrpcli.records.table import columns, csv_lines, entries

    shown, rows = columns(records.description), entries(records, failed=failed)
    if kind == "parquet":
        if on_terminal():
            raise UsageError("A table as Parquet is nothing for a terminal. Name a file with -o.")
        _write_parquet(shown, rows)
    elif on_terminal():
        for line in csv_lines(shown, rows):
            say(one_line(line.decode().removesuffix("\n")))
    else:
        for piece in _pieces(csv_lines(shown, rows)):
            say_bytes(piece)


def _write_parquet(shown: "list[Column]", rows: "Iterator[Entry]") -> None:
    from lrpcli.records.parquet import write_parquet

    results().flush()
    write_parquet(shown, rows, results().buffer)


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines together, so that each is not a write of its own."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
