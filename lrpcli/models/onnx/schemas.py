"""What the ONNX standard says of an operator: how many values a node reads and makes, and which attributes it has."""

from collections.abc import Iterator
from functools import cache
from typing import Any

KNOWN_OPSET = 28
"""The newest version of the standard with which the operators here were compared."""


def find_fault(node: Any, opset: int) -> str:
    """Why a NodeProto is no use of its operator in that version of the standard; "" if it is, or nobody knows it."""
    schema = _schema(node.op_type, opset)
    return "" if schema is None else next(_faults(node, schema), "")


@cache
def _schema(operator: str, opset: int) -> Any:
    from onnx import defs

    return defs.get_schema(operator, opset, "") if defs.has(operator, opset, "") else None


def _faults(node: Any, schema: Any) -> Iterator[str]:
    if schema.deprecated:
        yield "this version of the standard no longer has the operator"
    if schema.since_version > KNOWN_OPSET:
        yield f"the standard changed the operator in version {schema.since_version}, which is newer than what is known here"
    for names, what, least, most in (
        (node.input, "reads", schema.min_input, schema.max_input),
        (node.output, "makes", schema.min_output, schema.max_output),
    ):
        if not least <= len(names) <= most:
            yield f"it {what} {len(names)} values, and the standard wants {least}" + (
                f" to {most}" if most > least else ""
            )
    for number, name in enumerate(node.input[: schema.min_input]):
        if not name and schema.inputs[min(number, len(schema.inputs) - 1)].option.name == "Single":
            yield f"its input {number + 1} is left out"
    yield from _attribute_faults(node, schema)


def _attribute_faults(node: Any, schema: Any) -> Iterator[str]:
    given = [entry.name for entry in node.attribute]
    for entry in node.attribute:
        known = schema.attributes.get(entry.name)
        if known is None:
            yield f"its attribute {entry.name!r} is not one of the standard"
        elif entry.type != int(known.type.value) or entry.ref_attr_name:
            yield f"its attribute {entry.name!r} is not of the kind {known.type.name}"
        elif given.count(entry.name) > 1:
            yield f"it has the attribute {entry.name!r} twice"
    for name, known in schema.attributes.items():
        if known.required and name not in given:
            yield f"its attribute {name!r} is missing"
