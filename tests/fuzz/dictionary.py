"""Words that files of a kind are made of, and those that readers stumble over."""


def _words(text: bytes) -> tuple[bytes, ...]:
    return tuple(text.split())


ANYWHERE = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3\x28", b"\x1b[31m", b"\xe2\x80\xae", b"\r\n"),
    *_words(b"nan NaN -inf Infinity 1e400 -1 0 2147483648 9223372036854775808 18446744073709551616 ../.. /etc/passwd"),
    *(b"9" * 60, b"{" * 40, b"[" * 40),
)
JSON = _words(rb'" {} [] null true false 1.5 "\ud800" "\u0000" \ , :')
TOML = (
    b" = ",
    *_words(b"[[ ]] \"\"\" ''' [a.b] inf 0x10 1979-05-27T07:32:00Z # [rules] alpha beta gamma epsilon relative bias"),
    *_words(b"layers conv dense first last low high z-box flat description source lrn pass"),
)
PROTOTXT = (
    *(b"layer {", b"layers {", b"}", b"input_shape {", b"convolution_param {", b"pooling_param {", b"lrn_param {"),
    *(b"include { phase: TEST }", b"transform_param { mean_value: 1 }", b"pool: MAX", b"pool: AVE"),
    *(b"global_pooling: true", b"norm_region: WITHIN_CHANNEL"),
    *_words(b"name: type: bottom: top: dim: num_output: kernel_size: kernel_h: stride: pad: group: dilation: axis:"),
    *_words(b'"Convolution" "Pooling" "InnerProduct" "LRN" "Scale" "BatchNorm" "Eltwise" "Concat" "Split" "Slice"'),
    *_words(b'"Flatten" "Reshape" "Dropout" "PReLU" "Power" "Input" "Data" "Softmax" local_size: crop_size:'),
)
ONNX = (
    *_words(b"Conv Gemm MatMul Relu MaxPool AveragePool GlobalAveragePool LRN Reshape Flatten Transpose Concat Split"),
    *_words(b"Slice Gather Shape Constant ConstantOfShape Expand Tile Pad Resize Clip BatchNormalization Softmax Add"),
    *_words(b"Mul Div If Loop kernel_shape strides pads dilations group axis axes perm auto_pad SAME_UPPER ceil_mode"),
    *_words(b"transB location offset length data.bin"),
)
SAFETENSORS = (
    *JSON,
    *_words(b'"dtype" "shape" "data_offsets" "F32" "F16" "BF16" "F8_E4M3" "I64" "BOOL" "__metadata__" "prototxt"'),
    *_words(b'"labels" "preprocessing" [0,4]'),
)
HDF5 = (
    *_words(b"TREE HEAP SNOD GCOL FRHP BTHD OHDR OCHK FADB data"),
    *(b"\x89HDF\r\n\x1a\n", b"\xff" * 8, b"\x00" * 8),
)
JOURNAL = (
    *JSON, b"\n", b'{"type":"start","name":"a.png"}\n',
    *_words(b'"type":"done" "type":"drop" "type":"skip" "type":"run" "type":"survived" "type":"ended" "alone":true'),
    *_words(b'"type":"attempt" "time": "status":"ok" "status":"failed" "error":{"kind":"crashed"} "path": "input":'),
    *_words(b'"error":{"kind":"clash"} "name": "outputs": "map": "pack": "content": "part":[1,1] "images": "share":'),
    *_words(b'"size": "mtime_ns": "explanations":[] "top":[[1,"a",0.5]] "placement": b.png'),
)  # fmt: skip
SETTINGS = (
    *TOML,
    *_words(b"batch-size style alpha target mean std jobs model config save top device seed files-from shard labels"),
    *_words(b'input-shape ["a"]'),
)
OF = {
    "caffemodel": PROTOTXT, "hdf5": HDF5, "onnx": ONNX, "safetensors": SAFETENSORS, "prototxt": PROTOTXT,
    "config": TOML, "settings": SETTINGS, "repository": JSON, "description": JSON, "measurement": JSON,
    **dict.fromkeys(("journal", "evaluation", "shard", "packed", "comparison"), JOURNAL),
    "list": (b"./-", b"/dev/stdin", b"a.png", b"\x00a", b"//", b"a" * 300),
    "boxes": (b"file,x1,y1,x2,y2\n", b'"', b'""', b",", b"x1_224", b";", b"\t"),
    "labels": (b"n01440764 ", b", ", b"\n", b"\x0c", b"\xe2\x80\xa8", b"\xc2\x85"),
}  # fmt: skip


def words(target: str) -> tuple[bytes, ...]:
    """The words for a target of tests.resilience.mutations."""
    return (*ANYWHERE, *OF.get(target, ()))
