"""The reports that were tried, each with the test that shows what holds here; docs/resilience.md has the same table."""

from dataclasses import dataclass

NETS = "tests/reports/test_nets.py::"
FORKS, KINDS, LIMITS = (f"tests/models/test_{name}.py::" for name in ("forks", "not_models", "limits"))


@dataclass(frozen=True)
class Report:
    """Reports of one kind: where they are (owner/repository#number), what went wrong there, what holds here.

    `test` is the path of a test file, "::" and the name of a test in it.
    """

    where: tuple[str, ...]
    there: str
    here: str
    test: str


ENGINE = (
    Report(
        ("pytorch/pytorch#105445", "pytorch/vision#5193"),
        "tracing drops forward hooks in silence",
        "refused, the hooked layer named",
        f"{NETS}test_a_forward_hook_is_refused_by_name",
    ),
    Report(
        ("pytorch/pytorch#48181",),
        "spectral_norm: the weight is not normalised before the first forward pass",
        "the weights of the next forward pass",
        f"{NETS}test_a_spectral_norm_has_the_weights_of_the_forward_pass",
    ),
    Report(
        ("pytorch/pytorch#102981", "pytorch/pytorch#28594"),
        "nets with weight_norm cannot be copied",
        "the weights of the next forward pass",
        f"{NETS}test_a_weight_norm_has_the_weights_of_the_forward_pass",
    ),
    Report(
        ("pytorch/pytorch#68190",),
        "tracing bakes in dropout(training=self.training)",
        "explained as in eval mode; the net keeps its mode",
        f"{NETS}test_dropout_that_asks_for_training_is_off_in_a_net_left_in_training_mode",
    ),
    Report(
        ("denisyarats/drq#27", "pytorch/benchmark#1367", "huggingface/pytorch-image-models#1171"),
        "view() fails on channels_last tensors",
        "a view that is legal in the net is legal in the engine",
        f"{NETS}test_a_view_behind_a_convolution_is_as_legal_as_in_the_net",
    ),
    Report(
        ("meta-pytorch/captum#712", "chr5tphr/zennit#43"),
        "Upsample has no rule",
        "explained",
        f"{NETS}test_upsampling_conserves",
    ),
    Report(
        ("chr5tphr/zennit#43",),
        "transposed convolutions in a U-Net",
        "explained; BatchNorm behind them is folded",
        f"{NETS}test_a_transposed_convolution_conserves",
    ),
    Report(
        ("meta-pytorch/captum#1154",),
        "an embedding layer ends in a TypeError",
        "refused, the layer and its type named",
        f"{NETS}test_an_embedding_is_refused_by_name",
    ),
    Report(
        ("meta-pytorch/captum#1232",),
        "ELU has no rule",
        "activations pass relevance unchanged",
        f"{NETS}test_relevance_passes_activations_unchanged",
    ),
    Report(
        ("meta-pytorch/captum#1180",),
        "the second call fails at a ReLU",
        "the same map again",
        f"{NETS}test_a_second_call_gives_the_same_map",
    ),
    Report(
        ("meta-pytorch/captum#546", "meta-pytorch/captum#143", "moboehle/Pytorch-LRP#5", "albermax/innvestigate#192"),
        "skip connections and in-place operations",
        "equal to autograd, whatever is in place",
        f"{NETS}test_a_residual_sum_is_gradient_times_input_whatever_is_in_place",
    ),
    Report(
        ("chr5tphr/zennit#236",),
        "a sum made in the forward function doubles the relevance",
        "equal to autograd",
        f"{NETS}test_a_residual_sum_is_gradient_times_input_whatever_is_in_place",
    ),
    Report(
        ("meta-pytorch/captum#1361", "albermax/innvestigate#318", "jacobgil/pytorch-grad-cam#232"),
        "a final sigmoid: no rule, or maps of the wrong sign",
        "stripped: the map is that of the logit",
        f"{NETS}test_a_final_sigmoid_leaves_the_map_of_the_logit",
    ),
    Report(
        ("albermax/innvestigate#84", "sebastian-lapuschkin/lrp_toolbox#5", "PrimozGodec/keras-explain#7"),
        "a final softmax must be found and removed by hand",
        "stripped",
        f"{NETS}test_a_final_softmax_leaves_the_map_of_the_logit",
    ),
    Report(
        ("meta-pytorch/captum#658", "meta-pytorch/captum#190", "meta-pytorch/captum#349"),
        "nets wrapped in DataParallel",
        "unwrapped, compiled nets too",
        f"{NETS}test_data_parallel_and_compiled_nets_are_unwrapped",
    ),
    Report(
        ("chr5tphr/zennit#154",),
        "padding layers: is their relevance right?",
        "equal to autograd in every mode",
        f"{NETS}test_padding_gives_every_pixel_what_its_copies_get",
    ),
    Report(
        ("chr5tphr/zennit#171", "chr5tphr/zennit#165"),
        "DenseNet: a BatchNorm in front of a convolution cannot be folded",
        "it has a rule of its own",
        f"{NETS}test_a_batch_norm_in_front_of_a_convolution_has_a_rule",
    ),
    Report(
        ("chr5tphr/zennit#148", "albermax/innvestigate#118"),
        "ResNets with ignored biases: maps of 1e11",
        "the same mathematics, with a warning",
        "tests/lrp/test_soundness.py::test_nets_with_many_batch_norms_explode_where_biases_are_ignored",
    ),
    Report(
        ("chr5tphr/zennit#77", "albermax/innvestigate#94", "moboehle/Pytorch-LRP#9"),
        "pooling layers that are missing or replaced",
        "maximum and average pooling, adaptive ones too, equal to autograd",
        f"{NETS}test_pooling_is_gradient_times_input",
    ),
    Report(
        ("chr5tphr/zennit#76",),
        "rules by the place of a layer",
        "position entries of a config",
        f"{NETS}test_rules_can_be_given_by_the_place_of_a_layer",
    ),
    Report(
        ("chr5tphr/zennit#167",),
        "relevance of each layer",
        "keep_layers, --save layers",
        f"{NETS}test_the_relevance_of_every_layer_can_be_kept",
    ),
    Report(
        ("albermax/innvestigate#141",),
        "cropping before a concatenation",
        "slices are views",
        f"{NETS}test_cropping_before_concatenation_conserves",
    ),
    Report(
        ("albermax/innvestigate#91", "AlexBinder/LRP_Pytorch_Resnets_Densenet#1"),
        "sums that grow with the size of the batch",
        "the map of an image does not depend on the others",
        f"{NETS}test_the_sum_of_a_map_does_not_depend_on_the_size_of_the_batch",
    ),
    Report(
        ("VigneshSrinivasan10/interprettensor#2", "albermax/innvestigate#117"),
        "biases count in one kind of layer and not in the other",
        "one treatment for all",
        f"{NETS}test_a_bias_is_treated_alike_in_convolutions_and_linear_layers",
    ),
    Report(
        ("kaifishr/PyTorchRelevancePropagation#1",),
        "concatenation in SqueezeNet's fire modules",
        "equal to autograd",
        f"{NETS}test_a_fire_module_conserves",
    ),
    Report(
        ("BVLC/caffe#1864",),
        "LRN with a window wider than the channels: NaN",
        "conserves",
        f"{NETS}test_lrn_with_a_window_wider_than_its_channels_conserves",
    ),
    Report(
        ("tensorflow/tensorflow#46996",),
        "LRN of huge numbers: NaN",
        "an error of the image",
        f"{NETS}test_lrn_of_huge_inputs_is_an_error_and_no_map_of_nan",
    ),
    Report(
        ("ROCm/AMDMIGraphX#850",),
        "LRN overflows in half precision",
        "computed in float32 there",
        f"{NETS}test_lrn_in_half_precision_does_not_overflow",
    ),
    Report(
        ("ROCm/MIOpen#127", "heuritech/convnets-keras#6", "onnx/onnx#903"),
        "LRN's window or alpha / n differ from the definition",
        "forward and relevance equal loops over the terms",
        "tests/lrp/test_normalization.py::test_forward_equals_the_definition",
    ),
    Report(
        ("pytorch/vision#4136", "Cadene/pretrained-models.pytorch#7", "wang-xinyu/tensorrtx#152"),
        "GoogLeNet and Inception transform their input inside",
        "relevance passes unchanged, as with preprocessing outside",
        f"{NETS}test_normalisation_inside_the_model_passes_relevance_unchanged",
    ),
    Report(
        ("pytorch/vision#101", "PPPW/deep-learning-random-explore#14"),
        "channels written over in the forward function",
        "refused with the line, and what to write",
        f"{NETS}test_writing_into_channels_is_refused_with_what_to_write",
    ),
)

MODEL_FILES = (
    Report(
        (
            "MTLab/onnx2caffe#3",
            "xxradon/PytorchToCaffe#4",
            "xxradon/PytorchToCaffe#16",
            "hahnyuan/nn_tools#5",
            "starimeL/PytorchConverter#18",
            "shuangshuangguo/caffe2pytorch-tsn#1",
            "torch/nn#116",
        ),
        "pooling rounds up in Caffe and down elsewhere",
        "rounded as the file says, forks' fields included; equal to OpenCV",
        f"{FORKS}test_pooling_rounds_as_it_says",
    ),
    Report(
        ("NVIDIA/DIGITS#1963", "NVIDIA/caffe#276", "NVIDIA/caffe#394", "NVIDIA/caffe#194"),
        "NVIDIA's BatchNorm has five blobs, BVLC's three",
        "both read; what does not fit the description is an error",
        f"{FORKS}test_batch_norm_with_five_blobs",
    ),
    Report(
        ("BVLC/caffe#4885", "chainer/chainer#3261"),
        "BatchNorm's third blob scales mean and variance, and importers leave that out",
        "equal to OpenCV",
        "tests/models/test_layers.py::test_layer_equals_opencv",
    ),
    Report(
        ("sebastian-lapuschkin/lrp_toolbox#10",),
        "BatchNorm, Scale and Bias layers have no relevance",
        "folded into their neighbours, or an affine rule",
        "tests/models/test_layers.py::test_layer_equals_opencv",
    ),
    Report(
        (
            "onnx/models#363",
            "onnx/models#569",
            "facebookarchive/models#66",
            "microsoft/onnxruntime-genai#684",
            "kipoi/kipoi#64",
            "alibaba/ai-matrix#10",
        ),
        "a Git LFS pointer in place of the model: a parser's error",
        "said to be one, with what to do",
        f"{KINDS}test_weights_that_are_something_else",
    ),
    Report(
        ("BVLC/caffe#3230", "BVLC/caffe#1760", "torrvision/crfasrnn#14", "lutzroeder/netron#134"),
        "a broken .caffemodel ends in a failed check or a crash",
        "one sentence that names the file",
        "tests/models/test_attacks.py::test_truncated_caffemodels",
    ),
    Report(
        ("szagoruyko/loadcaffe#78",),
        'net description and weights exchanged: "invalid control characters"',
        "each is said to be the other",
        f"{KINDS}test_other_files_that_are_something_else",
    ),
    Report(
        ("keras-team/keras#22975", "keras-team/keras#21880", "keras-team/tf-keras#921"),
        "HDF5 data sets that claim gigabytes, or lie in other files",
        "refused before memory is set aside; links are not followed",
        f"{LIMITS}test_hdf5_bombs",
    ),
    Report(
        ("trezor/python-mnemonic#83", "jfisteus/eyegrade#70", "vilcans/screenplain#5"),
        "a byte order mark becomes part of the first line",
        "passed over; UTF-16 is refused by name",
        f"{KINDS}test_texts_in_every_encoding",
    ),
)
IMAGES = (
    Report(
        ("python-pillow/Pillow#123", "python-pillow/Pillow#7879"),
        "JPEGs whose last bytes are gone or zero",
        "a decode failure with libjpeg's own words",
        "tests/images/test_jpeg.py::test_damaged_files_fail_by_name_unless_accepted",
    ),
    Report(
        ("python-pillow/Pillow#3185", "python-pillow/Pillow#1510", "python-pillow/Pillow#2717"),
        "truncated files: errors, or black pictures",
        "a decode failure; --truncated accept takes what is there",
        "tests/images/test_decode.py::test_truncated_files_fail_unless_accepted",
    ),
    Report(
        ("python-pillow/Pillow#2574", "python-pillow/Pillow#1108", "python-pillow/Pillow#5991"),
        "16-bit grey becomes white",
        "scaled",
        "tests/images/test_convert.py::test_sixteen_bit_grey_is_scaled_not_clipped",
    ),
    Report(
        (
            "python-pillow/Pillow#8363",
            "python-pillow/Pillow#2445",
            "python-pillow/Pillow#5610",
            "python-pillow/Pillow#1111",
            "hiyouga/LlamaFactory#6300",
        ),
        'PNGs with large texts or profiles: "Decompressed data too large"',
        "decoded; what pixels do not need is passed over unread",
        "tests/images/test_png.py::test_what_the_pixels_do_not_need_never_fails",
    ),
)
COMMAND = (
    Report(
        ("pallets/click#625", "pallets/click#712", "Toblerity/Fiona#369"),
        "a reader that goes away: a traceback",
        "ended by SIGPIPE; the same command goes on",
        "tests/resilience/test_exits.py::test_a_closed_pipe_ends_by_sigpipe_and_a_rerun_goes_on",
    ),
    Report(
        (
            "kubernetes/kubernetes#35189",
            "rwf2/Rocket#411",
            "elastic/cloud-on-k8s#1987",
            "nroi/flexo#70",
            "google/cloudprober#252",
            "open-feature/open-feature-operator#431",
        ),
        "variables of a Kubernetes service are taken for settings",
        "no settings",
        "tests/cli/test_places.py::test_variables_that_kubernetes_sets_for_a_service_called_lrp_are_no_settings",
    ),
    Report(
        ("matplotlib/matplotlib#25838", "matplotlib/matplotlib#832", "bbfrederick/rapidtide#76"),
        "no writable folder for matplotlib's cache",
        "nothing is written but OUTPUT, and nothing said",
        "tests/cli/test_places.py::test_a_read_only_root_with_only_the_output_writable",
    ),
    Report(
        ("numpy/numpy#5336", "numpy/numpy#17589", "Maluuba/nlg-eval#70", "xor2k/npy-append-array#11"),
        "a full disk leaves part of an array",
        "whole files only, exit 3",
        "tests/resilience/test_exits.py::test_a_full_disk_is_exit_3_with_whole_files_and_goes_on_when_there_is_room",
    ),
    Report(
        ("RsyncProject/rsync#310", "php-tuf/composer-stager#364"),
        "another file of the same size and time counts as the same",
        "known by path, size and time, or else by content",
        "tests/resilience/test_clashes.py::test_a_finished_result_of_another_image_is_left_alone_run_after_run",
    ),
    Report(
        ("RsyncProject/rsync#437", "trapexit/mergerfs-tools#54", "PelicanPlatform/pelican#1690"),
        "files of one name overwrite each other",
        "a clash that names both",
        "tests/resilience/test_clashes.py::test_a_finished_result_of_another_image_is_left_alone_run_after_run",
    ),
)
REPORTS = {"Nets": ENGINE, "Model files": MODEL_FILES, "Images": IMAGES, "The command": COMMAND}


def as_markdown() -> str:
    """The table for the documentation."""
    lines = ["| report | what went wrong there | what holds here |", "| --- | --- | --- |"]
    for heading, reports in REPORTS.items():
        lines.append(f"| **{heading}** | | |")
        lines += [f"| {', '.join(map(_link, one.where))} | {one.there} | {one.here} |" for one in reports]
    return "\n".join(lines)


def _link(where: str) -> str:
    project, _, number = where.partition("#")
    return f"[{where}](https://github.com/{project}/issues/{number})"
