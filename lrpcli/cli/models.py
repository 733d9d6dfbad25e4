"""`lrp models`: named models, their layers, and their weights in the cache."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrpcli.cli.columns import wrapped
from lrpcli.cli.completers import MODELS, MODELS_OR_FILES, one_of
from lrpcli.cli.options import NamePath, mirror_option, model_options, model_settings, verbosity
from lrpcli.cli.table import cell_text, print_facts, print_table
from lrpcli.cli.terminal import columns, note, on_terminal, say, say_json, say_path
from lrpcli.errors import StoppedError, UsageError, WeightsError
from lrpcli.models.presets import PRESETS
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from lrpcli.models.model import Model
    from lrpcli.models.zoo import Entry

as_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
LABEL_WIDTH = 14
NOT_HERE = ("own file", "not fetched")
FOR_JSON = ("recipe",)
"""Facts too long for people, shown with --json alone."""


@click.group()
def models() -> None:
    """Show models, and fetch and check the weights of named ones."""


@models.command("list")
@click.argument("zoo", required=False, shell_complete=one_of(lambda: ("torchvision", "timm")))
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
            "sources": list(entry.weights.urls) if as_json else len(entry.weights.urls) or None,
            "title": entry.title,
        }
        for entry in (list_entries() if zoo is None else list_zoo(zoo))
    ]
    print_table(rows, as_json, spare=("sources",))
    if zoo is None and not (quiet or as_json) and on_terminal():
        lines = ["And by a prefix, which `lrp models list ZOO` lists:", *summaries()]
        note("\n".join(["", *(part for line in lines for part in wrapped(line, columns()))]))


@models.command()
@click.argument("model", metavar="NAME|FILE|CODE", type=NamePath(), shell_complete=MODELS_OR_FILES)
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
    shown = {heading: value for heading, value in facts.items() if value is not None and heading not in FOR_JSON}
    print_facts({heading: cell_text(value) for heading, value in shown.items()}, LABEL_WIDTH + 1)
    say()
    print_table(layers, False, spare=("kind",))


@models.command()
@click.argument("model", metavar="NAME|FILE|CODE", type=NamePath(), shell_complete=MODELS_OR_FILES)
@click.argument("text", required=False)
@as_json_option
@model_options
@verbosity
def labels(model: str, text: str | None, as_json: bool, quiet: bool, **values: Any) -> None:
    """List the classes of a model: index, a tab, and name; with TEXT, those that have it in their name.

    A named model's weights need not be here.
    """
    from lrpcli.models import load_architecture

    chosen = model_settings(model, values, quiet=quiet)
    loaded = load_architecture(chosen.name, **chosen.keywords())
    found = loaded.search_labels(text or "")
    if as_json:
        say_json([{"index": index, "label": label.name, "synonyms": label.synonyms, "synset": label.synset}
                  for index, label in found], indent=2)  # fmt: skip
        return
    for index, label in found:
        say(f"{index}\t{one_line(label.text)}")


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=MODELS)
@click.option("--all", "every", is_flag=True, help="All named models whose weights can be fetched, one by one.")
@mirror_option
@as_json_option
@verbosity
def fetch(names: tuple[str, ...], every: bool, mirror: str | None, as_json: bool, quiet: bool) -> None:
    """Fetch the weights of named models into the cache, check their hash, and print where they lie.

    The others are fetched where one fails. Exit 3 if any failed.
    """
    rows: list[dict[str, str | None]] = []
    failed: list[StoppedError] = []
    for entry in _chosen(names, every, quiet):
        try:
            path = entry.weights.fetch(mirror=mirror, progress=not quiet)
            rows.append({"name": entry.name, "path": str(path), "error": None})
            if not as_json:
                say_path(path)
        except StoppedError as error:
            rows.append({"name": entry.name, "path": None, "error": str(error)})
            failed.append(error)
            if len(names) != 1:
                note(one_line(f"{entry.name}: {error}"))
    if as_json:
        say_json(rows, indent=2)
    if failed and len(names) == 1:
        raise failed[0]
    if failed:
        wrong = ", ".join(str(row["name"]) for row in rows if row["error"])
        raise WeightsError(f"Not fetched: {wrong}. The lines above say why.")


def _chosen(names: tuple[str, ...], every: bool, quiet: bool) -> "list[Entry]":
    """The models to fetch, each once; those that --all cannot fetch are named with the reason."""
    from lrpcli.models.zoo import find_entry, list_fetched

    if bool(names) == every:
        raise UsageError("Give names of models whose weights to fetch, or --all for all of them.")
    if not every:
        return [find_entry(name) for name in dict.fromkeys(names)]
    entries = list_fetched()
    for entry in entries:
        obstacle = entry.weights.obstacle()
        if obstacle is not None and not quiet:
            note(one_line(f"Left out: {entry.name}. {obstacle}"))
    return [entry for entry in entries if entry.weights.obstacle() is None]


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...", type=NamePath(), shell_complete=MODELS_OR_FILES)
@as_json_option
@verbosity
def verify(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Check cached weights, or FILEs, against size and hash; without NAME, all that are here.

    A FILE is looked up among the weights of all named models. Exit 3 if any is not right.
    """
    from lrpcli.models import is_name
    from lrpcli.models.zoo import find_entry, list_entries

    known = {name: find_entry(name) for name in names if is_name(name)}
    if not names:
        known = {entry.name: entry for entry in list_entries() if entry.weights.state() not in NOT_HERE}
    rows = [_verified(name, known.get(name)) for name in dict.fromkeys(names or known)]
    print_table(rows, as_json)
    wrong = [row["name"] or row["file"] for row in rows if row["weights"] not in ("ok", "bundled")]
    if wrong:
        raise WeightsError(
            f"Not verified: {', '.join(map(str, wrong))}. `lrp models fetch NAME` fetches weights that are missing or "
            "wrong."
        )


def _verified(text: str, entry: "Entry | None") -> dict[str, str | None]:
    """A line about a named model, or about a file."""
    from lrpcli.models.zoo import recognise_weights

    try:
        if entry is not None:
            state = entry.weights.verify()
            path = None if state in NOT_HERE else str(entry.weights.path())
            return {"name": text, "weights": state, "file": path}
        name, state = recognise_weights(Path(text))
        return {"name": name, "weights": state, "file": text}
    except WeightsError as error:
        note(one_line(str(error)))
        return {"name": None if entry is None else text, "weights": "unreadable", "file": text}


@models.command()
@click.argument("name", required=False, shell_complete=MODELS)
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
        return {"preprocessing": f"unknown: give --preprocessing NAME ({', '.join(PRESETS)}), or --pixel-scale "
                                 "with --mean and --std"}  # fmt: skip
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
