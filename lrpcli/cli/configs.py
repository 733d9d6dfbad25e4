"""`lrp configs`: the composites, what they do to each layer, and whether a file is one."""

from typing import Any

import click

from lrpcli.cli.completers import CONFIGS_OR_FILES, LRN, MODELS_OR_FILES
from lrpcli.cli.options import NamePath, model_options, model_settings, verbosity
from lrpcli.cli.table import print_facts, print_table, say_folded
from lrpcli.cli.terminal import say, say_json
from lrpcli.records.text import one_line


@click.group()
def configs() -> None:
    """Show and check the composites: which rule each layer gets."""


@configs.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@verbosity
def list_(as_json: bool, quiet: bool) -> None:
    """List the built-in composites."""
    from lrpcli.lrp.composites.composite import load_composite
    from lrpcli.lrp.composites.default import DEFAULT_CONFIG
    from lrpcli.lrp.names import ALIASES, builtin_names

    composites = [load_composite(name) for name in builtin_names()]
    if as_json:
        rows = [
            {"name": c.title, "description": c.description, "source": c.source, "alias_of": ALIASES.get(c.title)}
            for c in composites
        ]
        print_table(rows, as_json)
        return
    texts = {c.title: f"{c.description} [{c.source}]" for c in composites}
    texts[DEFAULT_CONFIG] = f"The default. {texts[DEFAULT_CONFIG]}"
    texts |= {alias: f"Alias of {name}." for alias, name in ALIASES.items()}
    print_facts(texts, max(map(len, texts)) + 2)


@configs.command()
@click.argument("config", metavar="NAME|FILE", type=NamePath(), shell_complete=CONFIGS_OR_FILES)
@click.option(
    "--model",
    metavar="NAME|FILE",
    type=NamePath(),
    shell_complete=MODELS_OR_FILES,
    help="Show for every layer of this model which rule it gets and why.",
)
@click.option("--lrn", metavar="RULE", shell_complete=LRN, help="Rule of every LRN layer, whatever the config says.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@model_options
@verbosity
def show(config: str, model: str | None, lrn: str | None, as_json: bool, quiet: bool, **values: Any) -> None:
    """Show a composite, or with --model the rule of every layer and the reason."""
    from lrpcli.lrp.composites.composite import load_composite

    composite = load_composite(config)
    composite = composite if lrn is None else composite.with_lrn(lrn)
    if model is not None:
        _show_layers(composite, model, values, as_json, quiet)
        return
    if as_json:
        say_json(_as_mapping(composite), indent=2)
        return
    say_folded(f"{composite.title}: {composite.description}")
    say_folded(f"source: {composite.source or 'not stated'}")
    say_folded(f"bias: {composite.bias}   target: {composite.target}   start: {composite.start}")
    for entry in composite.entries:
        parameters = " ".join(f"{key}={value}" for key, value in entry.parameters)
        say_folded(f"{entry.table + ' ' + entry.key:26} {entry.rule} {parameters}".rstrip())


@configs.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=NamePath())
@verbosity
def check(files: tuple[str, ...], quiet: bool) -> None:
    """Check composites: exit 2 and the reason if one cannot be used."""
    from lrpcli.lrp.composites.composite import load_composite

    for file in files:
        composite = load_composite(file)
        if not quiet:
            count = len(composite.entries)
            say(one_line(f"{file}: {count} {'entry' if count == 1 else 'entries'}, in order."))


def _as_mapping(composite: Any) -> dict[str, Any]:
    entries = [
        {"table": entry.table, "key": entry.key, "rule": entry.rule, **dict(entry.parameters)}
        for entry in composite.entries
    ]
    keys = ("description", "source", "bias", "target", "start")
    return {"name": composite.title, **{key: getattr(composite, key) for key in keys}, "entries": entries}


def _show_layers(composite: Any, model: str, values: dict[str, Any], as_json: bool, quiet: bool) -> None:
    from lrpcli.lrp.composites.assign import assign_rules
    from lrpcli.lrp.tracing.translate import build_graph
    from lrpcli.models import load_architecture

    chosen = model_settings(model, values, quiet=quiet)
    loaded = load_architecture(chosen.name, **chosen.keywords())
    graph = build_graph(loaded.module, loaded.input_shape)
    assignments = assign_rules(composite, graph, loaded.pixel_range)[1:]
    rows = [
        {
            "layer": item.layer.name,
            "kind": item.layer.kind,
            "rule": item.rule_name,
            "parameters": item.parameters,
            "why": item.reason,
        }
        for item in assignments
        if item.layer.kind != "scalar"
    ]
    print_table(rows, as_json, spare=("kind",))
