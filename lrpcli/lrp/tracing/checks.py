"""Conditions of a forward function that only guard an error, such as `assert x.dim() == 4`: they are not layers."""

import ast
import itertools
import linecache
from functools import lru_cache
from types import FrameType

_Place = tuple[int, int, int, int]
"""First line, last line, first column, last column."""


def passing_value(frame: FrameType) -> bool | None:
    """What the condition that `frame` evaluates must be for no error to be raised.

    None if it decides anything but an error: only an assert and an if whose body is a single raise are checks.
    """
    place = _place(frame)
    tree = _parsed(frame.f_code.co_filename, "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals)))
    if place is None or tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and _holds(node, place):
            return _wanted(node.test, place, True)
        if isinstance(node, ast.If) and _only_raises(node) and (_holds(node.test, place) or _starts(node, place)):
            return _wanted(node.test, place, False)
    return None


def _place(frame: FrameType) -> _Place | None:
    """Where in the source the instruction stands that the frame executes."""
    first, last, left, right = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    if first is None or last is None or left is None or right is None:
        return None
    return first, last, left, right


@lru_cache(maxsize=8)
def _parsed(name: str, source: str) -> ast.Module | None:
    try:
        return ast.parse(source, name) if source else None
    except SyntaxError:
        return None


def _only_raises(node: ast.If) -> bool:
    return len(node.body) == 1 and isinstance(node.body[0], ast.Raise)


def _holds(node: ast.stmt | ast.expr, place: _Place) -> bool:
    begin, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return begin <= (place[0], place[2]) and (place[1], place[3]) <= end


def _starts(node: ast.If, place: _Place) -> bool:
    """Whether it is the `if` itself, which stands for a test that is only a name, that is executed."""
    return (node.lineno, node.col_offset) == (place[0], place[2])


def _wanted(test: ast.expr, place: _Place, value: bool) -> bool:
    """The value of the part of a test that stands at a place, for the whole test to have `value`."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _wanted(test.operand, place, not value)
    if isinstance(test, ast.BoolOp):
        return next((_wanted(part, place, value) for part in test.values if _holds(part, place)), value)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotIn):
        return not value
    return value
