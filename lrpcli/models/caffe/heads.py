"""The heads of a Caffe net: the blobs that may be its scores, and which of them is explained."""

from dataclasses import dataclass

from lrpcli.errors import ModelError, suggestion
from lrpcli.models.caffe.network import Network, SourceLayer, input_of, is_loss, layers_leading_to, working_layers

CLASSIFYING = {
    "SoftmaxWithLoss", "MultinomialLogisticLoss", "InfogainLoss", "HingeLoss", "SigmoidCrossEntropyLoss",
}  # fmt: skip
"""Losses whose first input is one score per class, or what a softmax makes of the scores."""


@dataclass(frozen=True)
class Head:
    """A blob of scores, and `output`, which a softmax makes of them, or the scores again.

    `weight` is that of the head's loss in training, None where no loss says one; `names` are all that it goes by.
    `classifies`: whether a softmax or a loss for classes says so.
    """

    scores: str
    output: str
    weight: float | None
    names: tuple[str, ...]
    classifies: bool = True

    def __str__(self) -> str:
        """For messages: its blob, and its weight in training."""
        return repr(self.output) + ("" if self.weight is None else f" (loss weight {self.weight:g})")


@dataclass(frozen=True)
class Classifier:
    """The part of a net that leads from the image to the scores, in execution order; `others` are its other heads."""

    network: Network
    layers: tuple[SourceLayer, ...]
    input: str
    head: Head
    others: tuple[Head, ...] = ()

    @property
    def output(self) -> str:
        """The blob of the scores, or of what a softmax makes of them."""
        return self.head.output


def cut_to_classifier(network: Network, head: str | None = None) -> Classifier:
    """The part of a net that is used on one image: no training-only layers, no losses, one of its heads.

    `head` names it, by a blob or a layer; else it is the one with the highest loss weight among those that classify,
    the last of equals. Raises ModelError if there is no output, none of that name, or more or less than one input.
    """
    working = working_layers(network)
    heads = find_heads(network, working)
    chosen = max(reversed(heads), key=_rank) if head is None else _by_name(head, heads, network)
    used = layers_leading_to(chosen.output, working)
    others = tuple(one for one in heads if one is not chosen)
    return Classifier(network, tuple(used), input_of(used, chosen.output, network), chosen, others)


def find_heads(network: Network, working: list[SourceLayer]) -> list[Head]:
    """All heads in the order of the file: softmaxes that no layer reads, what losses read, and what nothing reads.

    Raises ModelError if there are none.
    """
    unread = _unread_blobs(working)
    makers = {top: layer for layer in working for top in layer.tops}
    losses = [layer for layer in network.layers if is_loss(layer) and layer.bottoms]
    found: dict[str, Head] = {}
    for layer in working:
        if layer.type == "Softmax" and layer.tops and layer.bottoms and layer.tops[0] in unread:
            found[layer.bottoms[0]] = _head(layer.bottoms[0], layer.tops[0], True, losses, makers)
    for layer in losses:
        blob = layer.bottoms[0]
        if blob in makers and blob not in found and blob not in {head.output for head in found.values()}:
            found[blob] = _head(blob, blob, False, losses, makers)
    known = {blob for head in found.values() for blob in (head.output, head.scores)}
    leftover = [blob for blob in unread if blob not in known and (not found or blob == makers[blob].tops[0])]
    heads = [*found.values(), *(_head(blob, blob, False, [], makers) for blob in leftover)]
    if not heads:
        raise ModelError(f"The net {str(network.path)!r} has no output: it holds no layer whose result is left over.")
    order = {top: place for place, layer in enumerate(working) for top in layer.tops}
    return sorted(heads, key=lambda head: order[head.output])


def describe_heads(classifier: Classifier) -> str | None:
    """A sentence on which head is used where there are several, for people."""
    if not classifier.others:
        return None
    others = ", ".join(map(str, classifier.others))
    return f"{classifier.head} is explained; others are {others}; --output BLOB chooses"


def _unread_blobs(working: list[SourceLayer]) -> dict[str, None]:
    unread: dict[str, None] = {}
    for layer in working:
        for bottom in layer.bottoms:
            unread.pop(bottom, None)
        unread.update(dict.fromkeys(layer.tops))
    return unread


def _head(scores: str, output: str, softmax: bool, losses: list[SourceLayer], makers: dict[str, SourceLayer]) -> Head:
    own = [layer for layer in losses if layer.bottoms[0] in (scores, output)]
    weights = [layer.message.loss_weight[0] if layer.message.loss_weight else 1.0 for layer in own]
    layers = [makers[blob].name for blob in (scores, output) if blob in makers]
    names = dict.fromkeys((output, scores, *layers, *(layer.name for layer in own)))
    classifies = softmax or any(layer.type in CLASSIFYING for layer in own)
    return Head(scores, output, max(weights, default=None), tuple(names), classifies)


def _rank(head: Head) -> tuple[bool, float]:
    return head.classifies, 1.0 if head.weight is None else head.weight


def _by_name(name: str, heads: list[Head], network: Network) -> Head:
    for head in heads:
        if name in (head.output, head.scores):
            return head
    for head in heads:
        if name in head.names:
            return head
    known = [known for head in heads for known in head.names]
    raise ModelError(
        f"The net {str(network.path)!r} has no head {name!r}.{suggestion(name, known)} --output takes one of "
        f"{', '.join(map(str, heads))}; the output folder is -o FOLDER."
    )
