"""Downloads from servers that lie, stall, never end or lead elsewhere, and downloads that are killed."""

import gzip
import hashlib
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lrpcli.errors import WeightsError
from lrpcli.models.zoo import download as module
from lrpcli.models.zoo.download import DownloadError, Remote, download
from lrpcli.models.zoo.weights import CachedFile
from tests.resilience.runs import environment, wait_for

CONTENT = b"weights" * 50_000
HASH = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
UNSIZED = b"HTTP/1.0 200 OK\r\n\r\n"
Talk = Callable[["Handler"], None]


class Handler(socketserver.StreamRequestHandler):
    """Reads a request and lets a test say whatever it likes."""

    def handle(self) -> None:
        lines = []
        while line := self.rfile.readline().strip():
            lines.append(line)
        self.server.asked.append(lines)
        try:
            self.server.talk(self)
        except (BrokenPipeError, ConnectionResetError):
            self.server.left.set()

    def say(self, data: bytes) -> None:
        self.wfile.write(data)

    def wait(self) -> None:
        """Says nothing more until the test is over."""
        self.server.over.wait()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    talk: Talk

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[list[bytes]] = []
        self.over, self.left = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/net.caffemodel"


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.over.set()
        running.shutdown()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(server: Server, talk: Talk, path: Path, size: int | None = None, known: str = HASH) -> str:
    """The reason why a download fails, after which nothing of it is left."""
    server.talk = talk
    with pytest.raises(DownloadError) as caught:
        download(Remote(server.url, known, size), path)
    assert list(path.parent.iterdir()) == []
    return str(caught.value)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights" / "net.caffemodel"


def test_it_arrives_whole_and_uncompressed_is_asked_for(server, path) -> None:
    server.talk = lambda answer: answer.say(SIZED % len(CONTENT) + CONTENT)
    download(Remote(server.url, HASH, len(CONTENT)), path)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["net.caffemodel"]
    assert b"Accept-Encoding: identity" in server.asked[0]


def test_a_server_that_does_not_say_how_much_comes(server, path) -> None:
    server.talk = lambda answer: answer.say(UNSIZED + CONTENT)
    download(Remote(server.url, HASH), path)
    assert path.read_bytes() == CONTENT


def endless(head: bytes, piece: bytes) -> Talk:
    def talk(answer: Handler) -> None:
        answer.say(head)
        while True:
            answer.say(piece)

    return talk


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "piece"),
    [(UNSIZED, b"x" * 4096), (CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n")],
    ids=["plain", "chunked"],
)
def test_a_body_without_an_end_is_left_at_the_size_or_else_the_limit(server, path, monkeypatch, head, piece) -> None:
    monkeypatch.setattr(module, "LARGEST", 1_000_000)
    assert refused(server, endless(head, piece), path) == "more than 1,000,000 bytes came"
    assert server.left.wait(60)
    assert refused(server, endless(head, piece), path, size=5000) == "more than 5,000 bytes came"


def test_a_body_longer_than_was_said_is_not_read(server, path) -> None:
    server.talk = endless(SIZED % len(CONTENT) + CONTENT, b"more")
    download(Remote(server.url, HASH), path)
    assert path.read_bytes() == CONTENT
    assert server.left.wait(60)


def test_a_size_that_is_not_the_files_is_refused_before_anything_is_read(server, path, monkeypatch) -> None:
    reason = refused(server, endless(SIZED % 10**15, b"x"), path, size=350_000)
    assert reason == "the file there has 1,000,000,000,000,000 bytes; expected are 350,000"
    monkeypatch.setattr(module, "LARGEST", 1000)
    assert "at most 1,000 are fetched" in refused(server, endless(SIZED % 1001, b"x"), path)


@pytest.mark.parametrize("length", [-1, "many", "5, 7", 10**400])
def test_a_size_that_is_none(server, path, length) -> None:
    """As if the server had not said it, or refused."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode()
    refused(server, lambda answer: answer.say(head + b"short"), path)


def test_compressed_bytes_are_refused_unread(server, path) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    assert "compressed" in refused(server, lambda answer: answer.say(head + bomb), path)


@pytest.mark.parametrize(
    "said",
    [SIZED % len(CONTENT) + CONTENT[:1000], CHUNKED + b"ffff\r\n" + CONTENT[:1000], SIZED % len(CONTENT)],
    ids=["sized", "chunked", "empty"],
)
def test_a_connection_that_ends_early(server, path, said) -> None:
    assert refused(server, lambda answer: answer.say(said), path) == "the transfer was cut off"


def test_a_reset_connection(server, path) -> None:
    def talk(answer: Handler) -> None:
        answer.say(SIZED % len(CONTENT) + CONTENT[:1000])
        answer.connection.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER of no time: a reset
        answer.connection.close()

    assert refused(server, talk, path) == "the transfer was cut off"


def silent_after(said: bytes) -> Talk:
    def talk(answer: Handler) -> None:
        answer.say(said)
        answer.wait()

    return talk


def dripping(head: bytes) -> Talk:
    def talk(answer: Handler) -> None:
        answer.say(head)
        while not answer.server.over.wait(0.02):
            answer.say(b"x")

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        silent_after(b""),
        silent_after(SIZED % len(CONTENT) + CONTENT[:1000]),
        dripping(SIZED % len(CONTENT)),
        dripping(CHUNKED),
        dripping(b"HTTP/1.1 200 OK\r\nX-Long: "),
    ],
    ids=["silence", "silence half-way", "drips", "dripping chunks", "dripping headers"],
)
def test_a_server_that_stalls_or_drips_is_left(server, path, monkeypatch, talk) -> None:
    monkeypatch.setattr(module, "STALL", 0.5)
    assert refused(server, talk, path) == "the server sent less than 1,000 bytes a second over 0.5 s"


def moved(to: str, code: int = 302) -> bytes:
    return f"HTTP/1.1 {code} Found\r\nLocation: {to}\r\n".encode()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirection_is_followed_without_reading_its_body(server, path, code) -> None:
    def talk(answer: Handler) -> None:
        if b"/there" in answer.server.asked[-1][0]:
            answer.say(SIZED % len(CONTENT) + CONTENT)
        else:
            endless(moved("/there", code) + b"\r\n", b"x")(answer)

    server.talk = talk
    download(Remote(server.url, HASH), path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x", "javascript:1"])
def test_a_redirection_to_anything_but_a_web_address_is_refused(server, path, to) -> None:
    reason = refused(server, lambda answer: answer.say(moved(to) + b"Content-Length: 0\r\n\r\n"), path)
    assert reason == f"it leads to {to!r}, which is not a web address"


@pytest.mark.parametrize("to", ["/net.caffemodel", "", "?again"])
def test_redirections_in_a_circle(server, path, to) -> None:
    reason = refused(server, lambda answer: answer.say(moved(to) + b"Content-Length: 0\r\n\r\n"), path)
    assert reason == "it leads to more than 10 other addresses"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n<html>no", "the server answers 404 Not Found"),
        (b"HTTP/1.1 503 \x1b[31mBusy\r\n\r\n", "the server answers 503 \x1b[31mBusy"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer cannot be understood (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "the answer cannot be understood (HTTPException)"),
        (b"", "the transfer was cut off"),
    ],
)
def test_other_answers(server, path, said, reason) -> None:
    assert refused(server, lambda answer: answer.say(said), path) == reason


def test_a_page_in_place_of_the_file_has_the_wrong_hash(server, path) -> None:
    page = b"<html>This domain is for sale.</html>"
    server.talk = lambda answer: answer.say(SIZED % len(page) + page)
    with pytest.raises(DownloadError, match="has the wrong hash"):
        download(Remote(server.url, HASH), path)
    assert names(path.parent) == []


FETCH = """
import sys
from lrpcli.models.zoo.weights import CachedFile
print(CachedFile("some-net", sys.argv[1], tuple(sys.argv[2:])).fetch(), flush=True)
"""


def fetching(server: Server, cache: Path) -> "subprocess.Popen[bytes]":
    env = environment(LRP_CACHE_DIR=str(cache), no_proxy="127.0.0.1")
    line = [sys.executable, "-c", FETCH, HASH, server.url]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


@pytest.mark.parametrize("told", [0, 1, 100_000, len(CONTENT) - 1])
def test_a_killed_download_leaves_nothing_that_counts_and_the_next_one_cleans_up(server, cache, told) -> None:
    def talk(answer: Handler) -> None:
        answer.say(SIZED % len(CONTENT) + CONTENT[:told])
        answer.wait()

    server.talk = talk
    killed = fetching(server, cache)
    # Of the last bytes of a piece, none is written before the piece is whole.
    wait_for(lambda: sum(part.stat().st_size for part in cache.glob(".*.part")) >= told - told % module.PIECE
             and list(cache.glob(".*.part")) != [])  # fmt: skip
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert [name for name in names(cache) if not name.endswith(".part")] == []
    file = CachedFile("some-net", HASH, (server.url,))
    assert file.state() == "not fetched" and len(names(cache)) == 1
    server.talk = lambda answer: answer.say(SIZED % len(CONTENT) + CONTENT)
    assert file.fetch().read_bytes() == CONTENT
    assert names(cache) == ["net.caffemodel"]


def test_two_fetch_at_once_and_neither_takes_the_others_file_for_a_leftover(server, cache) -> None:
    both = threading.Barrier(2)

    def talk(answer: Handler) -> None:
        answer.say(SIZED % len(CONTENT) + CONTENT[:1000])
        both.wait(300)
        answer.say(CONTENT[1000:])

    server.talk = talk
    running = [fetching(server, cache) for _ in range(2)]
    for one in running:
        output, errors = one.communicate(timeout=300)
        assert one.returncode == 0, errors
        assert Path(output.decode().strip()).read_bytes() == CONTENT
    assert names(cache) == ["net.caffemodel"]


@pytest.mark.parametrize("kind", ["dangling link", "loop", "file", "folder in its place", "pipe"])
def test_a_cache_that_cannot_be_used_is_one_sentence(server, cache, kind) -> None:
    if kind == "folder in its place":
        (cache / "net.caffemodel" / "x").mkdir(parents=True)
    elif kind == "file":
        cache.touch()
    elif kind == "pipe":
        os.mkfifo(cache)
    else:
        cache.symlink_to("nowhere" if kind == "dangling link" else cache.name)
    server.talk = lambda answer: answer.say(SIZED % len(CONTENT) + CONTENT)
    with pytest.raises(WeightsError, match=r"cannot be (stored in|read).*\.$") as caught:
        CachedFile("some-net", HASH, (server.url,)).fetch()
    assert caught.value.exit_code == 3


def test_a_cache_that_is_a_link_to_a_folder_is_used(server, cache, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    cache.symlink_to("elsewhere")
    server.talk = lambda answer: answer.say(SIZED % len(CONTENT) + CONTENT)
    CachedFile("some-net", HASH, (server.url,)).fetch()
    assert (tmp_path / "elsewhere" / "net.caffemodel").read_bytes() == CONTENT
