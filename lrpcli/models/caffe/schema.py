"""Caffe's file format as protobuf messages, reduced to what importing a net needs and built when first used.

Names and numbers of the fields are those of Caffe's own caffe.proto and of NVIDIA's; what a file has beyond them is
looked at in lrpcli.models.caffe.fields. Every message exists twice: with the numbers of a blob as raw bytes, which
numpy reads without one Python object per number, and with the numbers as floats, for files that do not pack them.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = tuple[int, str] | tuple[int, str, str]
"""Number; type, with '*' behind it where the field repeats; default."""

ENUMS: dict[str, dict[str, int]] = {
    "Phase": {"TRAIN": 0, "TEST": 1},
    "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "EltwiseOp": {"PROD": 0, "SUM": 1, "MAX": 2},
    "RoundMode": {"CEIL": 0, "FLOOR": 1},
    "NumberType": {"DOUBLE": 0, "FLOAT": 1, "FLOAT16": 2, "INT": 3, "UINT": 4, "BOOL": 5},
    "NormRegion": {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1},
    "V1LayerType": {
        "NONE": 0, "ACCURACY": 1, "BNLL": 2, "CONCAT": 3, "CONVOLUTION": 4, "DATA": 5, "DROPOUT": 6,
        "EUCLIDEAN_LOSS": 7, "FLATTEN": 8, "HDF5_DATA": 9, "HDF5_OUTPUT": 10, "IM2COL": 11, "IMAGE_DATA": 12,
        "INFOGAIN_LOSS": 13, "INNER_PRODUCT": 14, "LRN": 15, "MULTINOMIAL_LOGISTIC_LOSS": 16, "POOLING": 17,
        "RELU": 18, "SIGMOID": 19, "SOFTMAX": 20, "SOFTMAX_LOSS": 21, "SPLIT": 22, "TANH": 23, "WINDOW_DATA": 24,
        "ELTWISE": 25, "POWER": 26, "SIGMOID_CROSS_ENTROPY_LOSS": 27, "HINGE_LOSS": 28, "MEMORY_DATA": 29,
        "ARGMAX": 30, "THRESHOLD": 31, "DUMMY_DATA": 32, "SLICE": 33, "MVN": 34, "ABSVAL": 35, "SILENCE": 36,
        "CONTRASTIVE_LOSS": 37, "EXP": 38, "DECONVOLUTION": 39,
    },
}  # fmt: skip

MESSAGES: dict[str, dict[str, Field]] = {
    "BlobShape": {"dim": (1, "int64*")},
    "BlobProto": {
        "num": (1, "int64"), "channels": (2, "int64"), "height": (3, "int64"), "width": (4, "int64"),
        "data": (5, "numbers"), "shape": (7, "BlobShape"), "double_data": (8, "doubles"),
        "raw_data_type": (10, "NumberType"), "raw_data": (12, "bytes"),
    },
    "NetParameter": {
        "name": (1, "string"), "layers": (2, "V1LayerParameter*"), "input": (3, "string*"),
        "input_dim": (4, "int64*"), "state": (6, "NetState"), "input_shape": (8, "BlobShape*"),
        "layer": (100, "LayerParameter*"),
    },
    "NetState": {"phase": (1, "Phase", "TEST"), "level": (2, "int64"), "stage": (3, "string*")},
    "NetStateRule": {
        "phase": (1, "Phase"), "min_level": (2, "int64"), "max_level": (3, "int64"), "stage": (4, "string*"),
        "not_stage": (5, "string*"),
    },
    "TransformationParameter": {
        "scale": (1, "float", "1"), "crop_size": (3, "int64"), "mean_file": (4, "string"), "mean_value": (5, "float*"),
        "crop_h": (11, "int64"), "crop_w": (12, "int64"),
    },
    "FillerParameter": {"type": (1, "string")},
    "DataParameter": {"scale": (2, "float", "1"), "mean_file": (3, "string"), "crop_size": (5, "int64")},
    "MemoryDataParameter": {"channels": (2, "int64"), "height": (3, "int64"), "width": (4, "int64")},
    "InputParameter": {"shape": (1, "BlobShape*")},
    "ConvolutionParameter": {
        "num_output": (1, "int64"), "bias_term": (2, "bool", "true"), "pad": (3, "int64*"),
        "kernel_size": (4, "int64*"), "group": (5, "int64", "1"), "stride": (6, "int64*"), "pad_h": (9, "int64"),
        "pad_w": (10, "int64"), "kernel_h": (11, "int64"), "kernel_w": (12, "int64"), "stride_h": (13, "int64"),
        "stride_w": (14, "int64"), "axis": (16, "int64", "1"), "dilation": (18, "int64*"),
    },
    "PoolingParameter": {
        "pool": (1, "PoolMethod", "MAX"), "kernel_size": (2, "int64*"), "stride": (3, "int64*"),
        "pad": (4, "int64*"), "kernel_h": (5, "int64"), "kernel_w": (6, "int64"), "stride_h": (7, "int64"),
        "stride_w": (8, "int64"), "pad_h": (9, "int64"), "pad_w": (10, "int64"), "global_pooling": (12, "bool"),
        "round_mode": (13, "RoundMode", "CEIL"),
        "ceil_mode": (1013, "bool", "true"),  # in text; forks number it 13 too, see layers.pooling
    },
    "InnerProductParameter": {
        "num_output": (1, "int64"), "bias_term": (2, "bool", "true"), "axis": (5, "int64", "1"),
        "transpose": (6, "bool"),
    },
    "LRNParameter": {
        "local_size": (1, "int64", "5"), "alpha": (2, "float", "1"), "beta": (3, "float", "0.75"),
        "norm_region": (4, "NormRegion", "ACROSS_CHANNELS"), "k": (5, "float", "1"),
    },
    "ConcatParameter": {"concat_dim": (1, "int64", "1"), "axis": (2, "int64", "1")},
    "SliceParameter": {"slice_dim": (1, "int64", "1"), "slice_point": (2, "int64*"), "axis": (3, "int64", "1")},
    "EltwiseParameter": {"operation": (1, "EltwiseOp", "SUM"), "coeff": (2, "float*")},
    "FlattenParameter": {"axis": (1, "int64", "1"), "end_axis": (2, "int64", "-1")},
    "ReshapeParameter": {"shape": (1, "BlobShape"), "axis": (2, "int64"), "num_axes": (3, "int64", "-1")},
    "SoftmaxParameter": {"axis": (2, "int64", "1")},
    "DropoutParameter": {"dropout_ratio": (1, "float", "0.5")},
    "ReLUParameter": {"negative_slope": (1, "float")},
    "PReLUParameter": {"channel_shared": (2, "bool")},
    "ELUParameter": {"alpha": (1, "float", "1")},
    "PowerParameter": {"power": (1, "float", "1"), "scale": (2, "float", "1"), "shift": (3, "float")},
    "BatchNormParameter": {
        "use_global_stats": (1, "bool", "true"), "eps": (3, "float", "1e-5"), "scale_bias": (7, "bool"),
        "scale_filler": (5, "FillerParameter"), "bias_filler": (6, "FillerParameter"),
    },
    "ScaleParameter": {"axis": (1, "int64", "1"), "num_axes": (2, "int64", "1"), "bias_term": (4, "bool")},
    "BiasParameter": {"axis": (1, "int64", "1"), "num_axes": (2, "int64", "1")},
    "LayerParameter": {
        "name": (1, "string"), "type": (2, "string"), "bottom": (3, "string*"), "top": (4, "string*"),
        "loss_weight": (5, "float*"), "blobs": (7, "BlobProto*"), "include": (8, "NetStateRule*"),
        "exclude": (9, "NetStateRule*"), "phase": (10, "Phase"),
        "transform_param": (100, "TransformationParameter"), "concat_param": (104, "ConcatParameter"),
        "convolution_param": (106, "ConvolutionParameter"), "data_param": (107, "DataParameter"),
        "dropout_param": (108, "DropoutParameter"), "eltwise_param": (110, "EltwiseParameter"),
        "image_data_param": (115, "DataParameter"), "inner_product_param": (117, "InnerProductParameter"),
        "lrn_param": (118, "LRNParameter"), "memory_data_param": (119, "MemoryDataParameter"),
        "pooling_param": (121, "PoolingParameter"),
        "power_param": (122, "PowerParameter"), "relu_param": (123, "ReLUParameter"),
        "softmax_param": (125, "SoftmaxParameter"), "slice_param": (126, "SliceParameter"),
        "prelu_param": (131, "PReLUParameter"), "reshape_param": (133, "ReshapeParameter"),
        "flatten_param": (135, "FlattenParameter"), "batch_norm_param": (139, "BatchNormParameter"),
        "elu_param": (140, "ELUParameter"), "bias_param": (141, "BiasParameter"),
        "scale_param": (142, "ScaleParameter"), "input_param": (143, "InputParameter"),
    },
    "V0LayerParameter": {"name": (1, "string"), "type": (2, "string")},
    "V1LayerParameter": {
        "layer": (1, "V0LayerParameter"), "bottom": (2, "string*"), "top": (3, "string*"), "name": (4, "string"),
        "type": (5, "V1LayerType"), "blobs": (6, "BlobProto*"), "concat_param": (9, "ConcatParameter"),
        "convolution_param": (10, "ConvolutionParameter"), "data_param": (11, "DataParameter"),
        "dropout_param": (12, "DropoutParameter"), "image_data_param": (15, "DataParameter"),
        "inner_product_param": (17, "InnerProductParameter"), "lrn_param": (18, "LRNParameter"),
        "pooling_param": (19, "PoolingParameter"),
        "power_param": (21, "PowerParameter"), "memory_data_param": (22, "MemoryDataParameter"),
        "eltwise_param": (24, "EltwiseParameter"), "relu_param": (30, "ReLUParameter"),
        "slice_param": (31, "SliceParameter"), "include": (32, "NetStateRule*"), "exclude": (33, "NetStateRule*"),
        "loss_weight": (35, "float*"), "transform_param": (36, "TransformationParameter"),
        "softmax_param": (39, "SoftmaxParameter"),
    },
}  # fmt: skip

Proto = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "int32": Proto.TYPE_INT32, "int64": Proto.TYPE_INT64, "float": Proto.TYPE_FLOAT, "double": Proto.TYPE_DOUBLE,
    "bool": Proto.TYPE_BOOL, "string": Proto.TYPE_STRING, "bytes": Proto.TYPE_BYTES,
}  # fmt: skip


@cache
def messages(raw: bool = True) -> dict[str, Any]:
    """Every message class by its name; `raw` picks the twin whose blob numbers are bytes."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, values in ENUMS.items():
        # The values of an enum are named beside it, and MAX occurs twice: each enum gets a message to itself.
        enum = file.message_type.add(name=f"{name}Scope").enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, specification in fields.items():
            _add_field(message, field, specification, raw)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in MESSAGES}


def _add_field(message: Any, name: str, specification: Field, raw: bool) -> None:
    number, kind = specification[0], specification[1]
    numbers = {"numbers": "float", "doubles": "double"}.get(kind)
    if numbers:
        kind = "bytes*" if raw else f"{numbers}*"
    field = message.field.add(name=name, number=number)
    field.label = Proto.LABEL_REPEATED if kind.endswith("*") else Proto.LABEL_OPTIONAL
    kind = kind.rstrip("*")
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type = Proto.TYPE_ENUM if kind in ENUMS else Proto.TYPE_MESSAGE
        field.type_name = f".caffe.{kind}Scope.{kind}" if kind in ENUMS else f".caffe.{kind}"
    if numbers and not raw:
        field.options.packed = True
    if len(specification) == 3:
        field.default_value = specification[2]
