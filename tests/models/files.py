"""Writes model files for tests: Caffe's V1 and V2, HDF5 and safetensors, with weights drawn from a seed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from lrpcli.models.caffe.assemble import assemble
from lrpcli.models.caffe.files import Weights
from lrpcli.models.caffe.network import modern_type
from lrpcli.models.caffe.schema import ENUMS, messages
from lrpcli.models.description import Description

Blobs = Mapping[str, Sequence[np.ndarray]]

TINY = """
name: "Tiny"
input: "data"
input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 8 kernel_size: 3 stride: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" lrn_param { local_size: 5 alpha: 0.1 beta: 0.75 } }
layer { name: "fc2" type: "InnerProduct" bottom: "norm1" top: "fc2" inner_product_param { num_output: 4 } }
layer { name: "prob" type: "Softmax" bottom: "fc2" top: "prob" }
"""


def random_blobs(prototxt: Path, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Weights and biases for every convolution and fully connected layer of a net description."""
    random = np.random.default_rng(seed)
    module = assemble(Weights(prototxt, None, None, None), Description(prototxt=prototxt)).module
    blobs = {}
    for node in module.graph.nodes:
        layer = module.get_submodule(node.target) if node.op == "call_module" else None
        if getattr(layer, "weight", None) is None:
            continue
        fan_in = layer.weight[0].numel()
        weight = random.standard_normal(layer.weight.shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
        blobs[node.meta["layer"]] = [weight]
        if layer.bias is not None:
            blobs[node.meta["layer"]].append(random.standard_normal(layer.bias.shape, dtype=np.float32) * 0.1)
    return blobs


def write_caffemodel(path: Path, blobs: Blobs, text: str = "", *, version: int = 2) -> Path:
    """A binary .caffemodel with the net description `text` inside, or with bare layer names where it is empty."""
    net = messages()["NetParameter"]()
    text_format.Parse(text, net, allow_unknown_field=True)
    layers = net.layer if version == 2 else net.layers
    if not text:
        for name in blobs:
            layers.add(name=name)
    for layer in layers:
        for array in blobs.get(layer.name, ()):
            blob = layer.blobs.add()
            blob.data.append(np.ascontiguousarray(array, dtype="<f4").tobytes())
            if version == 2:
                blob.shape.dim.extend(array.shape)
            else:
                axes = [1] * (4 - array.ndim) + list(array.shape)
                blob.num, blob.channels, blob.height, blob.width = axes
    path.write_bytes(net.SerializeToString())
    return path


def varint(value: int) -> bytes:
    """A number as protobuf writes lengths and tags."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def as_v1(text: str) -> str:
    """A V2 net description in V1 spelling."""
    for name in ENUMS["V1LayerType"]:
        text = text.replace(f'type: "{modern_type(name)}"', f"type: {name}")
    return text.replace("layer {", "layers {")


def write_hdf5(path: Path, blobs: Blobs) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        for layer, arrays in blobs.items():
            for index, array in enumerate(arrays):
                file[f"data/{layer}/{index}"] = array
    return path


def write_safetensors(path: Path, blobs: Blobs, kind: type = np.float32, **metadata: Any) -> Path:
    """A self-describing .safetensors file; metadata that is no text is written as JSON."""
    from safetensors.numpy import save_file

    tensors = {
        f"{layer}.{part}": np.asarray(array, dtype=kind)
        for layer, arrays in blobs.items()
        for part, array in zip(("weight", "bias"), arrays, strict=False)
    }
    save_file(tensors, path, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    return path
