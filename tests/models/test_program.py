"""Nets that torch.export saved: what they compute, and files that would have code run."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import lrpcli
from lrpcli.errors import ModelError
from lrpcli.models import load_model
from lrpcli.models.program_checks import OPERATORS, PARTS, SIZE

NEW = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)
pytestmark = pytest.mark.skipif(not NEW, reason="torch.export of this version writes pickles")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 6 * 7, 5)
        nn.init.uniform_(self.bn.running_mean)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).view(x.shape[0], -1))


class Several(Net):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(super().forward(x), x.mean((2, 3)))


def program(net: nn.Module, images: int | None = None):
    """Exported for so many images, or any number."""
    x = torch.zeros(images or 2, 3, 8, 9)
    return torch.export.export(net.eval(), (x,), dynamic_shapes=None if images else ({0: torch.export.Dim("n")},))


def saved(path: Path, exported, **extra: str) -> Path:
    torch.export.save(exported, path, extra_files=extra)
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "net.pt2"


@pytest.mark.parametrize("images", [None, 1, 3])
def test_the_net_is_the_one_that_was_exported(images, path):
    net, x = Net(), torch.randn(3, 3, 8, 9, generator=torch.Generator().manual_seed(1))
    model = load_model(saved(path, program(net, images)))
    assert (model.name, model.input_shape, model.outputs) == ("net", (3, 8, 9), 5)
    assert (model.preprocessing, model.labels, len(model.weights_sha256)) == (None, None, 64)
    lrp0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
    found = lrpcli.Explainer(model, lrp0, dtype=torch.float64)(x, target=2)
    expected = lrpcli.Explainer(net, lrp0, dtype=torch.float64)(x, target=2)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.relevance, expected.relevance)


def test_extra_files_say_what_goes_with_the_net(path):
    known = {"preprocessing": json.dumps({"pixel_scale": 1 / 255, "mean": [0.5]}), "labels": "a\nb\nc\nd\ne\n"}
    model = load_model(saved(path, program(Net()), **known, name="my net", licence="CC0"))
    assert (model.name, model.label(4), model.facts) == ("my net", "e", {"licence": "CC0"})
    assert model.preprocessing.describe() == "whole photo squashed to 8 x 9, RGB, 0..1, minus mean 0.5"
    assert model.stated_by == "the file"


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (lambda logits, mean: (mean, logits), ("0", "1")),
        (lambda logits, mean: {"mean": mean, "logits": logits}, ("mean", "logits")),
    ],
)
def test_one_of_several_outputs_is_chosen(wrap, names, path):
    net = Several(wrap)
    saved(path, program(net))
    model = load_model(path, output=names[1])
    assert (model.heads, model.head, model.outputs) == (names, names[1], 5)
    x = torch.ones(2, 3, 8, 9)
    torch.testing.assert_close(lrpcli.Explainer(model).predict(x), Net.forward(net, x).detach())
    assert load_model(path, output=names[0]).outputs == 3
    with pytest.raises(ModelError, match=rf" returns {names[0]} \(.*, 3\), {names[1]} \(.*, 5\)\. Choose one"):
        load_model(path)
    with pytest.raises(ModelError, match=rf"has no output 'x'; it returns {names[0]}"):
        load_model(path, output="x")
    with pytest.raises(ModelError, match="returns one tensor, so there is no output '1'"):
        load_model(saved(path, program(Net())), output=1)


def test_another_shape_than_it_was_exported_for_is_refused(path):
    saved(path, program(Net()))
    assert load_model(path, input_shape=(3, 8, 9)).input_shape == (3, 8, 9)
    with pytest.raises(ModelError, match=r"was exported for images of shape \(3, 8, 9\), and not \(3, 9, 9\)"):
        load_model(path, input_shape=(3, 9, 9))


def rewritten(path: Path, change) -> Path:
    """The archive with other content: `change` gets name and bytes of a part and gives a list of them."""
    with zipfile.ZipFile(path) as old:
        parts = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(path, "w") as new:
        for name, data in parts:
            for changed in change(name, data):
                new.writestr(*changed)
    return path


def edited(part: str, edit):
    """A change of one part's JSON."""

    def change(name, data):
        if not name.endswith(part):
            return [(name, data)]
        found = json.loads(data)
        edit(found)
        return [(name, json.dumps(found))]

    return change


def added(part: str, data: bytes):
    return lambda name, old: [(name, old), ("net/" + part, data)] if name.endswith("byteorder") else [(name, old)]


def _target(target):
    return edited("model.json", lambda found: found["graph_module"]["graph"]["nodes"][0].update(target=target))


def _size(text):
    def edit(found):
        values = found["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 2}}}

    return edited("model.json", edit)


def _pickled(found):
    found["config"]["fc.bias"]["use_pickle"] = True


def _renamed(found):
    found["config"]["fc.bias"]["path_name"] = "../../etc/passwd"


def _huge(found):
    found["config"]["fc.weight"]["tensor_meta"]["sizes"] = [{"as_int": 10**6}, {"as_int": 10**6}]


def _factory(found):
    signature = found["graph_module"]["module_call_graph"][0]["signature"]
    spec = {"type": "collections.defaultdict", "context": "{}", "children_spec": []}
    signature["out_spec"] = json.dumps([1, spec])


EVIL = b"\x80\x02cos\nmkdir\nX\x01\x00\x00\x00X\x85R."
HOSTILE = {
    "a function": (_target("torch.hub.load"), "calls 'torch.hub.load', which is no operator of nets"),
    "another operator": (_target("torch.ops.prim.device.default"), "calls 'torch.ops.prim"),
    "an extension": (_target("#evil:run"), "calls '#evil:run'"),
    "Python as size": (_size("__import__('os').system('touch X')"), "has the size .* which is none"),
    "a power": (_size("9**9**9**9**9"), "has the size|no undamaged"),
    "a pickled weight": (edited("weights_config.json", _pickled), "'fc.bias' of .* is a pickle"),
    "a path": (edited("weights_config.json", _renamed), "'fc.bias' of .* is a pickle"),
    "too large": (edited("weights_config.json", _huge), "asks for more than 2 GiB of memory for its weights"),
    "a default factory": (edited("model.json", _factory), "lie in 'collections.defaultdict'"),
    "an object": (added("data/constants/custom_obj_0", EVIL), "holds 'data/constants/custom_obj_0', which may be code"),
    "old weights": (added("data/weights/model.pt", EVIL), "holds 'data/weights/model.pt', which may be code"),
    "compiled code": (added("data/aotinductor/model/a.so", b"ELF"), "which may be code and is never loaded"),
    "a pickled input": (
        lambda name, data: [(name, EVIL if "sample_inputs" in name else data)],
        "example input in .* is no tensor, and to read it could run code",
    ),
    "the old form": (added("serialized_state_dict.pt", EVIL), "of the form that PyTorch wrote before 2.8"),
    "no graph": (
        lambda name, data: [] if "model.json" in name else [(name, data)],
        "no undamaged file of torch.export",
    ),
    "no JSON": (lambda name, data: [(name, b"{" if "model.json" in name else data)], "no undamaged file"),
    "a weight too small": (lambda name, data: [(name, data[:8] if "weight_0" in name else data)], "cannot be read by"),
    "deep": (lambda name, data: [(name, b"[" * 10**5 if "model.json" in name else data)], "nested too deeply"),
}


@pytest.mark.parametrize(("change", "text"), HOSTILE.values(), ids=HOSTILE)
def test_files_that_would_have_code_run_are_refused(change, text, path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rewritten(saved(path, program(Net())), change)
    with pytest.raises(ModelError, match=text):
        load_model(path)
    assert [found.name for found in tmp_path.iterdir()] == ["net.pt2"]
    assert capfd.readouterr() == ("", "")


def test_damage_is_found(path):
    data = saved(path, program(Net())).read_bytes()
    places = [len(data) // 2, len(data) - 30, 100]
    for place in places:
        path.write_bytes(data[:place])
        with pytest.raises(ModelError, match="no undamaged file of torch.export|holds no weights|may be code"):
            load_model(path)
    path.write_bytes(data[:70] + bytes([data[70] ^ 1]) + data[71:])
    with pytest.raises(ModelError, match="the checksum of 'net/data/weights/weight_0' is wrong"):
        load_model(path)


def test_other_files_are_told_apart(path):
    torch.save(Net().state_dict(), path)
    with pytest.raises(ModelError, match=r"net\.pt2' holds 'data.pkl', which may be code"):
        load_model(path)
    path.write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(ModelError, match="it is a web page"):
        load_model(path)


def test_sizes_parts_and_operators_that_pass():
    assert SIZE.fullmatch("Add(Mul(Integer(2), Symbol('s77', positive=True, integer=True)), Integer(-1))")
    assert not any(map(SIZE.fullmatch, ("Symbol('s77').func", "exit()", "Symbol('s0', x=exit())", "2**3", "lambda: 1")))
    assert PARTS.fullmatch("data/weights/weight_12") and not PARTS.fullmatch("extra/../x")
    assert OPERATORS.fullmatch("torch.ops.aten.conv2d.default") and not OPERATORS.fullmatch("torch.load")
