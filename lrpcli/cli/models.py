"""`lrp models`: named models, their layers, and their weights in the cache."""

import json
from typing import Any

import click

from lrpcli.cli.options import model_options, model_settings, verbosity
from lrpcli.cli.table import cell_text, print_table
from lrpcli.records.text import printable

as_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
LABEL_WIDTH = 14
FOR_JSON = ("recipe",)
"""Facts too long for people, shown with --json alone."""


@click.group()
def models() -> None:
    """Show models, and fetch and check the weights of named ones."""


@models.command("list")
@as_json_option
@verbosity
def list_(as_json: bool, quiet: bool) -> None:
    """List the models that go by name, and whether their weights are here."""
    from lrpcli.models.zoo.registry import named_models
    from lrpcli.models.zoo.weights import state

    rows = [
        {
            "name": model.name,
            "input": model.input,
            "outputs": model.outputs,
            "weights": state(model),
            "title": model.title,
        }
        for model in named_models().values()
    ]
    print_table(rows, as_json)


@models.command()
@click.argument("model", metavar="NAME|FILE")
@as_json_option
@model_options
@verbosity
def show(model: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Show what a model reads and its layers, LRN parameters included; a named model's weights need not be here."""
    from lrpcli.models import load_architecture

    chosen = model_settings(model, values)
    loaded = load_architecture(chosen.name, **chosen.keywords())
    # Below, so that a misspelt name is refused before torch is imported.
    from lrpcli.models.layer_table import layer_table, parameter_count

    layers = [{"layer": row.name, "kind": row.kind, "output": row.output, "details": row.details}
              for row in layer_table(loaded)]  # fmt: skip
    facts = {
        "name": loaded.name,
        "parameters": parameter_count(loaded),
        "input": loaded.input_shape,
        "preprocessing": loaded.preprocessing.fingerprint() if as_json else loaded.preprocessing.describe(),
        "outputs": loaded.outputs,
        "labels": 0 if loaded.labels is None else len(loaded.labels),
        "sha256": loaded.weights_sha256,
        "source": loaded.source,
        **_registry_facts(model),
        **_file_facts(loaded.source),
    }
    if as_json:
        click.echo(json.dumps({**facts, "layers": layers}, indent=2))
        return
    for key, value in facts.items():
        if value is not None and key not in FOR_JSON:
            click.echo(printable(f"{key:{LABEL_WIDTH}} {cell_text(value)}"))
    click.echo()
    print_table(layers, False)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@verbosity
def fetch(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch the weights of named models into the cache, check their hash, and print where they lie."""
    from lrpcli.models.zoo.registry import named_model
    from lrpcli.models.zoo.weights import fetch as fetch_weights

    for model in [named_model(name) for name in names]:
        click.echo(fetch_weights(model, progress=not quiet))


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json_option
@verbosity
def verify(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Check cached weights against their hash; without NAME, all that are here. Exit 3 if any is not right."""
    from lrpcli.errors import WeightsError
    from lrpcli.models.zoo.registry import named_model, named_models
    from lrpcli.models.zoo.weights import verify as verify_weights

    chosen = [named_model(name) for name in names] or list(named_models().values())
    states = {model.name: verify_weights(model) for model in chosen}
    if not names:
        states = {name: state for name, state in states.items() if state not in ("own file", "not fetched")}
    print_table([{"name": name, "weights": state} for name, state in states.items()], as_json)
    wrong = [name for name, state in states.items() if state not in ("ok", "bundled")]
    if wrong:
        raise WeightsError(
            f"Not verified: {', '.join(wrong)}. `lrp models fetch NAME` fetches weights that are missing or wrong."
        )


@models.command()
@click.argument("name", required=False)
@verbosity
def path(name: str | None, quiet: bool) -> None:
    """Print the cache folder, or where the weights of NAME lie or would lie."""
    from lrpcli.models.zoo.registry import named_model
    from lrpcli.models.zoo.weights import cache_folder, weights_path

    click.echo(cache_folder() if name is None else weights_path(named_model(name)))


def _registry_facts(name: str) -> dict[str, Any]:
    """What the registry says of a model; nothing for a path."""
    from lrpcli.models.zoo.registry import named_models
    from lrpcli.models.zoo.weights import state

    entry = named_models().get(name)
    if entry is None:
        return {}
    facts = {"title": entry.title, "weights": state(entry), "url": entry.url, "hash": entry.hash,
             "licence": entry.licence, "note": entry.note}  # fmt: skip
    return {key: value for key, value in facts.items() if value is not None}


def _file_facts(source: str) -> dict[str, Any]:
    """What a .safetensors file says of itself for people, JSON objects as such."""
    from lrpcli.models.self_describing import read_safetensors

    if not source.lower().endswith(".safetensors"):
        return {}
    return {key: _object_or_text(text) for key, text in read_safetensors(source).facts.items()}


def _object_or_text(text: str) -> Any:
    try:
        return json.loads(text) if text.startswith("{") else text
    except (ValueError, RecursionError):
        return text
