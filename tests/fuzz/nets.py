"""A Caffe net with many types of layers, for damage to reach them, and what is done with a net that could be read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lrpcli.models.model import Model

RICH = """
name: "Rich"
input: "data" input_dim: 1 input_dim: 3 input_dim: 12 input_dim: 12
layer { name: "scaled" type: "Power" bottom: "data" top: "scaled" power_param { scale: 0.5 shift: 1 } }
layer { name: "conv" type: "Convolution" bottom: "scaled" top: "conv"
        convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 pad_h: 1 stride: 1 dilation: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { use_global_stats: true eps: 1e-5 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "prelu" type: "PReLU" bottom: "conv" top: "prelu" }
layer { name: "split" type: "Split" bottom: "prelu" top: "left" top: "right" }
layer { name: "max" type: "Pooling" bottom: "left" top: "max" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ave" type: "Pooling" bottom: "right" top: "ave" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "ave" top: "norm"
        lrn_param { local_size: 3 alpha: 5e-05 beta: 0.75 norm_region: WITHIN_CHANNEL } }
layer { name: "sum" type: "Eltwise" bottom: "max" bottom: "norm" top: "sum"
        eltwise_param { operation: SUM coeff: 1 coeff: -0.5 } }
layer { name: "concat" type: "Concat" bottom: "sum" bottom: "max" top: "concat" concat_param { axis: 1 } }
layer { name: "slice" type: "Slice" bottom: "concat" top: "first" top: "second" slice_param { axis: 1 slice_point: 3 } }
layer { name: "up" type: "Deconvolution" bottom: "first" top: "up" convolution_param { num_output: 5 kernel_size: 2 } }
layer { name: "elu" type: "ELU" bottom: "up" top: "elu" elu_param { alpha: 1 } }
layer { name: "drop" type: "Dropout" bottom: "elu" top: "elu" dropout_param { dropout_ratio: 0.5 } }
layer { name: "all" type: "Pooling" bottom: "elu" top: "all" pooling_param { pool: AVE global_pooling: true } }
layer { name: "flat" type: "Flatten" bottom: "all" top: "flat" }
layer { name: "again" type: "Reshape" bottom: "flat" top: "again" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "again" top: "fc" inner_product_param { num_output: 4 } }
layer { name: "softmax" type: "Softmax" bottom: "fc" top: "softmax" }
"""
SHAPES: Mapping[str, list[tuple[int, ...]]] = {
    "conv": [(4, 3, 3, 2)], "bn": [(4,), (4,), (1,)], "scale": [(4,), (4,)], "prelu": [(4,)],
    "up": [(3, 5, 2, 2), (5,)], "fc": [(4, 5), (4,)],
}  # fmt: skip
LARGEST = 1 << 17
"""Numbers of an input; what is larger takes long to explain."""


def rich_blobs() -> dict[str, list[np.ndarray]]:
    """Positive weights for RICH."""
    random = np.random.default_rng(0)
    return {
        name: [random.uniform(0.1, 1, shape).astype(np.float32) for shape in shapes] for name, shapes in SHAPES.items()
    }


def explained(model: "Model") -> "Model":
    """The model, after it has explained two images, if they are small. LrpError or finite relevance come out."""
    import torch

    import lrpcli

    if len(model.input_shape) * max(model.input_shape) ** 2 <= LARGEST:
        images = torch.rand(2, *model.input_shape, generator=torch.Generator().manual_seed(0))
        assert lrpcli.Explainer(model, device="cpu")(images).relevance.isfinite().all()
    return model
