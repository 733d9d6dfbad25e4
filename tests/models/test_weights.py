"""Fetching and checking weights, with a server on this machine that can misbehave."""

import hashlib
import http.server
import os
import pwd
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lrpcli.errors import WeightsError
from lrpcli.models.zoo import bundled, find_entry, list_entries
from lrpcli.models.zoo.weights import CachedFile, cache_folder

CONTENT = b"weights" * 50_000


@dataclass
class Server:
    url: str
    requests: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/missing.caffemodel":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 1000 if self.path == "/cut.caffemodel" else None])

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(f"http://127.0.0.1:{running.server_port}", running.requests)
        running.shutdown()
        thread.join(10)


def model(url: str | None, known: str | None = "right") -> CachedFile:
    digest = f"sha1:{hashlib.sha1(CONTENT).hexdigest()}" if known == "right" else known
    return CachedFile("some-net", digest, () if url is None else (url,))


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_weights_are_fetched_once(server, cache, algorithm) -> None:
    file = model(f"{server.url}/net.caffemodel", f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}")
    assert (file.state(), file.verify()) == ("not fetched", "not fetched")
    path = file.fetch()
    assert path == cache / "net.caffemodel"
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert file.fetch() == path
    assert server.requests == ["/net.caffemodel"]
    assert (file.state(), file.verify()) == ("cached", "ok")
    assert everything_in(cache) == ["net.caffemodel"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, cache) -> None:
    file = model(f"{server.url}/net.caffemodel")
    cache.mkdir()
    (cache / "net.caffemodel").write_bytes(CONTENT[:-1])
    assert file.verify() == "wrong hash"
    assert file.fetch().read_bytes() == CONTENT
    assert server.requests == ["/net.caffemodel"]


def test_a_wrong_hash_is_refused_and_not_kept(server, cache) -> None:
    file = model(f"{server.url}/net.caffemodel", f"sha256:{'0' * 64}")
    with pytest.raises(WeightsError, match="has the wrong hash") as caught:
        file.fetch()
    assert "was not kept" in str(caught.value)
    assert "--weights FILE" in str(caught.value)
    assert caught.value.exit_code == 3
    assert everything_in(cache) == []


def test_a_transfer_that_is_cut_off_leaves_nothing(server, cache) -> None:
    with pytest.raises(
        WeightsError, match=r"could not be fetched from 127.0.0.1:\d+: the transfer was cut off\. Try again"
    ):
        model(f"{server.url}/cut.caffemodel").fetch()
    assert everything_in(cache) == []


def test_a_missing_file_is_named_with_the_answer_of_the_server(server, cache) -> None:
    with pytest.raises(
        WeightsError, match=r"could not be fetched from 127.0.0.1:\d+: the server answers 404 Not Found\. Try"
    ):
        model(f"{server.url}/missing.caffemodel").fetch()
    assert everything_in(cache) == []


def test_no_server(cache) -> None:
    with pytest.raises(WeightsError, match=r"from 127.0.0.1:9: no connection to the server \(Connection refused\)"):
        model("http://127.0.0.1:9/net.caffemodel").fetch()


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_offline_asks_nobody(server, cache, monkeypatch, value) -> None:
    monkeypatch.setenv("LRP_OFFLINE", value)
    file = model(f"{server.url}/net.caffemodel")
    with pytest.raises(WeightsError, match=r"are not in the cache \(.*net.caffemodel\), and LRP_OFFLINE forbids"):
        file.fetch()
    cache.mkdir()
    (cache / "net.caffemodel").write_bytes(b"else")
    with pytest.raises(WeightsError, match="have the wrong size or hash .* and LRP_OFFLINE forbids"):
        file.fetch()
    (cache / "net.caffemodel").write_bytes(CONTENT)
    assert file.fetch() == cache / "net.caffemodel"
    assert server.requests == []


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_offline_can_be_said_not_to_be(server, cache, monkeypatch, value) -> None:
    monkeypatch.setenv("LRP_OFFLINE", value)
    assert model(f"{server.url}/net.caffemodel").fetch().exists()


def test_without_a_known_hash_nothing_is_fetched(server, cache) -> None:
    with pytest.raises(
        WeightsError, match="No hash is known for the weights of 'some-net', so a download could not be"
    ):
        model(f"{server.url}/net.caffemodel", None).fetch()
    assert server.requests == []


def test_without_an_official_file_the_user_must_give_one(cache) -> None:
    with pytest.raises(WeightsError, match="There is no official weights file for 'cifar10-full'. Give your own"):
        find_entry("cifar10-full").weights.fetch()


def test_a_folder_that_cannot_be_written_is_named(server, cache) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(
        WeightsError, match=r"cannot be stored in .*cache' \(.*\)\. Choose another folder with LRP_CACHE"
    ):
        model(f"{server.url}/net.caffemodel").fetch()


def test_a_bundled_file_that_is_gone(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    ours = bundled.BundledFile("ours")
    assert ours.verify() == "missing"
    with pytest.raises(WeightsError, match="belong to the package but .* is missing. Install the package again"):
        ours.fetch()
    path = tmp_path / "ours.safetensors"
    path.write_bytes(CONTENT)
    assert (ours.fetch(), ours.verify()) == (path, "bundled")
    wrong = replace(ours, hash=f"sha1:{'0' * 40}")
    assert wrong.verify() == "wrong hash"


def test_the_cache_is_the_users_own_unless_said_otherwise(monkeypatch, tmp_path) -> None:
    assert cache_folder() == Path(os.environ["LRP_CACHE_DIR"])
    monkeypatch.delenv("LRP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    folder = cache_folder()
    assert folder.is_relative_to(tmp_path)
    assert folder.name == "models"


def test_without_a_home_there_is_no_cache_but_a_sentence(monkeypatch) -> None:
    for name in ("LRP_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # raises KeyError, as for a user without an entry
    with pytest.raises(WeightsError, match=r"There is no home folder .* Name a folder with LRP_CACHE_DIR"):
        cache_folder()
    assert find_entry("caffenet").weights.state() == "not fetched"


def test_a_cache_that_may_not_be_looked_into_does_not_stop_a_list(cache, monkeypatch) -> None:
    monkeypatch.setenv("LRP_CACHE_DIR", "x" * 300)
    assert find_entry("caffenet").weights.state() == "not fetched"


def test_no_two_named_models_share_a_file_in_the_cache() -> None:
    fetched = [entry.weights.path() for entry in list_entries() if entry.weights.urls]
    assert len(set(fetched)) == len(fetched)
