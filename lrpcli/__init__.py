"""Layer-wise relevance propagation for convolutional nets, local response normalisation included.

The public names load on first use, so that `import lrpcli` and `lrp --help` stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "explain": "lrpcli.library.explain",
    "forget_models": "lrpcli.library.loaded",
    "ImageResult": "lrpcli.library.image_result",
    "LayerFlow": "lrpcli.pipeline.layer_flow",
    "DecodePolicy": "lrpcli.images.formats",
    "Explainer": "lrpcli.lrp.explainer",
    "Result": "lrpcli.lrp.explainer",
    "Composite": "lrpcli.lrp.composites.composite",
    "load_composite": "lrpcli.lrp.composites.composite",
    "LocalResponseNorm": "lrpcli.lrp.layers.normalization",
    "Model": "lrpcli.models.model",
    "load_model": "lrpcli.models",
    "open_maps": "lrpcli.records.maps",
    "Maps": "lrpcli.records.maps",
    "LrpError": "lrpcli.errors",
}

__all__ = ["Composite", "DecodePolicy", "Explainer", "ImageResult", "LayerFlow", "LocalResponseNorm", "LrpError",
           "Maps", "Model", "Result", "__version__", "explain", "forget_models", "load_composite", "load_model",
           "open_maps"]  # fmt: skip

if TYPE_CHECKING:
    from lrpcli.errors import LrpError
    from lrpcli.images.formats import DecodePolicy
    from lrpcli.library.explain import explain
    from lrpcli.library.image_result import ImageResult
    from lrpcli.library.loaded import forget_models
    from lrpcli.lrp.composites.composite import Composite, load_composite
    from lrpcli.lrp.explainer import Explainer, Result
    from lrpcli.lrp.layers.normalization import LocalResponseNorm
    from lrpcli.models import load_model
    from lrpcli.models.model import Model
    from lrpcli.pipeline.layer_flow import LayerFlow
    from lrpcli.records.maps import Maps, open_maps


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrpcli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
