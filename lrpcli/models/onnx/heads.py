"""The outputs of an ONNX net, and which of them is explained."""

from dataclasses import dataclass

from lrpcli.errors import ModelError, UnsupportedLayer, suggestion
from lrpcli.models.description import Description
from lrpcli.models.onnx.images import find_input
from lrpcli.models.onnx.net import OnnxNet, in_words
from lrpcli.models.onnx.walk import add_all

MAXIMAL_TRIED = 16
"""Outputs of which it is tried whether they are scores."""


@dataclass(frozen=True)
class Head:
    """The part of a net that leads to the output that is explained, and the names of all outputs, that one first."""

    net: OnnxNet
    names: tuple[str, ...]

    @property
    def facts(self) -> dict[str, str]:
        """What people should know of the choice."""
        chosen, *others = self.names
        text = f"{chosen!r} is explained; others are {in_words(others)}; --output NAME chooses"
        return {"heads": text} if others else {}


def choose_output(net: OnnxNet, description: Description) -> Head:
    """The output that `description.head` names, or the only one that is a score per class.

    Raises ModelError if there is no such output, or if it cannot be said which of several is meant.
    """
    name = description.head or _only_scores(net, description)
    if name not in net.outputs:
        raise ModelError(
            f"{str(net.path)!r} has no output {name!r}.{suggestion(name, net.outputs)} --output takes one of "
            f"{in_words(net.outputs)}; the output folder is -o FOLDER."
        )
    others = (other for other in net.outputs if other != name)
    return Head(net.leading_to((name,)), (name, *others))


def _only_scores(net: OnnxNet, description: Description) -> str:
    if len(net.outputs) == 1:
        return net.outputs[0]
    tried = net.outputs[:MAXIMAL_TRIED] if len(net.outputs) <= MAXIMAL_TRIED else ()
    found = [name for name in tried if _is_scores(net.leading_to((name,)), description)]
    if len(found) == 1:
        return found[0]
    which = f"of which {in_words(found)} may be scores" if found else "none of which is known to be one score per class"
    raise ModelError(
        f"{str(net.path)!r} has the outputs {in_words(net.outputs)}, {which}. Choose the one to explain: --output NAME "
        "(output='...' in Python)."
    )


def _is_scores(net: OnnxNet, description: Description) -> bool:
    """Whether a net with one output gives several numbers for an image, (C) or (C, 1, 1)."""
    try:
        _, scores = add_all(net, find_input(net, description.input_shape))
    except (ModelError, UnsupportedLayer):
        return False
    channels, *plane = scores.shape[1:] or (1,)
    return channels > 1 and all(side == 1 for side in plane)
