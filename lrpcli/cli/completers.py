"""What a shell offers for values of options and arguments; nothing heavy is imported for it."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from lrpcli.lrp.names import LRN_RULES, STARTS, builtin_names
from lrpcli.pipeline.kinds import KINDS

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
DEVICES = ("auto", "cpu", "cuda", "mps")


def one_of(names: Callable[[], Iterable[str]], *, or_file: bool = False) -> Completer:
    """Offers the names that begin with what is typed; with `or_file` files too."""

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names() if name.startswith(typed)]
        return [*found, CompletionItem(typed, type="file")] if or_file else found

    return complete


def _of_type(kind: str) -> Completer:
    return lambda context, parameter, typed: [CompletionItem(typed, type=kind)]


def named_models() -> list[str]:
    """The models that lists show, and those of torchvision."""
    from lrpcli.models.zoo import bare_names, list_entries

    return [*(entry.name for entry in list_entries()), *bare_names()]


def _kinds(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The kinds of files behind the last comma."""
    before, comma, last = typed.rpartition(",")
    return [CompletionItem(before + comma + kind) for kind in (*KINDS, "none") if kind.startswith(last)]


MODELS, CONFIGS = one_of(named_models), one_of(builtin_names)
MODELS_OR_FILES, CONFIGS_OR_FILES = one_of(named_models, or_file=True), one_of(builtin_names, or_file=True)
LRN = one_of(lambda: LRN_RULES)
BY_FIELD: dict[str, Completer] = {
    **dict.fromkeys(("name", "models"), MODELS_OR_FILES),
    "config": CONFIGS_OR_FILES,
    "configs": CONFIGS_OR_FILES,
    "lrn": LRN,
    **dict.fromkeys(("start", "starts"), one_of(lambda: STARTS)),
    "targets": one_of(lambda: ("top", "top3", "top5", "from-folder")),
    "save": _kinds,
    "scale": one_of(lambda: ("image", "run")),
    "device": one_of(lambda: DEVICES),
    **dict.fromkeys(("weights", "prototxt", "labels", "mean", "files_from", "boxes"), _of_type("file")),
    **dict.fromkeys(("base", "masks"), _of_type("dir")),
}
"""What is offered for the option of a settings field."""
