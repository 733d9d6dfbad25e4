"""The nine nets that the onnx package has for tests: real graphs of Caffe2, three with LRN."""

import numpy as np
import onnx
import pytest
import torch

import lrpcli
from benchmarks.onnx_coverage import LIGHT, compare_net, with_random_weights
from lrpcli.models.layer_table import layer_table

NETS = sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx"))
WITH_LRN = {"bvlc_alexnet": 2, "inception_v1": 2, "zfnet512": 2}


def test_there_are_nine():
    assert len(NETS) == 9


@pytest.mark.parametrize("name", NETS)
def test_layers_have_the_names_of_the_file_and_lrn_is_lrn(name):
    path = LIGHT / f"light_{name}.onnx"
    rows = layer_table(lrpcli.load_model(path))
    graph = onnx.load(path).graph
    known = {node.name or node.output[0] for node in graph.node}
    assert {row.name.partition("/")[0] for row in rows if not row.name.endswith("/flatten")} <= {
        one.partition("/")[0] for one in known
    }
    lrn = [node for node in graph.node if node.op_type == "LRN"]
    assert [row.name for row in rows if row.kind == "lrn"] == [node.name or node.output[0] for node in lrn]
    assert len(lrn) == WITH_LRN.get(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_scores_equal_those_of_onnxruntime_and_are_explained(name, tmp_path):
    share, model = compare_net(with_random_weights(onnx.load(LIGHT / f"light_{name}.onnx")), tmp_path, images=1)
    assert share < 1e-5
    assert (model.input_shape, model.outputs) == ((3, 224, 224), 1000)
    x = torch.randn(1, *model.input_shape, generator=torch.Generator().manual_seed(0))
    relevance = lrpcli.Explainer(model)(x).relevance
    assert relevance.shape == x.shape
    assert np.isfinite(relevance.numpy()).all()
    assert float(relevance.abs().max()) > 0
