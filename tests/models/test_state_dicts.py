"""Weights that PyTorch saved: what wraps them, what does not fit, and files that are something else."""

import argparse
import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lrpcli.errors import ModelError, WeightsError
from lrpcli.models.state_dicts import load_weights


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)


def saved(path: Path, found: object, **keywords: bool) -> Path:
    torch.save(found, path, **keywords)
    return path


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    net = Net()
    nn.init.uniform_(net.bn.running_mean)
    return dict(net.state_dict())


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "w.pt"


def require_equal(net: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def refusal(path: Path, net: nn.Module | None = None) -> str:
    with pytest.raises(ModelError) as found:
        load_weights(net or Net(), path, "Net")
    return str(found.value)


WRAPPED = {
    "plain": lambda w: w,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"lr": 0.1}},
    "model": lambda w: {"model": w},
    "model_state_dict": lambda w: {"model_state_dict": w},
    "net": lambda w: {"net": w, "acc": 0.9},
    "DataParallel": lambda w: {f"module.{key}": value for key, value in w.items()},
    "compiled": lambda w: {f"_orig_mod.{key}": value for key, value in w.items()},
    "both": lambda w: {f"module._orig_mod.{key}": value for key, value in w.items()},
    "Lightning": lambda w: {"state_dict": {f"model.{key}": value for key, value in w.items()}},
    "a part in DataParallel": lambda w: {key.replace("fc.", "fc.module."): value for key, value in w.items()},
    "a part compiled": lambda w: {key.replace("conv.", "conv._orig_mod."): value for key, value in w.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_weights_are_found_in_what_a_checkpoint_wraps_them_in(wrap, weights, path):
    net = Net()
    assert load_weights(net, saved(path, wrap(weights)), "Net") == hashlib.sha256(path.read_bytes()).hexdigest()
    require_equal(net, weights)


def test_old_files_and_safetensors_are_read_by_their_content(weights, path):
    for save in (lambda: torch.save(weights, path, _use_new_zipfile_serialization=False),
                 lambda: save_file(weights, path)):  # fmt: skip
        save()
        net = Net()
        load_weights(net, path, "Net")
        require_equal(net, weights)


def test_a_prefix_that_the_net_itself_has_stays(path):
    net = nn.ModuleDict({"model": nn.Linear(2, 2)})
    other = nn.ModuleDict({"model": nn.Linear(2, 2)})
    load_weights(other, saved(path, net.state_dict()), "Net")
    require_equal(other, net.state_dict())


def test_counters_of_training_steps_may_be_missing_or_left_over(weights, path):
    without = {key: value for key, value in weights.items() if "num_batches" not in key}
    load_weights(Net(), saved(path, without), "Net")
    plain = Net()
    plain.bn.num_batches_tracked = None
    load_weights(plain, saved(path, weights), "Net")


def test_half_weights_become_those_of_the_net(weights, path):
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    net = Net()
    load_weights(net, saved(path, half), "Net")
    assert net.fc.weight.dtype == torch.float32
    require_equal(net, {key: value.to(weights[key].dtype) for key, value in half.items()})


def test_a_net_on_the_meta_device_gets_memory(weights, path):
    weights.pop("bn.num_batches_tracked")
    with torch.device("meta"):
        net = Net()
    load_weights(net, saved(path, weights), "Net")
    assert not any(tensor.is_meta for tensor in net.state_dict().values())
    assert torch.equal(net.fc.weight, weights["fc.weight"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"fc.bias": None, "conv.bias": None}, "does not fit Net: it lacks conv.bias, fc.bias. Give the weights"),
        ({"extra.weight": torch.ones(2)}, "it has extra.weight, which the net has not"),
        ({"fc.weight": torch.ones(3, 4)}, "fc.weight is 3 x 4 in the file and 2 x 4 in the net"),
        ({"fc.weight": torch.full((2, 4), torch.nan)}, "not finite as float32"),
        ({"fc.weight": torch.full((2, 4), 1e300, dtype=torch.float64)}, "not finite as float32"),
        ({"fc.weight": torch.ones(2, 4, dtype=torch.int64)}, "holds int64, and the net has float32 there"),
        ({"fc.weight": torch.ones(2, 4, dtype=torch.complex64)}, "is complex"),
        ({"fc.weight": torch.ones(2, 4).to_sparse()}, "is sparse"),
        ({"fc.weight": torch.ones(2, 4, device="meta")}, "has no values"),
        ({"fc.weight": torch.ones(1, 1).expand(10**6, 10**6)}, "asks for more than 2 GiB of memory"),
    ],
)
def test_what_does_not_fit_is_named(change, text, weights, path):
    changed = {key: value for key, value in {**weights, **change}.items() if value is not None}
    assert text in refusal(saved(path, changed))


def test_many_that_are_missing_are_counted(path):
    assert "it lacks conv.weight, conv.bias, bn.weight and 5 more, and it has a" in refusal(
        saved(path, {"a": torch.ones(1)})
    )


def test_two_names_of_one_tensor_must_agree(path):
    def tied() -> nn.Module:
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        net[1].weight = net[0].weight
        return net

    weights = dict(tied().state_dict())
    load_weights(tied(), saved(path, weights), "Net")
    weights["1.weight"] = weights["1.weight"] + 1
    assert "one tensor under several names" in refusal(saved(path, weights), tied())


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Net(), f"to read it would run code (it asks for {__name__}.Net), and code from a file is never run"),
        ({"model": {"w": torch.ones(1)}, "args": argparse.Namespace(lr=1)}, "it asks for argparse.Namespace"),
        ({"model": {"w": torch.ones(1)}, "model_ema": {"w": torch.ones(1)}}, "several nets: 'model', 'model_ema'"),
        ([1, 2], "holds an object of type list and no state dict"),
        (torch.ones(3), "holds an object of type Tensor"),
        ({}, "holds an empty dictionary"),
        ({"epoch": 3}, "holds a dictionary of epoch and no state dict"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_holds_no_state_dict_says_what_it_is(found, text, zipped, path):
    message = refusal(saved(path, found, _use_new_zipfile_serialization=zipped))
    assert text in message
    assert "state_dict" in message or "save the weights" in message or "Save the one" in message


def test_a_file_cannot_have_code_run(path, tmp_path):
    path.write_bytes(b"\x80\x02cos\nmkdir\nX%s%b\x85R." % (len(bytes(tmp_path / "x")).to_bytes(4, "little"),
                                                           bytes(tmp_path / "x")))  # fmt: skip
    assert "to read it would run code (it asks for os.mkdir)" in refusal(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    assert "a pickle that torch.save does not write" in refusal(path)
    assert not (tmp_path / "x").exists()


def test_programs_say_what_they_are(path):
    net = nn.Sequential(nn.Linear(4, 2)).eval()
    torch.export.save(torch.export.export(net, (torch.ones(1, 4),)), path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)
    assert "a program that torch.export saved" in refusal(path)
    with pytest.warns() if torch.__version__ > "2.9" else pytest.warns(None):
        torch.jit.trace(net, torch.ones(1, 4)).save(path)
    assert "is TorchScript, a program with its weights" in refusal(path)


def test_damaged_files_are_refused(weights, path):
    data = saved(path, weights).read_bytes()
    number = weights["fc.weight"].numpy().tobytes()
    path.write_bytes(data.replace(number, bytes([number[0] ^ 1]) + number[1:]))
    assert "the checksum of 'w/data/7' is wrong" in refusal(path)
    for length in (300, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:length])
        assert "Fetch" in refusal(path)
    for data, text in ((b"", "it is empty"), (b"<!DOCTYPE html><html>", "a web page"), (b"\0" * 99, "no undamaged")):
        path.write_bytes(data)
        assert text in refusal(path)


def test_compressed_and_overlapping_parts_are_refused(weights, path, tmp_path):
    saved(path, weights)
    squeezed, twice = tmp_path / "squeezed.pt", tmp_path / "twice.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "it is compressed, which torch.save never does" in refusal(squeezed)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(twice, "w") as new, pytest.warns(UserWarning):
        for name in [*old.namelist(), "w/data/0"]:
            new.writestr(name, old.read(name))
    assert "its parts lie over each other" in refusal(twice)


def test_what_is_no_regular_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
        with pytest.raises(WeightsError, match="cannot be read"):
            load_weights(Net(), path, "Net")
