"""Composites: TOML or a mapping in, checked entries out (docs/configs.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lrpcli.errors import ConfigError, UsageError, suggestion
from lrpcli.lrp.composites.entries import TABLES, Entry, check_keys, parse_entry
from lrpcli.lrp.names import ALIASES, STARTS, builtin_names, config_folder
from lrpcli.lrp.operation import BIASES, Parameter, word
from lrpcli.lrp.rules import RULES
from lrpcli.lrp.targets import top_count
from lrpcli.small_files import UnusableFile, read_toml


@dataclass(frozen=True)
class Composite:
    """A checked config: entries that say which layers get which rule, bias treatment, target and start.

    >>> import lrpcli
    >>> composite = lrpcli.load_composite("epsilon-1")
    >>> composite.title, composite.source, composite.bias, composite.start
    ('epsilon-1', 'Binder et al. 2016', 'absorb', 'logit')
    >>> baseline = composite.with_lrn("identity")  # for an Explainer, in place of the name
    """

    title: str
    entries: tuple[Entry, ...] = ()
    description: str = word("")
    source: str = word("")
    bias: str = word("absorb", BIASES)
    target: str | int = "top"
    start: str = word("logit", STARTS)

    def with_lrn(self, rule: str) -> "Composite":
        """The same composite with another rule for every LRN layer, whatever the config says; or a ConfigError."""
        if rule not in RULES["lrn"]:
            choices = ", ".join(RULES["lrn"])
            raise ConfigError(f"There is no LRN rule {rule!r}.{suggestion(rule, RULES['lrn'])} Known are: {choices}.")
        entry = Entry("override", "lrn", rule)
        return replace(self, entries=(*self.entries, entry))


_WORDS: dict[str, Parameter] = {item.name: item.metadata["parameter"] for item in fields(Composite) if item.metadata}


def load_composite(config: "str | Path | Mapping[str, Any] | Composite") -> Composite:
    """A composite by name, path of a TOML file, or mapping of the same content. ConfigError says what is wrong.

    >>> import lrpcli
    >>> lrpcli.load_composite("epsilon-gamma-box").source
    'Montavon et al. 2019'
    >>> lrpcli.load_composite({"kind": {"convolution": "z-plus"}, "start": "one"}).start
    'one'
    >>> lrpcli.load_composite("mine.toml").title
    'mine'
    """
    if isinstance(config, Composite):
        return config
    if isinstance(config, Mapping):
        return parse_composite(config, "custom")
    name = str(config)
    if name in builtin_names():
        return parse_composite(_read(config_folder() / f"{ALIASES.get(name, name)}.toml"), name)
    if name.endswith(".toml"):
        path = Path(config)
        return parse_composite(_read(path), path.stem)
    hint = suggestion(name, builtin_names())
    raise ConfigError(f"There is no config named {name!r}.{hint} 'lrp configs list' shows all; a file ends in .toml.")


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except UnusableFile as error:
        raise ConfigError(f"The config file {str(path)!r} {error}.") from error


def parse_composite(content: Mapping[str, Any], title: str) -> Composite:
    """A composite from the content of a TOML file; every key and value is checked. ConfigError says what is wrong."""
    settings = {name: content[name] for name in (*_WORDS, "target") if content.get(name) is not None}
    check_keys(content, (*_WORDS, "target", *TABLES), title, "key")
    for name, value in settings.items():
        if name == "target":
            _check_target(value, title)
        elif complaint := _WORDS[name].complaint(name, value, title):
            raise ConfigError(f"In config {title!r}, {complaint}")
    entries = [entry for table in TABLES for entry in _parse_table(table, content.get(table, {}), title)]
    return Composite(title, tuple(entries), **settings)


def _check_target(value: object, title: str) -> None:
    """ConfigError unless it is "top", "topK" or a class index."""
    try:
        if isinstance(value, str):
            top_count(value)
            return
    except UsageError as error:
        raise ConfigError(f"In config {title!r}: {error}") from error
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f'In config {title!r}, \'target\' must be "top", "topK" or a class index, not {value!r}.')


def _parse_table(table: str, section: object, title: str) -> list[Entry]:
    if not isinstance(section, Mapping):
        raise ConfigError(f"In config {title!r}, {table!r} must be a table [{table}], not {section!r}.")
    return [parse_entry(table, str(key), value, title) for key, value in section.items()]
