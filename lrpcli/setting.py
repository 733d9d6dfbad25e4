"""A field of a settings dataclass with all that its option on the command line needs, written once.

    @dataclass(frozen=True)
    class Example:
        steps: int = setting(100, help="Regions that are replaced.", metavar="N", least=1)

cli.options makes `--steps N` of it, with the default, the bounds and the help of the field.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from lrpcli.errors import require_one_of

KEY = "lrpcli.setting"


@dataclass(frozen=True)
class Setting:
    """What an option needs beside its field's name, type and default.

    `flags` are its names, made from the field's where none are given. `convert` makes the value of a text, and raises
    ValueError with a sentence. With `as_text` the dataclass itself takes the text apart. `shown_default` stands in
    the help where the field's default says little. `help` may hold "{choices}". With `urls` a path may be a URL.
    """

    help: str
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    shown_default: str | None = None
    convert: Callable[[str], Any] | None = None
    as_text: bool = False
    urls: bool = False

    def flag(self, name: str) -> str:
        """The long flag of a field, without dashes."""
        long = [flag for flag in self.flags if flag.startswith("--")]
        return (long[0] if long else name).removeprefix("--").replace("_", "-")


def setting(
    default: Any = MISSING,
    *,
    help: str,
    metavar: str | None = None,
    flags: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    shown_default: str | None = None,
    convert: Callable[[str], Any] | None = None,
    as_text: bool = False,
    urls: bool = False,
) -> Any:
    """A dataclass field that is an option of the command line too; see Setting."""
    details = Setting(help, metavar, flags, least, most, choices, shown_default, convert, as_text, urls)
    return field(default=default, metadata={KEY: details})


def settings_of(kind: Any) -> list[tuple[Field[Any], Setting]]:
    """The fields of a settings dataclass that are options, in their order."""
    return [(item, item.metadata[KEY]) for item in fields(kind) if KEY in item.metadata]


def require_choices(settings: Any) -> None:
    """UsageError if a field that has choices holds none of them; a field may also hold several, or None."""
    for item, details in settings_of(settings):
        value = getattr(settings, item.name)
        if details.choices and value is not None:
            for one in value if isinstance(value, tuple) else (value,):
                require_one_of(details.flag(item.name), one, details.choices)
