"""Repositories of Hugging Face's hub through the command, with a server on this machine in its place."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.models.zoo.hub_server import COMMIT, Hub, serving
from tests.models.zoo.test_timm import CONFIG, make

pytest.importorskip("timm", reason="timm is an extra")
NAME = "hf-hub:me/tiny"


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    from safetensors.torch import save

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.files["me/tiny/config.json"] = json.dumps(CONFIG).encode()
        running.files["me/tiny/model.safetensors"] = save(make("resnet18", num_classes=3).state_dict())
        yield running


def lrp(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lrpcli", *arguments], capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, **variables},
    )  # fmt: skip


def load(name: str) -> dict[str, object]:
    """What a process of its own says of a model that it loads."""
    code = (
        "import sys, json; from lrpcli.models import load_model; m = load_model(sys.argv[1]); print(json.dumps("
        "[m.name, m.weights_sha256, m.source, m.labels, m.preprocessing.describe()]))"
    )
    found = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=False, timeout=600)
    assert found.returncode == 0, found.stderr
    return dict(zip(("name", "sha256", "source", "labels", "preprocessing"), json.loads(found.stdout), strict=True))


def test_a_repository_is_fetched_checked_and_loaded_at_one_commit(hub, hub_cache) -> None:
    assert "LRP_OFFLINE forbids" in lrp("models", "fetch", NAME, LRP_OFFLINE="1").stderr
    fetched = lrp("models", "fetch", NAME)
    path = hub_cache / "hub" / "models--me--tiny" / "snapshots" / COMMIT / "model.safetensors"
    assert (fetched.returncode, fetched.stdout) == (0, f"{path}\n"), fetched.stderr
    content = hub.files["me/tiny/model.safetensors"]
    hub.files["me/tiny/model.safetensors"] = b"another commit"
    model = load(NAME)
    assert model["name"] == f"hf-hub:me/tiny@{COMMIT}"
    assert model["sha256"] == hashlib.sha256(content).hexdigest()
    assert COMMIT in model["source"]
    assert model["labels"] == ["ant", "bee", "cow"]
    assert model["preprocessing"].startswith("squashed to 71 x 71 (bicubic), centre 64 x 64, RGB, 0..1, minus mean 0.5")
    assert load(f"{NAME}@{COMMIT}") == model
    assert "ok" in lrp("models", "verify", NAME).stdout
    assert lrp("models", "path", NAME, LRP_OFFLINE="1").stdout == f"{path}\n"


def test_a_damaged_file_in_the_cache_is_found_and_fetched_again(hub, hub_cache) -> None:
    path = lrp("models", "fetch", NAME).stdout.strip()
    with Path(path).resolve().open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    verified = lrp("models", "verify", NAME)
    assert verified.returncode == 3 and "wrong hash" in verified.stdout
    assert "have the wrong hash" in lrp("models", "fetch", NAME, LRP_OFFLINE="1").stderr
    assert lrp("models", "fetch", NAME).returncode == 0
    assert "ok" in lrp("models", "verify", NAME).stdout


def test_what_a_server_claims_is_checked(hub, hub_cache) -> None:
    hub.claims["model.safetensors"] = ("0" * 64, len(hub.files["me/tiny/model.safetensors"]))
    refused = lrp("models", "fetch", NAME)
    assert refused.returncode == 3 and "have the wrong hash" in refused.stderr
    hub.claims["model.safetensors"] = ("1" * 64, 2**40)
    refused = lrp("models", "fetch", f"{NAME}@{COMMIT}")
    assert refused.returncode == 3, refused.stderr


def test_sizes_beyond_the_limit_are_not_fetched(hub, hub_cache) -> None:
    hub.claims["model.safetensors"] = ("1" * 64, 2**40)
    refused = lrp("models", "fetch", NAME)
    assert refused.returncode == 3 and "1,099,511,627,776 bytes" in refused.stderr
    assert not any(asked.startswith("GET") and "safetensors" in asked for asked in hub.asked)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil-ran",)


def test_a_pickle_is_never_run(hub, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    del hub.files["me/tiny/model.safetensors"]
    hub.files["me/tiny/pytorch_model.bin"] = pickle.dumps(Evil(), protocol=2)
    refused = lrp("models", "show", NAME, "--weights", lrp("models", "fetch", NAME).stdout.strip())
    assert refused.returncode == 2 and "code from a file is never run" in refused.stderr, refused.stderr
    assert not (tmp_path / "evil-ran").exists()


def test_weights_in_pytorchs_form_are_read(hub, tmp_path) -> None:
    del hub.files["me/tiny/model.safetensors"]
    torch.save(make("resnet18", num_classes=3).state_dict(), tmp_path / "w.bin")
    hub.files["me/tiny/pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
    assert load(NAME)["sha256"] == hashlib.sha256((tmp_path / "w.bin").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf-hub:me/none", "There is no repository 'me/none' on Hugging Face's hub, or it is private"),
        (f"{NAME}@dev", "has no revision 'dev'"),
        ("hf-hub:me/empty", "has no model.safetensors or pytorch_model.bin"),
        ("hf-hub:me/a--b", "cannot be a repository"),
    ],
)
def test_what_is_not_there_is_named(hub, name, message) -> None:
    hub.files["me/empty/config.json"] = b"{}"
    refused = lrp("models", "fetch", name)
    assert refused.returncode in (2, 3) and message in refused.stderr


def test_no_network_and_no_mirror(hub) -> None:
    assert "cannot be fetched" in lrp("models", "fetch", NAME, HF_ENDPOINT="http://127.0.0.1:9").stderr
    assert "HF_HUB_OFFLINE forbids" in lrp("models", "fetch", NAME, HF_HUB_OFFLINE="1").stderr
    refused = lrp("models", "fetch", NAME, "--mirror", "http://127.0.0.1:9")
    assert refused.returncode == 2 and "Set HF_ENDPOINT" in refused.stderr
