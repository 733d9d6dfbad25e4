"""An ONNX file -> Model: input shape, preprocessing, nodes in a graph."""

from dataclasses import replace
from pathlib import Path

from torch import fx

from lrpcli.images.preprocess import Preprocessing
from lrpcli.models.description import Description
from lrpcli.models.model import Model, make_model
from lrpcli.models.onnx.heads import choose_output
from lrpcli.models.onnx.images import ImageInput, find_input, stated_preprocessing
from lrpcli.models.onnx.net import OnnxNet, read_net
from lrpcli.models.onnx.walk import add_all


def import_onnx(path: Path, description: Description) -> Model:
    """The importer of .onnx files; `description` overrules what the file says.

    How photos become the input is known where the file has the metadata that ONNX defines for images, or where
    `description` says it. Raises ModelError, UnsupportedLayer or WeightsError that name the file and the node.
    """
    net = read_net(path)
    heads = choose_output(net, description)
    image = find_input(heads.net, description.input_shape)
    module, outputs = build_module(heads.net, image)
    stated = stated_preprocessing(net, image.shape)
    model = make_model(
        module,
        image.shape,
        stated or Preprocessing(size=image.shape[1:], pixel_scale=1 / 255, channels=image.shape[0]),
        description,
        name=path.stem,
        source=str(path),
        outputs=outputs,
        weights_sha256=net.sha256,
        stated_by="the file's metadata" if stated else None,
    )
    return replace(model, head=heads.names[0], heads=heads.names, facts={**net.facts, **heads.facts})


def build_module(net: OnnxNet, image: ImageInput) -> tuple[fx.GraphModule, int]:
    """A net with one output, in eval mode: (N, C, H, W) -> (N, classes); and `classes`."""
    builder, scores = add_all(net, image)
    (output,) = net.outputs
    builder.nodes[output], builder.shapes[output] = scores.node, scores.shape[1:]
    builder.flatten_scores(output)
    return builder.build(output, "OnnxNet"), builder.shapes[output][0]
