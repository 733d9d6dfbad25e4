"""What the ONNX standard says of an operator: how many values a node reads and makes, and which attributes it has."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

KNOWN_OPSET = 28
"""The newest version of the standard with which the operators here were compared."""

_TYPES = {
    "bool": ("tensor(bool",),
    "int": ("tensor(int", "tensor(uint"),
    "float": ("tensor(float", "tensor(double", "tensor(bfloat"),
}


def find_fault(node: Any, opset: int) -> str:
    """Why a NodeProto is no use of its operator in that version of the standard; "" if it is, or nobody knows it."""
    from onnx import defs

    schema = _schema(node.op_type, opset)
    if schema is None:
        return "this version of the standard does not have the operator yet" if defs.has(node.op_type) else ""
    return next(_faults(node, schema), "")


def find_misfit(operator: str, opset: int, kinds: Sequence[str | None]) -> str:
    """Why an operator cannot read values of these kinds of numbers (None: unknown, left out); "" if it can.

    What the standard gives one type must be of one kind.
    """
    schema = _schema(operator, opset)
    found: dict[str, str] = {}
    for number, kind in enumerate(kinds if schema is not None and schema.inputs else ()):
        parameter = schema.inputs[min(number, len(schema.inputs) - 1)]
        if kind is None:
            continue
        if not any(text.startswith(_TYPES[kind]) for text in parameter.types):
            return f"its input {number + 1} holds {kind} numbers, which the standard does not allow there"
        name = getattr(parameter, "type_str", None) or parameter.typeStr
        if found.setdefault(name, kind) != kind and parameter.is_homogeneous:
            return f"its inputs hold {found[name]} and {kind} numbers, which the standard does not allow"
    return ""


@cache
def _schema(operator: str, opset: int) -> Any:
    from onnx import defs

    return defs.get_schema(operator, opset, "") if defs.has(operator, opset, "") else None


def _faults(node: Any, schema: Any) -> Iterator[str]:
    if schema.deprecated:
        yield "this version of the standard no longer has the operator"
    if schema.since_version > KNOWN_OPSET:
        yield f"the standard changed the operator in version {schema.since_version}, and {KNOWN_OPSET} is known here"
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
