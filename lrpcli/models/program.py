"""Nets that torch.export saved, .pt2: net, weights and the shape of the input in one file.

Beside those a file may say, as extra files of torch.export.save, what a .safetensors file says as metadata: `name`,
`preprocessing` (JSON) and `labels` (a line per output).
"""

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from lrpcli.errors import ModelError
from lrpcli.lrp.tracing.outputs import in_words, outputs_returned, select_output
from lrpcli.models.description import Description
from lrpcli.models.model import Model, check_input_shape, make_model
from lrpcli.models.presets import preset
from lrpcli.models.program_checks import SAVE, check_program
from lrpcli.models.reading import read_weights_file
from lrpcli.models.self_describing import describe_metadata, facts_of
from lrpcli.text_files import plain_reason


def import_program(path: Path, description: Description) -> Model:
    """The importer of .pt2 files; `description` overrules the file's own.

    Raises ModelError if the file is damaged, holds more than a net, or was exported for another shape.
    """
    data, digest = read_weights_file(path, "program", "archive", "pickle")
    extra = check_program(data, str(path))
    module, example = _load(data, path)
    complete = description.over(describe_metadata(extra, path))
    shape = _input_shape(module, example, complete, path)
    heads = outputs_returned(module)
    if heads and complete.head is None:
        raise ModelError(
            f"The net in {str(path)!r} returns {in_words(heads)}. Choose one: output={next(iter(heads))!r}, or "
            "--output on the command line."
        )
    chosen = module if complete.head is None else select_output(module, complete.head)
    model = make_model(
        chosen,
        shape,
        preset("unit", shape[1:], shape[0]),
        complete,
        name=path.stem,
        source=str(path),
        outputs=_classes(chosen),
        weights_sha256=digest,
    )
    return replace(model, head=complete.head, heads=tuple(heads), facts=facts_of(extra))


def _load(data: bytes, path: Path) -> tuple[fx.GraphModule, Any]:
    """The net, and the input that it was exported with."""
    try:
        with _quiet():
            program = torch.export.load(io.BytesIO(data))
            # The checks of its inputs are Python code, made of names in the file.
            unchecked = (
                {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
            )
            module = program.module(**unchecked)
    except Exception as error:  # a damaged file may make it raise any
        raise ModelError(
            f"{str(path)!r} cannot be read by torch.export of PyTorch {torch.__version__} ({plain_reason(error)}). "
            f"Save it with this version, on the CPU: {SAVE}."
        ) from error
    assert isinstance(module, fx.GraphModule)
    return module, _example(program)


def _example(program: ExportedProgram) -> Any:
    try:
        return program.example_inputs[0][0]
    except (TypeError, IndexError, KeyError):
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export logs of a file that it cannot read: the error says it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _input_shape(module: fx.GraphModule, example: Any, description: Description, path: Path) -> tuple[int, int, int]:
    """The shape (C, H, W) that it was exported for, or that was given where any would do."""
    value = next((node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"), None)
    sides: list[int | None] = [
        side if isinstance(side, int) else None for side in (value.shape[1:] if isinstance(value, Tensor) else ())
    ]
    given = description.input_shape
    if given is not None:
        if len(sides) == 3 and any(side not in (None, own) for side, own in zip(sides, given, strict=True)):
            raise ModelError(f"{str(path)!r} was exported for images of shape {tuple(sides)}, and not {given}.")
        return check_input_shape(given, str(path))
    if None in sides and isinstance(example, Tensor) and example.dim() == len(sides) + 1:
        sides = list(example.shape[1:])
    return check_input_shape([side or 0 for side in sides], str(path))


def _classes(module: Any) -> int | None:
    """The length of the second axis of what it returns, where that is known."""
    returned = next(node.args[0] for node in module.graph.nodes if node.op == "output")
    while isinstance(returned, (tuple, list)) and len(returned) == 1:
        returned = returned[0]
    value = returned.meta.get("val") if isinstance(returned, fx.Node) else None
    classes = value.shape[1] if isinstance(value, Tensor) and value.dim() > 1 else None
    return classes if isinstance(classes, int) else None
