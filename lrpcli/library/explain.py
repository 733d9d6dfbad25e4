"""lrpcli.explain: the whole way from an image to its map in one call."""

import operator
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from lrpcli.errors import ImageError, UsageError
from lrpcli.images.find import Source
from lrpcli.images.formats import DecodePolicy
from lrpcli.library.again import Again
from lrpcli.library.image_result import ImageResult
from lrpcli.library.loaded import How, loaded
from lrpcli.library.photos import is_one, numbered, photo_of
from lrpcli.lrp.composites.composite import Composite, load_composite
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.lrp.exploded import EXPLODED_ADVICE
from lrpcli.models.description import PreprocessingChoice
from lrpcli.models.model import Model
from lrpcli.pipeline.decode import Preparation
from lrpcli.pipeline.default import DEFAULT_MODEL
from lrpcli.pipeline.explain import Answer, Engine, Explanation
from lrpcli.pipeline.settings import BATCH, OutputSettings
from lrpcli.pipeline.stages import even_batch
from lrpcli.pipeline.targets import FROM_FOLDER, choose_targets
from lrpcli.records.explained import TopClass

OneImage = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor
"""What explain takes for an image."""
OneModel = str | Path | Model | nn.Module
OneTarget = str | int
DTYPES = (torch.float32, torch.float64)


class Options(TypedDict, total=False):
    """The keywords of explain, for type checkers."""

    config: str | Path | Mapping[str, Any] | Composite
    target: OneTarget | Sequence[OneTarget] | None
    start: str | None
    lrn: str | None
    weights: str | Path | None
    prototxt: str | Path | None
    input_shape: tuple[int, int, int] | None
    preprocessing: PreprocessingChoice | None
    labels: str | Path | Sequence[str] | None
    output: str | int | None
    mirror: str | None
    dtype: torch.dtype
    device: str | torch.device
    batch_size: int | None
    decoding: DecodePolicy


@overload
def explain(images: OneImage, model: OneModel = ..., **options: Unpack[Options]) -> ImageResult: ...  # type: ignore[overload-overlap]  # a path is iterable too


@overload
def explain(images: Iterable[OneImage], model: OneModel = ..., **options: Unpack[Options]) -> list[ImageResult]: ...


def explain(
    images: OneImage | Iterable[OneImage],
    model: OneModel = DEFAULT_MODEL,
    *,
    config: str | Path | Mapping[str, Any] | Composite = DEFAULT_CONFIG,
    target: OneTarget | Sequence[OneTarget] | None = None,
    start: str | None = None,
    lrn: str | None = None,
    weights: str | Path | None = None,
    prototxt: str | Path | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: PreprocessingChoice | None = None,
    labels: str | Path | Sequence[str] | None = None,
    output: str | int | None = None,
    mirror: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    decoding: DecodePolicy = DecodePolicy(),  # noqa: B008 - it is frozen
) -> ImageResult | list[ImageResult]:
    """Explains images as `lrp explain` does: one image gives a result, several give a list in their order.

    An image is a path, a PIL image, an array (H, W, 3) or (H, W) of uint8, or a tensor (3, H, W) of uint8, in RGB and
    0 to 255; several are any iterable of those. Each is decoded by the command's rules (docs/images.md) and becomes
    the model's input by the model's own preprocessing.

    `model` and the keywords from `weights` to `mirror` are those of load_model; by name or path it is read once and
    kept for the next call, see forget_models. `config`, `lrn`, `start`, `dtype` and `device` are those of Explainer.
    `target` is what --target takes: a label, an index, "top", "top3", or "from-folder" for paths; None is the config's
    own, the predicted class. Several classes, such as "top3" or a list, give each image a result for the first, whose
    `classes` has them all. Up to `batch_size` images are computed at once, and `decoding` says which files are decoded.

    UsageError for what cannot be an image, a target or an option, ModelError and ConfigError as load_model and
    Explainer, ImageError for an image that cannot be decoded or explained, which it names; all are LrpError.

    >>> import lrpcli
    >>> result = lrpcli.explain("cat.jpg", "cifar10", target="cat")
    >>> result.target, result.label, result.map.shape
    (3, 'cat', (32, 32))
    >>> result.overlay().save("cat.png")
    >>> [one.label for one in lrpcli.explain(["cat.jpg"], "cifar10", target=["cat", 5])[0].classes]
    ['cat', 'dog']
    """
    how = How(load_composite(config), lrn, start, _checked_dtype(dtype), device)
    one = is_one(images)
    given = {
        "weights": weights, "prototxt": prototxt, "input_shape": input_shape, "preprocessing": preprocessing,
        "labels": labels, "output": output, "mirror": mirror,
    }  # fmt: skip
    net, explainer = loaded(model, {name: value for name, value in given.items() if value is not None}, how)
    targets = choose_targets(net, _texts(target), str(explainer.composite.target))
    preparation = Preparation(decoding, net.known_preprocessing(), OutputSettings.overlay_size, pictures=True)
    work = _Work(preparation, Engine(explainer, targets))
    most = _checked_batch(batch_size) or BATCH.get(explainer.device.type, BATCH["cpu"])
    results = _in_batches([images] if one else images, most, work)  # type: ignore[arg-type]
    exploded = [result.source for result in results if any(one.exploded for one in result.classes)]
    if exploded:
        title = explainer.composite.title
        warnings.warn(f"With the config {title!r} {EXPLODED_ADVICE} ({exploded[0]!r}).", stacklevel=2)
    return results[0] if one else results


def _in_batches(images: Iterable[Any], most: int, work: "_Work") -> list[ImageResult]:
    """The results of all images, so many at once; batches are those of a run where their number is known before."""
    known = isinstance(images, Sized)
    size = even_batch(len(images), most) if isinstance(images, Sized) else most
    sources = numbered(images)
    results: list[ImageResult] = []
    while part := list(islice(sources, size)):
        results += work.sized(size if known else len(part))(part)
    return results


@dataclass(frozen=True)
class _Work:
    """What is done with a few images at once: decode, explain, and make results of what the engine answers."""

    preparation: Preparation
    engine: Engine

    def sized(self, size: int) -> "_Work":
        return replace(self, engine=self.engine.sized(size))

    def __call__(self, images: Sequence[tuple[Source, Any]]) -> list[ImageResult]:
        again = [self._opened(source, image) for source, image in images]
        answers = self.engine([one.prepared for one in again])
        return [self._result(one, answer) for one, answer in zip(again, answers, strict=True)]

    def _opened(self, source: Source, image: Any) -> Again:
        if isinstance(image, (str, os.PathLike)):
            return Again(self.preparation(source), os.path.abspath(source.path), None, self.preparation, self.engine)  # noqa: PTH100 - as it was given
        if self.engine.targets.text == FROM_FOLDER:
            raise UsageError(
                f"The target {FROM_FOLDER!r} asks for the folder of each image, and {source.name!r} is not given by "
                "its path."
            )
        photo = photo_of(image, source.name, self.preparation.decode)
        return Again(self.preparation.of(source, photo), None, photo, self.preparation, self.engine)

    def _result(self, again: Again, answer: Answer | ImageError) -> ImageResult:
        if isinstance(answer, ImageError):
            raise answer
        model = self.engine.targets.model
        top = tuple(TopClass(index, model.label(index), score) for index, score in answer.top)
        first, *others = (self._of_class(again, one, top) for one in answer.explanations)
        return replace(first, others=tuple(others))

    def _of_class(self, again: Again, one: Explanation, top: tuple[TopClass, ...]) -> ImageResult:
        relevance = one.relevance.copy()  # not a part of the whole batch, which would stay in memory
        return ImageResult(
            source=again.prepared.source.path,
            target=one.target,
            label=self.engine.targets.model.label(one.target),
            score=one.score,
            kept=one.kept,
            start=self.engine.explainer.start,
            top=top,
            relevance=relevance,
            map=one.summed,
            placement=again.prepared.placement,
            exploded=one.exploded,
            _explanation=replace(one, relevance=relevance),
            _again=again,
        )


def _checked_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in DTYPES:
        raise UsageError(f"The dtype is torch.float32 or torch.float64, not {dtype!r}.")
    return dtype


def _checked_batch(size: int | None) -> int | None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise UsageError(f"batch_size is a whole number from 1 on, not {size!r}.")
    return size


def _texts(target: object) -> tuple[str, ...]:
    """A target as --target has it. UsageError for what is neither a class nor several."""
    if isinstance(target, (np.ndarray, Tensor)):
        target = target.tolist()
    if isinstance(target, (list, tuple)):
        if not target:
            raise UsageError("The target is an empty list. Give at least one class, or None for the predicted one.")
        return tuple(_text(one) for one in target)
    return () if target is None else (_text(target),)


def _text(target: object) -> str:
    if isinstance(target, str):
        return target
    try:
        if isinstance(target, bool):
            raise TypeError
        index = operator.index(target)  # type: ignore[arg-type]  # what is none of the kind raises
    except TypeError:
        raise UsageError(
            f"A target is a label, the index of a class, 'top', 'top3' or 'from-folder', not {target!r:.60}."
        ) from None
    if index < 0:
        raise UsageError(f"The target {index} cannot be the index of a class; indices count from 0.")
    return str(index)
