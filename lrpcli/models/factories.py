"""Nets that code makes: package.module:factory and file.py:factory.

Importing this module is cheap: no name is looked up before `make`.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lrpcli.errors import LrpError, ModelError, suggestion
from lrpcli.models.importers import TABLE

DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
"""A name of Python, or several with dots between them."""
LONGEST = 200
"""Characters of an error of somebody else's code that a message quotes."""
EXAMPLE = "def make(): return Net(classes=10)"


@dataclass(frozen=True)
class Factory:
    """What makes a net: the `name` of a function, a class or a module in a `place`, a .py file or a Python module."""

    place: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether the place is a file."""
        return self.place.lower().endswith(".py")

    def __str__(self) -> str:
        return f"{self.place}:{self.name}"

    @property
    def title(self) -> str:
        """What a model is called that has no other name: without the folder."""
        return f"{Path(self.place).name if self.is_file else self.place}:{self.name}"


def find_factory(model: str | Path) -> Factory | None:
    """The factory that a text means; None for any other name, and for a path.

    >>> from lrpcli.models.factories import find_factory
    >>> find_factory("nets/net.py:make")
    Factory(place='nets/net.py', name='make')
    >>> find_factory("torchvision.models:resnet18").is_file
    False
    >>> find_factory("net.caffemodel") is find_factory("C:/nets/net.onnx") is None
    True
    """
    text = str(model)
    place, _, name = text.rpartition(":")
    if not DOTTED.fullmatch(name) or text.lower().endswith(tuple(TABLE)) or Path(text).exists():
        return None
    factory = Factory(place, name)
    return factory if factory.is_file or DOTTED.fullmatch(place) else None


def make(factory: Factory) -> Any:
    """What the factory makes, without arguments; or the thing of that name itself, where it is made already.

    Runs its code. ModelError that names the line if that fails, and whatever LrpError it raises.
    """
    from torch import nn

    from lrpcli.models.model import Model

    with _importable(factory), _undone():
        found = _look_up(factory)
        if isinstance(found, (nn.Module, Model)):
            return found
        if not callable(found):
            raise ModelError(
                f"{str(factory)!r} is an object of type {type(found).__name__}. Name the net, its class, or a function "
                f"that makes it: {EXAMPLE}."
            )
        _require_no_arguments(found, factory)
        with _named(f"{str(factory)!r}"):
            made = found()
    if not isinstance(made, (nn.Module, Model)):
        raise ModelError(
            f"{str(factory)!r} made an object of type {type(made).__name__}. A factory returns a torch.nn.Module, or "
            f"what lrpcli.load_model(module, ...) gives: {EXAMPLE}."
        )
    return made


def _look_up(factory: Factory) -> Any:
    found: Any = _run_file(Path(factory.place)) if factory.is_file else _import(factory)
    for part in factory.name.split("."):
        if not hasattr(found, part):
            known = [name for name in dir(found) if not name.startswith("_")]
            raise ModelError(f"{factory.place!r} has no {factory.name!r}.{suggestion(part, known)}")
        found = getattr(found, part)
    return found


def _run_file(path: Path) -> ModuleType:
    """The module that a file of Python code is, run anew each time; it can be imported by its name afterwards."""
    from lrpcli.small_files import UnusableFile, read_small

    try:
        source = read_small(path)
    except UnusableFile as error:
        raise ModelError(f"The file {str(path)!r} {error}.") from error
    module = ModuleType(_module_name(path))
    module.__file__ = str(path.absolute())
    with _named(f"The code in {str(path)!r}"):
        code = compile(source, module.__file__, "exec")
        before = sys.modules.get(module.__name__)
        sys.modules[module.__name__] = module
        try:
            exec(code, vars(module))
        except BaseException:
            del sys.modules[module.__name__]
            if before is not None:
                sys.modules[module.__name__] = before
            raise
    return module


def _module_name(path: Path) -> str:
    """The file's name without its suffix, or another where a module of that name is loaded already."""
    loaded = sys.modules.get(path.stem)
    is_same = loaded is None or getattr(loaded, "__file__", None) == str(path.absolute())
    return path.stem if is_same else f"{path.stem} (of {path.absolute().parent})"


def _import(factory: Factory) -> ModuleType:
    try:
        with _named(f"The module {factory.place!r}"):
            return importlib.import_module(factory.place)
    except ModelError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{factory.place}.".startswith(f"{cause.name}."):
            raise ModelError(_not_found(factory)) from error
        raise


def _not_found(factory: Factory) -> str:
    from lrpcli.models.zoo import with_prefix

    meant = with_prefix(str(factory))
    offer = f" Did you mean {meant[0]}?" if meant else ""
    file = Path(*factory.place.split(".")).with_suffix(".py")
    hint = f"A file is named with its suffix: {file}:{factory.name}." if file.is_file() else (
        "Check its name; a package of your own must be installed or lie on PYTHONPATH, and a file is named with its "
        "suffix, net.py:make."
    )  # fmt: skip
    return f"There is no Python module {factory.place!r} for {str(factory)!r}.{offer} {hint}"


def _require_no_arguments(found: Any, factory: Factory) -> None:
    """ModelError that names the arguments which a factory cannot do without."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (ValueError, TypeError):  # of something written in C
        return
    needed = [
        each.name for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]  # fmt: skip
    if needed:
        raise ModelError(
            f"{str(factory)!r} needs arguments ({', '.join(needed)}), and a factory is called without any. Write a "
            f"function that gives them: {EXAMPLE}."
        )


@contextmanager
def _importable(factory: Factory) -> Iterator[None]:
    """Modules beside a file can be imported while it lasts, as when Python runs that file."""
    if not factory.is_file:
        yield
        return
    folder = str(Path(factory.place).absolute().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)


@contextmanager
def _undone() -> Iterator[None]:
    """Sets back what code may change for the whole program: the current folder, and the type that numbers have."""
    import torch

    folder, dtype = Path.cwd(), torch.get_default_dtype()
    try:
        yield
    finally:
        os.chdir(folder)
        torch.set_default_dtype(dtype)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turns what somebody else's code raises into a ModelError that names the code and the line."""
    from lrpcli.lrp.tracing.tracer import line_in_code

    try:
        yield
    except (LrpError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:LONGEST].rstrip(".")
        kind = "it ended the program" if isinstance(error, SystemExit) else type(error).__name__
        reason = f"{kind}: {text}" if text else kind
        raise ModelError(f"{what} failed{line_in_code(error)} ({reason}). Mend it; -vv shows where it was.") from error
