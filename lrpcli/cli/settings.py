"""Options from elsewhere: LRP_* variables and a settings file. Flags come first, then variables, file and defaults."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from lrpcli.cli.options import Decorated, FilledPath, grouped
from lrpcli.cli.table import print_table
from lrpcli.errors import UsageError, suggestion
from lrpcli.paths import is_url, shown_url

PREFIX = "LRP_"
NO_OPTIONS = {"LRP_CACHE_DIR", "LRP_OFFLINE"}
"""Variables that are no option of any command."""
SERVICE = re.compile(r"LRP(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes sets for services whose names begin with lrp, such as LRP_PORT_80_TCP_ADDR."""
FILE = "lrpcli.settings"
"""Key of the context's meta data that holds the path of the settings file."""
SHOW = "lrpcli.show_settings"
"""Key of the context's meta data that holds whether --show-settings is given."""
NOT_IN_A_FILE = ("help", "version", "settings", "show-settings", "json", "verbose", "quiet")


def option_key(option: click.Option) -> str:
    """The name of an option in a settings file: its long flag without the dashes."""
    return next((flag[2:] for flag in option.opts if flag.startswith("--")), option.name or "")


def options_of(command: click.Command) -> Iterator[click.Option]:
    """The options of a command and of all commands below it."""
    yield from (parameter for parameter in command.params if isinstance(parameter, click.Option))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from options_of(below)


def give_variables(root: click.Command) -> None:
    """Lets every option be set by a variable: --batch-size by LRP_BATCH_SIZE."""
    for option in options_of(root):
        if option_key(option) not in ("help", "version", "show-settings"):
            option.envvar = PREFIX + option_key(option).upper().replace("-", "_")


def variables_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are meant for lrp, sorted."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(PREFIX) and not SERVICE.fullmatch(name)
    }


def check_variables(root: click.Command, environment: Mapping[str, str]) -> None:
    """UsageError for a variable that begins with LRP_ and belongs to nothing."""
    known = NO_OPTIONS | {str(option.envvar) for option in options_of(root) if option.envvar}
    for name in variables_of(environment):
        if name not in known:
            raise UsageError(f"The environment variable {name} belongs to no option.{suggestion(name, known)}")


class Configurable(click.Command):
    """A command with settings_options."""

    def invoke(self, context: click.Context) -> Any:
        """Runs the command, or shows its settings."""
        if not context.meta.get(SHOW):
            return super().invoke(context)
        rows = [
            {
                "option": option_key(option),
                "value": _shown(option, context.params[option.name]),
                "source": origin(context, option),
            }
            for option in options_of(self)
            if option.name in context.params
        ]
        as_json = bool(context.params.get("as_json"))
        print_table(rows if as_json else [{**row, "value": _as_text(row["value"])} for row in rows], as_json)
        return None


def settings_options(function: Decorated) -> Decorated:
    """--settings and --show-settings."""
    return grouped(
        click.option("--settings", metavar="FILE", type=FilledPath(), is_eager=True, expose_value=False, callback=_read,
                     help="Options from a TOML file, such as batch-size = 8."),
        click.option("--show-settings", is_flag=True, expose_value=False, callback=_remember,
                     help="Show the value of every option and where it comes from, and do nothing."),
    )(function)  # fmt: skip


def origin(context: click.Context, option: click.Parameter) -> str:
    """Where the value of an option comes from, for people."""
    source = context.get_parameter_source(option.name or "")
    if source is ParameterSource.ENVIRONMENT:
        return str(option.envvar)
    if source is ParameterSource.DEFAULT_MAP:
        return str(context.meta[FILE])
    return "flag" if source is ParameterSource.COMMANDLINE else "default"


def _remember(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    context.meta[SHOW] = wanted


def _read(context: click.Context, parameter: click.Parameter, file: str | None) -> None:
    """Makes the file's values the defaults of this command."""
    if file is None:
        return
    every = {option_key(option) for option in options_of(context.find_root().command)}.difference(NOT_IN_A_FILE)
    own = {option_key(option): option for option in options_of(context.command)}
    chosen = {}
    for key, value in _parsed(file).items():
        name = key.replace("_", "-")
        if name not in every:
            raise UsageError(f"The settings file {file!r} has the key {key!r}, which is no option."
                             f"{suggestion(name, every)}")  # fmt: skip
        if name in own:
            chosen[own[name].name or ""] = _value(own[name], value, f"{key!r} in the settings file {file!r}")
    context.meta[FILE] = file
    context.default_map = chosen


def _parsed(file: str) -> dict[str, Any]:
    from lrpcli.small_files import UnusableFile, read_toml

    try:
        return read_toml(file)
    except UnusableFile as error:
        raise UsageError(f"The settings file {file!r} {error}.") from error


def _value(option: click.Option, value: Any, what: str) -> Any:
    """A value as a flag would have it: text, which the option then checks; a list if it can be given several times."""
    several = value if isinstance(value, list) else [value]
    if any(isinstance(item, (dict, list)) for item in several):
        raise UsageError(f"{what} must be a value or a list of values.")
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{what} must be true or false, not {value!r}.")
        return value
    if any(isinstance(item, bool) for item in several):
        raise UsageError(f"{what} must not be true or false.")
    try:
        texts = [str(item) for item in several]
    except ValueError as error:  # whole numbers of thousands of digits
        raise UsageError(f"{what} is too large a number.") from error
    return texts if option.multiple else ",".join(texts)


def _as_text(value: Any) -> Any:
    """A value as a settings file could have it, for the table."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


def _shown(option: click.Option, value: Any) -> Any:
    """A value without what it may hold of passwords."""
    if option.name == "mirror" and value:
        from lrpcli.models.zoo.mirrors import shown

        return shown(value)
    if isinstance(value, tuple):
        return [shown_url(item) if is_url(item) else item for item in value]
    return shown_url(value) if is_url(value) else value


def with_origin(error: click.BadParameter) -> click.BadParameter:
    """The error, with where the value came from if it was no flag."""
    if error.ctx is not None and error.param is not None:
        source = origin(error.ctx, error.param)
        if source not in ("flag", "default"):
            text = f"{error.message} (from {source})"
            return click.BadParameter(text, error.ctx, error.param, error.param_hint)
    return error
