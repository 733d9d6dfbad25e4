"""Nets that code makes: file.py:factory and package.module:factory, in Python and by the command."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import lrpcli
from lrpcli.errors import LrpError, ModelError, WeightsError
from lrpcli.models import is_name, load_architecture, load_model, names_code
from lrpcli.models.factories import find_factory
from tests.photos import folder_of_photos
from tests.resilience.runs import lrp, process, rows

CODE = """
import torch
from torch import nn
from blocks import Block

class Net(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.conv = Block()
        self.fc = nn.Linear(4, classes)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net()

def with_arguments(classes, width=3, *more): return Net(classes)
def failing(): raise KeyError("classes")
def leaving(): raise SystemExit("no GPU")
def nothing(): pass
def ours(): import lrpcli; return lrpcli.load_model("no-such-model")
def stated():
    import lrpcli
    return lrpcli.load_model(make(), input_shape=(3, 32, 32), labels=list("abcde"), preprocessing="symmetric")
def compiled(): return torch.compile(nn.DataParallel(make()))
net, number = make(), 3
"""
BLOCK = "from torch import nn\nclass Block(nn.Conv2d):\n    def __init__(self): super().__init__(3, 4, 3)\n"
SHAPE = (3, 32, 32)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The file with the code; what it leaves in sys.modules goes afterwards."""
    before = set(sys.modules)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "blocks.py").write_text(BLOCK)
    path = tmp_path / "code" / "net.py"
    path.write_text(CODE)
    yield path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("net", "blocks", "ownpackage"):
            del sys.modules[name]


def refusal(name: str, **keywords: object) -> str:
    with pytest.raises(ModelError) as found:
        load_model(name, **{"input_shape": SHAPE, **keywords})
    return str(found.value)


@pytest.mark.parametrize("name", ["make", "Net", "net", "compiled"])
def test_functions_classes_and_nets_are_taken(code, name):
    model = load_model(f"{code}:{name}", input_shape=SHAPE)
    assert (model.name, type(model.module).__name__, model.input_shape) == (f"net.py:{name}", "Net", SHAPE)
    assert (model.preprocessing, model.source) == (None, f"the code {code}:{name}")
    assert lrpcli.Explainer(model)(torch.zeros(2, *SHAPE)).logits.shape == (2, 5)


def test_a_factory_may_state_everything(code):
    model = load_model(f"{code}:stated")
    assert (model.name, model.label(4), model.outputs) == ("net.py:stated", "e", 5)
    assert model.preprocessing.describe().endswith("RGB, 0..1, minus mean 0.5, divided by 0.5")
    changed = load_model(f"{code}:stated", preprocessing={"resize": (40, 40)}, labels=list("vwxyz"))
    assert (changed.preprocessing.resize, changed.preprocessing.mean, changed.label(4)) == ((40, 40), (0.5,) * 3, "z")
    assert "its input has the shape (3, 32, 32)" in refusal(f"{code}:stated", input_shape=(3, 16, 16))


def test_weights_of_a_file_are_loaded(code, tmp_path):
    other = load_model(f"{code}:Net", input_shape=SHAPE).module
    torch.save({"state_dict": other.state_dict()}, tmp_path / "w.pt")
    model = load_model(f"{code}:make", input_shape=SHAPE, weights=tmp_path / "w.pt")
    assert torch.equal(model.module.fc.weight, other.fc.weight)
    torch.save({"fc.weight": torch.ones(5, 4)}, tmp_path / "w.pt")
    assert "does not fit" in refusal(f"{code}:make", weights=tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_model(f"{code}:make", input_shape=SHAPE, weights=tmp_path / "none.pt")


def test_a_module_is_found_where_python_finds_it(code, tmp_path, monkeypatch):
    package = tmp_path / "ownpackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from torch import nn\nclass Nets:\n    Flat = nn.Flatten\n")
    monkeypatch.chdir(tmp_path)
    text = refusal("ownpackage.nets:Nets.Flat")
    assert "no Python module 'ownpackage.nets'" in text and "its suffix: ownpackage/nets.py:Nets.Flat." in text
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_model("ownpackage.nets:Nets.Flat", input_shape=SHAPE).name == "ownpackage.nets:Nets.Flat"
    assert "no Python module 'ownpackage.net' for" in refusal("ownpackage.net:Flat")


WRONG = {
    "mak": "has no 'mak'. Did you mean 'make'?",
    "number": "is an object of type int. Name the net, its class, or a function that makes it",
    "with_arguments": "needs arguments (classes), and a factory is called without any. Write a function that",
    "failing": "net.py, line 20: 'def failing(): raise KeyError(\"classes\")' (KeyError: 'classes')",
    "leaving": "(it ended the program: no GPU)",
    "nothing": "made an object of type NoneType. A factory returns a torch.nn.Module",
    "ours": "There is no model named 'no-such-model'",
    "net.conv.weight": "is an object of type Parameter",
}


@pytest.mark.parametrize(("name", "text"), WRONG.items())
def test_what_goes_wrong_is_said_in_a_sentence(code, name, text):
    assert text in refusal(f"{code}:{name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package\n", "line 1: 'import no_such_package' (ModuleNotFoundError: No module named"),
        ("def make(:\n", "failed (SyntaxError: invalid syntax (net.py, line 1))"),
        ("raise RuntimeError\n", "line 1: 'raise RuntimeError' (RuntimeError)"),
        ("\0", "failed"),
        ("import sys; sys.exit()\n", "it ended the program"),
    ],
)
def test_files_that_cannot_be_run(code, text, message):
    code.write_text(text)
    assert message in refusal(f"{code}:make")
    assert "net" not in sys.modules or sys.modules["net"].__file__ != str(code)


def test_files_that_are_none(code, tmp_path):
    assert "cannot be read: No such file or directory" in refusal(f"{tmp_path}/none.py:make")
    (tmp_path / "dir.py").mkdir()
    assert "cannot be read: Is a directory" in refusal(f"{tmp_path}/dir.py:make")


def test_the_file_is_run_anew_and_its_name_shadows_nothing(code, tmp_path):
    load_model(f"{code}:make", input_shape=SHAPE)
    first = load_model(f"{code}:make", input_shape=SHAPE)
    code.write_text(CODE.replace("relu", "tanh"))
    second = load_model(f"{code}:make", input_shape=SHAPE)
    assert first.weights_sha256 == second.weights_sha256 and first.net_sha256 != second.net_sha256
    assert not list(code.parent.glob("**/net*.pyc"))
    json_file = code.with_name("json.py")
    json_file.write_text(CODE)
    load_model(f"{json_file}:make", input_shape=SHAPE)
    assert sys.modules["json"] is json
    assert str(code.parent) not in sys.path


def test_what_code_changes_for_the_whole_program_is_set_back(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code.write_text(
        "import os\nos.chdir('/')\n"
        + CODE.replace(
            "from blocks import Block", "Block = lambda: nn.Conv2d(3, 4, 3)\ntorch.set_default_dtype(torch.float64)"
        )
    )
    model = load_model("code/net.py:make", input_shape=SHAPE)
    assert (Path.cwd(), torch.get_default_dtype()) == (tmp_path, torch.float32)
    assert lrpcli.Explainer(model)(torch.zeros(1, *SHAPE)).logits.dtype == torch.float32


def test_names_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = ["net.py:make", "C:\\nets\\net.py:make", "a.b:c.d", "pkg:make", "../net.PY:make"]
    assert all(names_code(name) and not is_name(name) for name in code)
    other = ["caffenet", "net.pt2", "dir:x/net.onnx", "a:b.caffemodel", "C:\\net.caffemodel", "a b:c", "pkg:", ":make",
             "net.py"]  # fmt: skip
    assert not any(map(names_code, other))
    Path("odd:name").touch()
    assert find_factory("odd:name") is None


def test_what_a_net_is_shows_in_two_hashes(code):
    """A constant, a stride and a weight each make another net; a comment does not."""

    def hashes() -> tuple[str, str]:
        model = load_model(f"{code}:make", input_shape=SHAPE)
        return model.weights_sha256, model.net_sha256

    first, seen = hashes(), set()
    for old, new, same in (
        ("import torch", "import torch  # again", (True, True)),
        ("self.conv(x)", "(self.conv(x) * 2)", (True, False)),
        ("manual_seed(0)", "manual_seed(1)", (False, True)),
        ("Block()", "nn.Conv2d(3, 4, 3, stride=2)", (True, False)),
        ("self.conv(x)", "(self.conv(x) * torch.tensor(2.0))", (True, False)),
        ("self.conv(x)", "(self.conv(x) * torch.tensor(3.0))", (True, False)),
    ):
        code.write_text(CODE.replace(old, new))
        found = hashes()
        assert tuple(now == before for now, before in zip(found, first, strict=True)) == same, new
        assert found not in seen or same == (True, True)
        seen.add(found)


class Pair(nn.Module):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.fc, self.wrap = nn.Linear(12, 3), wrap

    def forward(self, x):
        y = self.fc(x.flatten(1))
        return self.wrap(y, x)


def test_an_output_is_chosen_among_several():
    x = torch.ones(2, 3, 2, 2)
    for wrap, output in ((lambda y, x: (x, y), 1), (lambda y, x: {"aux": x, "logits": y}, "logits")):
        net = Pair(wrap)
        expected = net.fc(x.flatten(1)).detach()
        for made in (
            lrpcli.Explainer(net, output=output),
            lrpcli.Explainer(load_model(net, input_shape=(3, 2, 2), output=output)),
            lrpcli.Explainer(load_model(nn.DataParallel(net), input_shape=(3, 2, 2), output=output)),
        ):
            torch.testing.assert_close(made.predict(x), expected)
            assert [item.layer.name for item in made.assignments][-1] == "fc"  # names are those of the net
        with pytest.raises(ModelError, match=r"returns .*\. Choose one: output="):
            lrpcli.Explainer(net)
        with pytest.raises(ModelError, match="The model has no output '7'; it returns"):
            lrpcli.Explainer(net, output=7)
    with pytest.raises(ModelError, match="returns one tensor"):
        lrpcli.Explainer(net.fc, output=0)


def test_modules_are_taken_out_of_what_wraps_them():
    net = Pair(lambda y, x: y)
    for wrapped in (nn.DataParallel(net), torch.compile(net), torch.compile(nn.DataParallel(net))):
        model = load_model(wrapped, input_shape=(3, 2, 2))
        assert (model.name, model.module) == ("Pair", net)


# By the command


def test_a_run_goes_on_and_never_mixes_two_nets(code, tmp_path):
    folder_of_photos(tmp_path / "in", 2)
    torch.manual_seed(1)
    net = load_model(f"{code}:Net", input_shape=SHAPE).module
    torch.save(net.state_dict(), tmp_path / "w.pt")
    line = ("--model", f"{code}:make", "--weights", tmp_path / "w.pt", "--input-shape", "3,32,32", "--json",
            "--save", "map", tmp_path / "in", tmp_path / "out")  # fmt: skip
    refused = lrp("explain", *line)
    assert refused.exit_code == 2 and "How the model 'net.py:make' is fed with photos is not known" in refused.stderr
    assert "--preprocessing NAME (imagenet, caffe, unit, symmetric, raw)" in refused.stderr
    assert not (tmp_path / "out").exists()
    line = (*line, "--preprocessing", "unit")
    first = lrp("explain", *line)
    assert [row.get("status") for row in rows(first)] == ["ok", "ok", None], first.stderr
    assert f"Runs the code of {code}:make." in first.stderr
    assert [row.get("status") for row in rows(lrp("explain", *line))] == ["skipped", "skipped", None]
    run = json.loads((tmp_path / "out" / ".lrp" / "run.json").read_text())
    assert run["model"] == "net.py:make" and run["preprocessing"]["pixel_scale"] == 1 / 255
    code.write_text(CODE.replace("relu", "tanh"))
    changed = lrp("explain", *line)
    assert changed.exit_code == 2 and "net_sha256 was" in changed.stderr
    code.write_text(CODE)
    net.fc.bias.data += 1
    torch.save(net.state_dict(), tmp_path / "w.pt")
    changed = lrp("explain", *line)
    assert changed.exit_code == 2 and "weights_sha256 was" in changed.stderr


def test_what_code_prints_stays_out_of_the_results(code, tmp_path):
    noise = "print('from the file'); import os; os.system('echo from a shell')\n"
    code.write_text(noise + CODE.replace("return self.fc", "print('from a pass')\n        return self.fc"))
    folder_of_photos(tmp_path / "in", 2)
    result = process(
        "explain", "--model", f"{code}:make", "--input-shape", "3,32,32", "--preprocessing", "unit", "--json",
        tmp_path / "in", tmp_path / "out",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert [json.loads(line).get("status") for line in result.stdout.splitlines()] == ["ok", "ok", None]
    for text in (b"from the file", b"from a shell", b"from a pass", b"Runs the code of"):
        assert text in result.stderr
    assert result.stderr.count(b"from the file") == 1  # the processes that decode run no code
    quiet = lrp("models", "show", f"{code}:make", "--input-shape", "3,32,32", "-q", "--json")
    assert "Runs the code" not in quiet.stderr and json.loads(quiet.stdout)["preprocessing"] is None


def test_the_traceback_of_the_code_shows_with_vv(code, tmp_path):
    for options, shown in (((), False), (("-vv",), True)):
        result = lrp("models", "show", f"{code}:failing", "--input-shape", "3,32,32", *options)
        assert result.exit_code == 2 and ("Traceback" in result.stderr) == shown
        assert "failed at" in result.stderr and result.stdout == ""


def test_show_says_what_becomes_of_a_photo_and_who_says_so(code):
    line = ("models", "show", f"{code}:make", "--input-shape", "3,32,32")
    assert "preprocessing  unknown: give --preprocessing NAME (imagenet, caffe" in lrp(*line).stdout
    assert "shorter side 37, centre 32 x 32, RGB, 0..1, minus mean" in lrp(*line, "--preprocessing", "imagenet").stdout
    raw = json.loads(lrp(*line, "--preprocessing", "raw", "--channel-order", "BGR", "--json").stdout)
    assert raw["preprocessing"]["channel_order"] == "BGR" and raw["preprocessing_by"] == "what was given"
    stated = lrp("models", "show", f"{code}:stated", "--resize", "40x40").stdout
    assert "divided by 0.5; by net.py:stated, changed by what was given" in stated
    wrong = lrp(*line, "--preprocessing", "imagnet")
    assert wrong.exit_code == 2 and "Did you mean 'imagenet'?" in wrong.stderr
    assert "unknown" in lrp(*line, "--resize", "none").stdout


@pytest.mark.parametrize("options", [("--mean", "118"), ("--std", "57"), ("--mean", "0.5", "--std", "0.5")])
def test_a_mean_alone_does_not_say_which_pixels_it_is_for(code, options):
    line = ("models", "show", f"{code}:make", "--input-shape", "3,32,32", *options)
    refused = lrp(*line)
    assert refused.exit_code == 2
    assert "alone it is not known whether the net reads pixels as 0..255 or as 0..1" in refused.stderr
    for factor, pixels in (("1", "0..255"), ("1/255", "0..1"), ("0.5", "0..127.5")):
        assert f"RGB, {pixels}, " in lrp(*line, "--pixel-scale", factor).stdout
    assert "RGB, 0..1, " in lrp(*line, "--preprocessing", "unit").stdout


@pytest.mark.parametrize("factor", ["", "1/0", "x", "nan", "1/2/3", "inf"])
def test_what_is_no_factor_is_refused(code, factor):
    refused = lrp("models", "show", f"{code}:make", "--input-shape", "3,32,32", "--pixel-scale", factor)
    assert refused.exit_code == 2
    assert "--pixel-scale" in refused.stderr


def test_evaluate_refuses_preprocessing_that_nobody_states(code, tmp_path):
    folder_of_photos(tmp_path / "in", 1)
    line = ("evaluate", "--model", f"{code}:make", "--input-shape", "3,32,32", "--config", "epsilon", "--region", 16,
            "--steps", 2, tmp_path / "in", "-o", tmp_path / "out")  # fmt: skip
    refused = lrp(*line)
    assert refused.exit_code == 2 and "is fed with photos is not known" in refused.stderr
    assert lrp(*line, "--pixel-scale", "1").exit_code == 0


def test_pixels_for_z_box_are_asked_for_by_name(code):
    line = ("configs", "show", "epsilon-gamma-box", "--model", f"{code}:make", "--input-shape", "3,32,32")
    refused = lrp(*line)
    assert refused.exit_code == 2 and "or --preprocessing to the command" in refused.stderr
    assert lrp(*line, "--preprocessing", "unit").exit_code == 0
    model = load_architecture(f"{code}:make", input_shape=SHAPE)
    with pytest.raises(LrpError, match="is fed with photos is not known"):
        model.preprocess(None)
    assert lrpcli.Explainer(model, "epsilon")(torch.zeros(1, *SHAPE)).relevance.shape == (1, *SHAPE)


def test_labels_must_be_as_many_as_the_classes(code):
    weights = {"input_shape": SHAPE, "preprocessing": "unit"}
    made = f"{code}:make"
    assert load_model(made, **weights).outputs == 5
    for source in (made, nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), f"{code}:stated"):
        shape = {} if source == f"{code}:stated" else weights
        assert load_model(source, labels=list("abcde"), **shape).outputs == 5
        for names in ("abcd", "abcdef"):
            with pytest.raises(ModelError, match=f"There are {len(names)} labels for a model with 5 outputs"):
                load_model(source, labels=list(names), **shape)


def test_a_class_that_is_none_is_refused_before_anything_is_written(code, tmp_path):
    photos = folder_of_photos(tmp_path / "photos", 1)
    shape = ("--input-shape", "3,32,32", "--preprocessing", "unit")
    result = lrp("explain", "--model", f"{code}:make", *shape, "--target", "5", photos, tmp_path / "out")
    assert result.exit_code == 2 and "its outputs are 0 to 4" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["timn:resnet18", "TIMM:resnet18", "hfhub:timm/resnet18", "torchvison:alexnet@X"])
def test_a_misspelt_prefix_is_offered_right(name):
    right = {"ti": "timm:", "hf": "hf-hub:", "to": "torchvision:"}[name[:2].lower()] + name.partition(":")[2]
    with pytest.raises(ModelError, match=f"Did you mean {right}?"):
        load_model(name)


def test_names_of_modules_are_not_taken_for_misspelt_prefixes():
    with pytest.raises(ModelError) as error:
        load_model("mynets:resnet18")
    assert "Did you mean" not in str(error.value)


def test_code_is_no_name_of_which_there_is_a_list():
    result = lrp("models", "fetch", "net.py:make")
    assert result.exit_code == 2 and "`lrp models list` shows all names" in result.stderr
