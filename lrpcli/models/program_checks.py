"""What a file of torch.export may hold: torch.export.load would run code that hides in some of its parts.

It unpickles objects, takes sizes for Python expressions and calls whatever function a graph names. So all parts are
looked at before, and only tensors, sizes and the operators of nets pass.
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from lrpcli.errors import ModelError
from lrpcli.models.reading import Allowance
from lrpcli.text_files import plain_reason

GRAPH = "models/model.json"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
INPUTS = "data/sample_inputs/model.pt"
PARTS = re.compile(
    r"archive_format|archive_version|version|byteorder|\.format_version|\.storage_alignment|\.data/\w+|"
    rf"{GRAPH}|data/(weights/weight|constants/tensor)_\d+|{'|'.join(CONFIGS)}|{INPUTS}|extra/[\w.-]+"
)
"""Names of parts, without the folder that all lie in."""
TENSOR = re.compile(r"(weight|tensor)_\d+")
OPERATORS = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.\w+|math\.\w+|torch\.sym_\w+")
SIZE = re.compile(
    r"(?!.*\*\*)(?:Symbol\('[a-z]+\d+'(?:, [a-z]+=(?:True|False))*\)|Integer\(-?\d{1,9}\)|[suz]\d+|\d{1,9}|"
    r"Add|Mul|Max|Min|Mod|FloorDiv|CeilDiv|[-+*/(), ])*+"
)
"""Sizes that depend on the input, such as 2*s0; a number with a power could take for ever."""
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
"""What inputs and outputs may be put into."""
LONGEST = 2**27
"""Bytes of a description of a graph; that of the largest known net of torchvision takes a tenth."""
SAVE = "torch.export.save(torch.export.export(module.eval(), (x,)), 'net.pt2')"


def check_program(data: bytes, path: str) -> dict[str, str]:
    """The further texts in a file of torch.export, by name; ModelError for one that holds more than a net.

    `path` is for messages.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = _require_sound(archive, len(data))
            _require_known(names, path)
            texts = {name: archive.read(whole) for name, whole in names.items() if name.endswith(".json")}
            extra = {name.removeprefix("extra/"): archive.read(whole).decode() for name, whole in names.items()
                     if name.startswith("extra/")}  # fmt: skip
            _require_tensors_alone(archive.read(names[INPUTS]), path)
        weights = Allowance(path, "its weights")
        for name in CONFIGS:
            _check_config(json.loads(texts[name]), weights, path)
        _check_graph(json.loads(texts[GRAPH]), path)
        return extra
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError,
            RecursionError, RuntimeError, EOFError) as error:  # fmt: skip
        raise ModelError(
            f"{path!r} is no undamaged file of torch.export ({plain_reason(error)}). Fetch it again, or save it anew: "
            f"{SAVE}."
        ) from error


def _require_sound(archive: zipfile.ZipFile, size: int) -> dict[str, str]:
    """Its parts by name without the folder that all lie in. ValueError for damage, and for what is squeezed."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed, which torch.export never does")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its parts lie over each other")
    damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged!r} is wrong")
    names = {member.filename.partition("/")[2] or member.filename: member.filename for member in members}
    if len(names) < len(members):
        raise ValueError("two of its parts have one name")
    return names


def _require_known(names: Mapping[str, str], path: str) -> None:
    if any(name.startswith("serialized_") for name in names):
        raise ModelError(
            f"{path!r} is of the form that PyTorch wrote before 2.8, which is a pickle. Save it anew with a later one: "
            f"{SAVE}."
        )
    unknown = next((name for name in names if not PARTS.fullmatch(name)), None)
    if unknown is not None:
        raise ModelError(
            f"{path!r} holds {unknown!r}, which may be code and is never loaded. Save the net alone: {SAVE}."
        )


def _require_tensors_alone(data: bytes, path: str) -> None:
    """ModelError if the example inputs are more than tensors: torch.export.load would unpickle anything."""
    import torch

    try:
        torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        raise ModelError(
            f"The example input in {path!r} is no tensor, and to read it could run code. Save the net anew: {SAVE}."
        ) from error


def _check_config(found: Any, allowance: Allowance, path: str) -> None:
    """ModelError for a tensor that is a pickle; its size is counted."""
    for name, entry in found["config"].items():
        if entry.get("use_pickle") or not TENSOR.fullmatch(entry["path_name"]):
            raise ModelError(
                f"The tensor {name!r} of {path!r} is a pickle, and to read it could run code. Save the net with plain "
                "tensors."
            )
        allowance.take(tuple(side["as_int"] for side in entry["tensor_meta"]["sizes"]), f"tensor {name!r}")


def _check_graph(found: Any, path: str) -> None:
    """ModelError for a graph that calls anything but operators of nets, or says its sizes in Python."""
    values = Allowance(path, "the values between its layers for one image")
    for place in _objects(found):
        for node in place.get("nodes") or ():
            if not OPERATORS.fullmatch(node["target"]):
                raise ModelError(f"{path!r} calls {node['target']!r}, which is no operator of nets and is never run.")
        if not SIZE.fullmatch(place.get("expr_str") or ""):
            raise ModelError(
                f"{path!r} has the size {place['expr_str'][:60]!r}, which is none. Save the net anew: {SAVE}."
            )
        for spec in (place.get("in_spec"), place.get("out_spec")):
            _check_structure(spec, path)
        for name, meta in (place.get("tensor_values") or {}).items():
            sides = [side.get("as_int", 1) for side in meta["sizes"]]
            values.take(tuple(sides[1:]) if math.prod(sides) else (0,), f"value {name!r}")


def _check_structure(spec: str | None, path: str) -> None:
    """ModelError for inputs or outputs in anything but containers of Python, which could import a module."""
    kinds = {place["type"] for place in _objects(json.loads(spec))} if spec else set()
    unknown = next((kind for kind in kinds if kind not in CONTAINERS), None)
    if unknown is not None:
        raise ModelError(
            f"The inputs or outputs of {path!r} lie in {str(unknown)!r}. Export a net that returns a tensor, a tuple "
            "or a dictionary."
        )


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a value, at any depth."""
    if isinstance(found, dict):
        yield found
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _objects(inner)
