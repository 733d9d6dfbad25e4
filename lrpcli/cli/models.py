"""`lrp models`: named models, their layers, and their weights in the cache."""

import json
from typing import TYPE_CHECKING, Any

import click

from lrpcli.cli.options import model_options, model_settings, verbosity
from lrpcli.cli.table import cell_text, print_table
from lrpcli.cli.terminal import note, say, say_json, say_path
from lrpcli.models.presets import PRESETS
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from lrpcli.models.model import Model

as_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
LABEL_WIDTH = 14
FOR_JSON = ("recipe",)
"""Facts too long for people, shown with --json alone."""


@click.group()
def models() -> None:
    """Show models, and fetch and check the weights of named ones."""


@models.command("list")
@click.argument("zoo", required=False)
@as_json_option
@verbosity
def list_(zoo: str | None, as_json: bool, quiet: bool) -> None:
    """List the models that go by name, and whether their weights are here; ZOO is torchvision or timm."""
    from lrpcli.models.zoo import list_entries, list_zoo, summaries

    rows = [
        {
            "name": entry.name,
            "input": entry.input,
            "outputs": entry.outputs,
            "weights": entry.weights.state(),
            "title": entry.title,
        }
        for entry in (list_entries() if zoo is None else list_zoo(zoo))
    ]
    print_table(rows, as_json)
    if zoo is None and not quiet:
        note("\n".join(["", "And by a prefix, which `lrp models list ZOO` lists:", *summaries()]))


@models.command()
@click.argument("model", metavar="NAME|FILE")
@as_json_option
@model_options
@verbosity
def show(model: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Show what a model reads and its layers, LRN parameters included; a named model's weights need not be here."""
    from lrpcli.models import load_architecture

    chosen = model_settings(model, values, quiet=quiet)
    loaded = load_architecture(chosen.name, **chosen.keywords())
    # Below, so that a misspelt name is refused before torch is imported.
    from lrpcli.models.layer_table import layer_table

    layers = [{"layer": row.name, "kind": row.kind, "output": row.output, "details": row.details}
              for row in layer_table(loaded)]  # fmt: skip
    found, told = _facts(loaded, as_json), _zoo_facts(model) | _own_facts(loaded)
    facts = found | {heading: value for heading, value in told.items() if heading not in found}
    if as_json:
        say_json({**facts, "layers": layers}, indent=2)
        return
    for heading, value in facts.items():
        if value is not None and heading not in FOR_JSON:
            say(one_line(f"{heading:{LABEL_WIDTH}} {cell_text(value)}"))
    say()
    print_table(layers, False)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@verbosity
def fetch(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch the weights of named models into the cache, check their hash, and print where they lie."""
    from lrpcli.models.zoo import find_entry

    for entry in [find_entry(name) for name in names]:
        say_path(entry.weights.fetch(progress=not quiet))


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json_option
@verbosity
def verify(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Check cached weights against their hash; without NAME, all that are here. Exit 3 if any is not right."""
    from lrpcli.errors import WeightsError
    from lrpcli.models.zoo import find_entry, list_entries

    chosen = [find_entry(name) for name in names] or list_entries()
    states = {entry.name: entry.weights.verify() for entry in chosen}
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
    from lrpcli.models.zoo import find_entry
    from lrpcli.models.zoo.weights import cache_folder

    say_path(cache_folder() if name is None else find_entry(name).weights.path())


def _facts(model: "Model", as_json: bool) -> dict[str, object]:
    """What is known of every model, by heading and in the order in which it is shown."""
    from lrpcli.models.layer_table import parameter_count

    return {
        "name": model.name,
        "parameters": parameter_count(model),
        "input": model.input_shape,
        **_preprocessing(model, as_json),
        "outputs": model.outputs,
        "labels": 0 if model.labels is None else len(model.labels),
        "sha256": model.weights_sha256,
        "source": model.source,
    }


def _preprocessing(model: "Model", as_json: bool) -> dict[str, object]:
    """What becomes of a photo, and who says so."""
    found = model.preprocessing
    if as_json:
        return {"preprocessing": None if found is None else found.fingerprint(), "preprocessing_by": model.stated_by}
    if found is None:
        return {"preprocessing": f"unknown: give --preprocessing NAME ({', '.join(PRESETS)}), or --mean, --std or "
                                 "--pixel-scale"}  # fmt: skip
    return {"preprocessing": f"{found.describe()}; by {model.stated_by}"}


def _zoo_facts(name: str) -> dict[str, str]:
    """What a zoo says of a named model; nothing for a path."""
    from lrpcli.models import is_name
    from lrpcli.models.zoo import find_entry

    return find_entry(name).facts() if is_name(name) else {}


def _own_facts(model: "Model") -> dict[str, object]:
    """What a model's file says of itself for people, JSON objects as such."""
    return {heading: _object_or_text(text) for heading, text in model.facts.items()}


def _object_or_text(text: str) -> Any:
    try:
        return json.loads(text) if text.startswith("{") else text
    except (ValueError, RecursionError):
        return text
