"""Models are kept from one call to the next, and never one whose files are not what they were."""

import os
import shutil
import threading
import time

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.errors import WeightsError
from lrpcli.library import loaded
from tests.library.nets import TINY_NET, small_net
from tests.models.onnx.files import small
from tests.photos import TINY, photo


@pytest.fixture
def loads(monkeypatch):
    """The models that were read, in order."""
    seen = []
    load = loaded.load_model
    monkeypatch.setattr(loaded, "load_model", lambda model, **how: seen.append(str(model)) or load(model, **how))
    return seen


@pytest.fixture
def later(monkeypatch):
    """A clock that is a minute ahead, so that files that were just written count as settled."""
    now = time.time
    monkeypatch.setattr(loaded.time, "time", lambda: now() + 60)


def test_a_model_is_read_once_for_any_config_target_and_image(loads, path):
    first = lrpcli.explain(path, "cifar10")
    again = lrpcli.explain(path, "cifar10")
    np.testing.assert_array_equal(first.map, again.map)
    other = lrpcli.explain(path, "cifar10", config="epsilon-1", start="one", lrn="identity", target="cat")
    assert loads == ["cifar10"]
    lrpcli.forget_models()
    fresh = lrpcli.explain(path, "cifar10", config="epsilon-1", start="one", lrn="identity", target="cat")
    assert loads == ["cifar10"] * 2
    np.testing.assert_array_equal(other.map, fresh.map)
    assert not np.array_equal(other.map, first.map)


@pytest.mark.parametrize(
    "options", [{"dtype": torch.float64}, {"labels": list("abcdefghij")}, {"preprocessing": "raw"}]
)
def test_what_changes_a_model_makes_it_another(loads, path, options):
    lrpcli.explain(path, "cifar10")
    lrpcli.explain(path, "cifar10", **options)
    lrpcli.explain(path, "cifar10", **options)
    assert loads == ["cifar10"] * 2


def test_the_last_two_are_kept(loads, path):
    for name in ("cifar10", "caffenet-small", "cifar10", TINY, "cifar10", "caffenet-small"):
        lrpcli.explain(path, **(TINY_NET if name == TINY else {"model": name}))
    assert loads == ["cifar10", "caffenet-small", TINY, "caffenet-small"]


def test_a_file_that_changes_is_read_anew(tmp_path, loads, later, path):
    """In place, of the same size, with its old time set back: what rsync and a quick script leave behind."""
    net = shutil.copy(TINY, tmp_path / "net.caffemodel")
    options = {**TINY_NET, "model": net}
    before = lrpcli.explain(path, **options).map
    assert np.array_equal(lrpcli.explain(path, **options).map, before) and len(loads) == 1
    status = net.stat()
    content = bytearray(net.read_bytes())
    end = len(content) // 2
    content[end - 4000 : end] = bytes(4000)  # weights become zeros
    with net.open("r+b") as file:
        file.write(content)
    os.utime(net, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert net.stat().st_size == status.st_size
    after = lrpcli.explain(path, **options).map
    assert len(loads) == 2 and not np.array_equal(after, before)


def test_a_file_that_was_only_just_written_is_not_kept(tmp_path, loads, path):
    net = shutil.copy(TINY, tmp_path / "net.caffemodel")
    for _ in range(2):
        lrpcli.explain(path, **{**TINY_NET, "model": net})
    assert len(loads) == 2


def test_files_beside_the_model_count_too(tmp_path, loads, later, path):
    names = tmp_path / "names.txt"
    for first in ("a", "b"):
        names.write_text("\n".join([first, *"cdefghijk"]))
        for _ in range(2):
            assert lrpcli.explain(path, **TINY_NET, labels=str(names), target=0).label == first
    assert len(loads) == 2


def test_a_net_with_data_in_other_files_is_read_every_time(tmp_path, loads, later, path):
    alone, divided = tmp_path / "alone.onnx", tmp_path / "divided.onnx"
    small(alone)
    divided.write_bytes(alone.read_bytes() + b"location")
    assert loaded._stands_alone(alone) and not loaded._stands_alone(divided)
    for _ in range(2):
        lrpcli.explain(path, alone, preprocessing="raw")
    assert len(loads) == 1


def test_a_path_is_that_of_the_current_folder(tmp_path, loads, later, path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(TINY, tmp_path / name / "net.caffemodel")
    for name in ("one", "two", "two"):
        monkeypatch.chdir(tmp_path / name)
        lrpcli.explain(path, **{**TINY_NET, "model": "net.caffemodel"})
    assert len(loads) == 2


def test_code_is_run_every_time(tmp_path, loads, path, monkeypatch):
    file = tmp_path / "net.py"
    for scale in (1.0, 2.0):
        file.write_text(
            "import torch\ndef make():\n    torch.manual_seed(0)\n    net = torch.nn.Sequential(torch.nn.Flatten(), "
            f"torch.nn.Linear(192, 2))\n    net[1].weight.data.mul_({scale})\n    return net\n"
        )
        result = lrpcli.explain(path, f"{file}:make", input_shape=(3, 8, 8), preprocessing="unit", target=0)
        expected = float(lrpcli.explain(path, f"{file}:make", input_shape=(3, 8, 8), preprocessing="unit").score)
        assert result.score > 0 and expected > 0
    assert len(loads) == 4


def test_a_net_that_is_trained_further_is_never_stale(path):
    net = small_net()
    model = lrpcli.load_model(net, input_shape=(3, 8, 8))
    for given in ({"model": net, "input_shape": (3, 8, 8)}, {"model": model}):
        before = lrpcli.explain(path, **given, target=0).map
        with torch.no_grad():
            net.conv1.weight.mul_(-1)
        assert not np.array_equal(lrpcli.explain(path, **given, target=0).map, before)


def test_a_config_file_that_changes_is_read_anew(tmp_path, path):
    config = tmp_path / "mine.toml"
    maps = []
    for rule in ("z-plus", "flat"):
        config.write_text(f'[kind]\nlinear = "{rule}"\n')
        maps.append(lrpcli.explain(path, "cifar10", config=str(config)).map)
    assert not np.array_equal(*maps)


def test_a_model_that_cannot_be_loaded_leaves_none_behind(tmp_path, later, path):
    net = shutil.copy(TINY, tmp_path / "net.caffemodel")
    options = {**TINY_NET, "model": net}
    lrpcli.explain(path, **options)
    net.unlink()
    with pytest.raises((lrpcli.LrpError, WeightsError)):
        lrpcli.explain(path, **options)


def test_threads_share_a_model(tmp_path, loads):
    paths = [photo(tmp_path / f"{number}.png", number) for number in range(4)]
    expected = [lrpcli.explain(one, "cifar10").map for one in paths]
    lrpcli.forget_models()
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: lrpcli.explain(paths[n], "cifar10").map}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert loads == ["cifar10"] * 2
    for number, one in enumerate(expected):
        np.testing.assert_array_equal(found[number], one)
