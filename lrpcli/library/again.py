"""What a result needs to be looked at anew: its photo in other sizes, and the relevance of its layers."""

from dataclasses import dataclass, replace

from PIL import Image

from lrpcli.errors import ImageError
from lrpcli.images.find import Source
from lrpcli.pictures.style import CROP
from lrpcli.pipeline.decode import Preparation, Prepared
from lrpcli.pipeline.explain import Engine, Explanation
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.pipeline.targets import Targets


@dataclass(frozen=True)
class Again:
    """An image as it was explained, and the way to it: its path, or the photo itself where it had none.

    `preparation` and `engine` are what it was explained with; the engine is None where it was left behind, as in
    another process.
    """

    prepared: Prepared
    path: str | None
    photo: Image.Image | None
    preparation: Preparation
    engine: Engine | None

    def item(self, settings: OutputSettings) -> Prepared:
        """The image with its photo as these settings want it. ImageError if the file is not what it was."""
        wanted = replace(self.preparation, overlay_size=settings.overlay_size, crop=settings.picture.outside == CROP)
        if wanted == self.preparation:
            return self.prepared
        if self.photo is not None:
            return wanted.of(self.prepared.source, self.photo)
        assert self.path is not None
        found = wanted(Source(self.path, self.prepared.source.name))
        if found.content is None or found.content != self.prepared.content:
            raise ImageError(
                "io",
                f"The image {self.path!r} has changed since it was explained, so that this map does not belong on it. "
                "Explain it again.",
            )
        return found

    def layers(self, target: int) -> Explanation:
        """One class of the image explained again, with the relevance of each layer. ImageError if that fails."""
        if self.engine is None:
            raise ImageError(
                "compute",
                f"The result of {self.prepared.source.path!r} was copied without its model, so the relevance of its "
                "layers is not known. Ask for it before it is stored or sent, or explain the image again.",
            )
        targets = Targets(self.engine.targets.model, "", (target,))
        (answer,) = replace(self.engine, targets=targets, keep_layers=True, size=1)([self.prepared])
        if isinstance(answer, ImageError):
            raise answer
        return answer.explanations[0]

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "engine": None}
