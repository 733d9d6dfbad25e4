"""The layout as a Caffe deploy prototxt, the text that Caffe, OpenCV and lrp read."""

from training.layout import Conv, Drop, Layer, Layout, Linear, Norm, Pool, Relu


def prototxt(layout: Layout) -> str:
    """The whole net, one layer a line, with a softmax named prob at the end."""
    side = layout.side
    lines = [
        f'name: "{layout.name}"',
        'input: "data"',
        f"input_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}",
    ]
    blob = "data"
    for layer in layout.layers:
        kind, parameters = described(layer)
        top = blob if isinstance(layer, Relu | Drop) else layer.name
        lines.append(layer_line(layer.name, kind, blob, top, parameters))
        blob = top
    lines.append(layer_line("prob", "Softmax", blob, "prob", ""))
    return "\n".join(lines) + "\n"


def layer_line(name: str, kind: str, bottom: str, top: str, parameters: str) -> str:
    """One layer; layers that work in place have the same bottom and top."""
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {parameters}}}'


def described(layer: Layer) -> tuple[str, str]:
    """Caffe's type of a layer, and its parameters as text with a blank behind."""
    match layer:
        case Conv(_, outputs, kernel, stride, pad, group):
            optional = [("pad", pad, 0), ("stride", stride, 1), ("group", group, 1)]
            more = "".join(f" {key}: {value}" for key, value, default in optional if value != default) + biased(layer)
            return "Convolution", f"convolution_param {{ num_output: {outputs} kernel_size: {kernel}{more} }} "
        case Relu():
            return "ReLU", ""
        case Pool(_, kind, kernel, stride):
            return "Pooling", f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} }} "
        case Norm(_, size, alpha, beta, within):
            region = " norm_region: WITHIN_CHANNEL" if within else ""
            return "LRN", f"lrn_param {{ local_size: {size} alpha: {alpha:g} beta: {beta:g}{region} }} "
        case Linear(_, outputs):
            return "InnerProduct", f"inner_product_param {{ num_output: {outputs}{biased(layer)} }} "
        case Drop(_, ratio):
            return "Dropout", f"dropout_param {{ dropout_ratio: {ratio:g} }} "


def biased(layer: Conv | Linear) -> str:
    """What says that a layer has no bias; nothing if it has one."""
    return "" if layer.bias else " bias_term: false"
