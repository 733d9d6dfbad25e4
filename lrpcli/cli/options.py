"""Options of the command line, made from the fields of settings dataclasses, and back."""

import math
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

import click

from lrpcli.cli.completers import BY_FIELD, Completer, one_of
from lrpcli.cli.terminal import note, results_apart, wait_for
from lrpcli.cli.waiting import LOADING
from lrpcli.errors import UsageError
from lrpcli.models import names_code
from lrpcli.paths import is_url, local_path, shown_url
from lrpcli.pipeline.settings import ModelSettings, PreprocessingSettings
from lrpcli.records.text import one_line
from lrpcli.setting import Setting, setting, settings_of

Decorated = Callable[..., Any]
S = TypeVar("S")
PATHS = ("FILE", "FOLDER", "DIR", "INPUT", "OUTPUT", "OTHER")
"""What metavars of paths have in them."""
VERBOSE = "lrpcli.verbose"
"""Key of the context's meta data that holds how often -v was given."""


def grouped(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """One decorator out of several, in the order in which --help shall list them."""

    def decorate(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


if TYPE_CHECKING:
    _Values = click.ParamType[Any]
else:
    _Values = click.ParamType  # it takes no argument before click 8.4


class _NotEmpty(_Values):
    """What a script gives for a variable that is not set is no value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses the empty text, and where a file is to be named the URL of one that is not here."""
        if value == "":
            self.fail("It is empty. Where it comes from a variable of a script, that may not be set.", param, ctx)
        return super().convert(_here(value, param, ctx), param, ctx)


def _here(value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
    """A value whose parameter takes paths as one of this machine: file:///a becomes /a. UsageError for other URLs."""
    if param is None or not is_url(value) or not any(word in str(param.metavar) for word in PATHS):
        return value
    path = local_path(value)
    if path is None and not isinstance(param.type, PlacePath) and not (ctx is not None and ctx.resilient_parsing):
        name = param.opts[-1] if isinstance(param, click.Option) else str(param.metavar).strip("[].")
        raise UsageError(
            f"{name} {shown_url(value)!r} is a URL, and a file or folder of this machine is needed. Name one: copy "
            "what lies at the URL before, or what is written afterwards."
        )
    return value if path is None else path


class Filled(_NotEmpty, click.types.StringParamType):
    """Text that is not empty."""


class FilledPath(_NotEmpty, click.Path):
    """A path that is not empty, which would stand for the current folder."""


class PlacePath(FilledPath):
    """A path that is not empty, or a URL."""


class NamePath(click.types.StringParamType):
    """The name of something, or a path; no URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses a URL."""
        return super().convert(_here(value, param, ctx), param, ctx)


class Texts(Filled):
    """Text that can be given several times; in a variable, separated by commas."""

    envvar_list_splitter = ","


class Finite(click.FloatRange):
    """A number within bounds; FloatRange by itself lets nan pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuses what is no number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class Converted(_Values):
    """A text of which a function makes the value, or a ValueError that says what is wrong with it."""

    name = "value"

    def __init__(self, function: Callable[[str], Any]) -> None:
        self.function = function

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Leaves a value as it is that is none of text."""
        try:
            return self.function(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def options_of_settings(kind: type[Any], *, but: tuple[str, ...] = ()) -> Callable[[Decorated], Decorated]:
    """An option for each setting of a dataclass, in their order; `but` are fields that get none."""
    return grouped(*(_option(item, details) for item, details in settings_of(kind) if item.name not in but))


def from_options(kind: type[S], values: dict[str, Any], **others: Any) -> S:
    """A settings dataclass from the values of its options; `others` are fields that have none.

    An empty list, as a settings file may have, leaves the default.
    """
    chosen = {item.name: values[item.name] for item, _ in settings_of(kind) if values.get(item.name, ()) != ()}
    return kind(**{**chosen, **others})


def _option(item: Field[Any], details: Setting) -> Callable[[Decorated], Decorated]:
    flags = details.flags or (f"--{details.flag(item.name)}",)
    default = None if item.default is MISSING else item.default
    text = details.help.replace("{choices}", _in_words(details.choices))
    if item.type is bool:
        return click.option(*flags, item.name, is_flag=True, default=default, help=text)
    if details.as_text:
        default = ",".join(default) if isinstance(default, tuple) else None if default is None else str(default)
    several = _base(item.type) is tuple and details.convert is None and not details.as_text
    if details.shown_default:
        text += f"  [default: {details.shown_default}]"
    shown = details.shown_default is None and default not in (None, ())
    return click.option(
        *flags, item.name, multiple=several, type=_type(item, details), default=default, metavar=details.metavar,
        show_default=shown, help=text, shell_complete=_completer(item.name, details.choices),
    )  # fmt: skip


def _type(item: Field[Any], details: Setting) -> _Values:
    base = _base(item.type)
    if details.convert is not None:
        return Converted(details.convert)
    if details.urls:
        return PlacePath()
    if details.as_text or base is str:
        return Filled()
    if base is int:
        return click.IntRange(_whole(details.least), _whole(details.most)) if details.least is not None else click.INT
    if base is float:
        return Finite(details.least, details.most) if details.least is not None else click.FLOAT
    return Texts()


def _base(annotation: Any) -> Any:
    """int of `int | None`, tuple of `tuple[str, ...]`."""
    if get_origin(annotation) in (types.UnionType, Union):
        annotation = next(part for part in get_args(annotation) if part is not types.NoneType)
    return get_origin(annotation) or annotation


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def _in_words(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else "".join(choices)


def _completer(name: str, choices: tuple[str, ...]) -> Completer | None:
    return one_of(lambda: choices) if choices else BY_FIELD.get(name)


def _only(*names: str) -> Callable[[Decorated], Decorated]:
    """Options of ModelSettings for these fields alone."""
    others = tuple(item.name for item, _ in settings_of(ModelSettings) if item.name not in names)
    return options_of_settings(ModelSettings, but=others)


model_option, mirror_option = _only("name"), _only("mirror")
model_options = grouped(
    options_of_settings(ModelSettings, but=("name",)),
    options_of_settings(PreprocessingSettings),
)


def model_settings(name: str, values: dict[str, Any], *, quiet: bool) -> ModelSettings:
    """ModelSettings of a model's name and the values of model_options.

    Where the name means code, a line says that it will be run, and what it prints goes to standard error.
    """
    if names_code(name):
        click.get_current_context().with_resource(results_apart())
        if not quiet:
            note(one_line(f"Runs the code of {name}."))
    say_loading(name, quiet=quiet)
    preprocessing = from_options(PreprocessingSettings, values)
    return from_options(ModelSettings, {**values, "name": name}, preprocessing=preprocessing)


def say_loading(name: str, *, quiet: bool) -> None:
    """Says on a terminal that a model is loaded, before torch is imported, which takes seconds."""
    if not quiet:
        wait_for(LOADING.format(name))


@dataclass(frozen=True)
class ConsoleSettings:
    """What a run says on standard output; `quiet` keeps all but failures from standard error."""

    as_json: bool = setting(False, flags=("--json",), help="One JSON object per image on stdout, and a summary last.")
    print0: bool = setting(False, help="Paths on stdout end with NUL.")
    quiet: bool = False


def verbosity(function: Decorated) -> Decorated:
    """-q and -v; how often -v was given is where the group's error handler finds it."""

    def remember(context: click.Context, parameter: click.Parameter, count: int) -> int:
        context.meta[VERBOSE] = count
        return count

    return grouped(
        click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but failures and errors."),
        click.option("-v", "--verbose", count=True, callback=remember, expose_value=False, is_eager=True,
                     help="More on stderr; -vv shows tracebacks."),
    )(function)  # fmt: skip
