"""The public names of lrpcli as Markdown, from their own signatures and docstrings: for docs/api.md."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator

import lrpcli

Function = Callable[..., object]
WIDTH = 100
SPECIAL = ("__call__", "__getitem__")
"""Methods that stand for what a thing is used for."""


def pages() -> str:
    """A section for each name, with one below it for each method that has a docstring."""
    parts = []
    for name in lrpcli.__all__:
        if name != "__version__":
            thing = getattr(lrpcli, name)
            parts += [f"## `{name}`", *described(thing, f"lrpcli.{name}")]
            for method, function in methods(thing):
                parts += [f"### `{name}.{method}`", *described(function, method)]
    return "\n\n".join(parts)


def methods(thing: object) -> Iterator[tuple[str, Function | property]]:
    """The public methods and properties that a class defines and documents, in the order of its source."""
    for name, value in vars(thing).items() if inspect.isclass(thing) else ():
        shown = name in SPECIAL or not name.startswith("_")
        if shown and (inspect.isfunction(value) or isinstance(value, property)) and value.__doc__:
            yield name, value


def described(thing: object, name: str) -> list[str]:
    """How it is called or what its fields are, and its docstring in paragraphs; examples become blocks."""
    text = re.sub(r"\n(?=>>> )", "\n\n", inspect.getdoc(thing) or "", count=1)
    prose = (part.strip() for part in re.split(r"\n{2,}", text))
    said = [f"```pycon\n{part}\n```" if part.startswith(">>> ") else part for part in prose]
    return [*called(thing, name), *said]


def called(thing: object, name: str) -> list[str]:
    """A block with the names and defaults of what is given, or a line of fields for what other functions make."""
    if isinstance(thing, property) or (inspect.isclass(thing) and issubclass(thing, Exception)):
        return []
    if dataclasses.is_dataclass(thing) and not all(has_default(field) for field in dataclasses.fields(thing)):
        names = (f"`{field.name}`" for field in dataclasses.fields(thing) if not field.name.startswith("_"))
        return [textwrap.fill(f"Fields: {', '.join(names)}.", 120)]
    signature = inspect.signature(thing)  # type: ignore[arg-type]
    given = [one for one in signature.parameters.values() if one.name != "self"]
    words = [word(one) for one in given]
    star = next((place for place, one in enumerate(given) if one.kind is one.KEYWORD_ONLY), None)
    if star is not None:
        words.insert(star, "*")
    return ["```text\n" + textwrap.fill(f"{name}({', '.join(words)})", WIDTH, subsequent_indent="    ") + "\n```"]


def has_default(field: "dataclasses.Field[object]") -> bool:
    """Whether a field can be left out."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def word(one: inspect.Parameter) -> str:
    """A parameter with its default."""
    if one.default is one.empty:
        return f"**{one.name}" if one.kind is one.VAR_KEYWORD else one.name
    default = f"{type(one.default).__name__}()" if dataclasses.is_dataclass(one.default) else repr(one.default)
    return f"{one.name}={default}"
