"""Every report has its test, and every test of a report its report."""

import ast
from itertools import chain
from pathlib import Path

from tests.reports.table import REPORTS

ROOT = Path(__file__).resolve().parents[2]


def names_of_tests(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_test_of_every_report_exists():
    for report in chain.from_iterable(REPORTS.values()):
        path, _, name = report.test.partition("::")
        assert name in names_of_tests(path), report


def test_every_test_beside_the_table_belongs_to_a_report():
    named = {report.test for report in chain.from_iterable(REPORTS.values())}
    path = "tests/reports/test_nets.py"
    assert {f"{path}::{name}" for name in names_of_tests(path)} - named == {
        f"{path}::test_dropout_that_is_always_on_is_refused"
    }


def test_no_report_is_listed_twice():
    for reports in REPORTS.values():
        rows = [(report.where, report.test) for report in reports]
        assert len(rows) == len(set(rows))
