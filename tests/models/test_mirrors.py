"""Several sources for one file, a mirror before them, and what of them fails, lies or may not be shown."""

import base64
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import lrpcli
from lrpcli.errors import UsageError, WeightsError
from lrpcli.models.zoo import download as module
from lrpcli.models.zoo import weights
from lrpcli.models.zoo.mirrors import address_below, check_mirror, chosen_mirror, host_of, shown
from lrpcli.models.zoo.weights import CachedFile
from tests.models.test_download import (
    CHUNKED,
    CONTENT,
    HASH,
    SIZED,
    UNSIZED,
    Handler,
    Server,
    Talk,
    dripping,
    endless,
    moved,
    names,
    silent_after,
)
from tests.resilience.runs import environment, wait_for

SECRET = "tr0ub4dor"
OTHER = b"another" * 50_000
"""Wrong bytes of the right size."""


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[[Talk], Server]]:
    """Starts a server that talks as it is said."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ExitStack() as running:

        def start(talk: Talk) -> Server:
            server = running.enter_context(Server())
            server.talk = talk
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            running.callback(server.shutdown)
            running.callback(server.over.set)
            return server

        yield start


def sending(content: bytes) -> Talk:
    return lambda answer: answer.say(SIZED % len(content) + content)


def answering(status: str) -> Talk:
    return lambda answer: answer.say(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


def file_of(*servers: Server, known: str | None = HASH, size: int | None = len(CONTENT)) -> CachedFile:
    return CachedFile("some-net", known, tuple(server.url for server in servers), size)


def base(server: Server) -> str:
    return server.url.rpartition("/")[0]


def folder_with(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir()
    (folder / "net.caffemodel").write_bytes(content)
    return folder


# Sources in order


def test_the_first_source_that_has_the_file_is_the_last_one_that_is_asked(serve, cache, capsys) -> None:
    first, second, third = serve(answering("404 Not Found")), serve(sending(CONTENT)), serve(sending(CONTENT))
    assert file_of(first, second, third).fetch() == cache / "net.caffemodel"
    assert (cache / "net.caffemodel").read_bytes() == CONTENT
    assert (len(first.asked), len(second.asked), len(third.asked)) == (1, 1, 0)
    line = f"Warning: net.caffemodel could not be fetched from {host_of(first.url)}: the server answers 404 Not Found."
    assert capsys.readouterr() == ("", f"{line} Trying {host_of(second.url)} next.\n")


HOSTILE = {
    "wrong bytes": (sending(OTHER), "what came has the wrong hash and was not kept (expected is sha256:"),
    "a page": (sending(b"<html>for sale</html>"), "the file there has 21 bytes; expected are 350,000"),
    "a page of no size": (lambda answer: answer.say(UNSIZED + b"<html>for sale</html>"), "the transfer was cut off"),
    "longer": (sending(CONTENT + b"x"), "the file there has 350,001 bytes; expected are 350,000"),
    "endless": (endless(UNSIZED, b"x" * 4096), "more than 350,000 bytes came"),
    "endless chunks": (endless(CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"), "more than 350,000 bytes came"),
    "cut off": (lambda answer: answer.say(SIZED % len(CONTENT) + CONTENT[:9999]), "the transfer was cut off"),
    "a lie about its size": (endless(SIZED % 10**15, b"x"), "expected are 350,000"),
    "compressed": (
        lambda answer: answer.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n123456789"),
        "the server sends it compressed",
    ),
    "a circle": (lambda answer: answer.say(moved("/net.caffemodel") + b"\r\n"), "it leads to more than 10 other"),
    "a file of this machine": (lambda answer: answer.say(moved("file:///etc/passwd") + b"\r\n"), "not a web address"),
    "silent": (silent_after(b""), "the server sent less than 1,000 bytes a second over 0.5 s"),
    "silent half-way": (silent_after(SIZED % len(CONTENT) + CONTENT[:9999]), "the server sent less than 1,000 bytes"),
    "dripping": (dripping(SIZED % len(CONTENT)), "the server sent less than 1,000 bytes"),
    "another protocol": (lambda answer: answer.say(b"SSH-2.0-OpenSSH\r\n"), "the answer cannot be understood"),
    "a forged line": (answering("500 \x1b[31mx"), "the server answers 500 \\x1b[31mx"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_source_is_passed_over_with_a_line_and_the_next_one_is_used(
    serve, cache, monkeypatch, capsys, kind
) -> None:
    talk, reason = HOSTILE[kind]
    warn = weights._warn

    def warned(text: str) -> None:
        monkeypatch.setattr(module, "STALL", 60.0)  # the good source has time
        warn(text)

    monkeypatch.setattr(module, "STALL", 0.5)
    monkeypatch.setattr(weights, "_warn", warned)
    bad, good = serve(talk), serve(sending(CONTENT))
    assert file_of(bad, good).fetch().read_bytes() == CONTENT
    assert names(cache) == ["net.caffemodel"]
    said = capsys.readouterr().err
    assert (
        said.startswith(f"Warning: net.caffemodel could not be fetched from {host_of(bad.url)}: ")
        and said.count("\n") == 1
    )
    assert reason in said


def test_if_all_fail_one_sentence_names_each_with_its_reason(serve, cache) -> None:
    servers = [serve(answering("503 Busy")), serve(sending(OTHER)), serve(sending(b"short"))]
    with pytest.raises(WeightsError) as caught:
        file_of(*servers).fetch()
    first, second, third = (host_of(server.url) for server in servers)
    assert str(caught.value).startswith(
        f"The weights of 'some-net' could not be fetched from {first}: the server answers 503 Busy; from {second}: "
        f"what came has the wrong hash and was not kept (expected is {HASH}); from {third}: the file "
        "there has 5 bytes; expected are 350,000. Try again later, name a mirror with --mirror, or"
    )
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3
    assert names(cache) == []


@pytest.mark.parametrize("old", [OTHER, CONTENT[:-1], b""], ids=["other", "cut", "empty"])
def test_an_older_file_stays_until_a_right_one_takes_its_place(serve, cache, old) -> None:
    folder_with(cache, old)
    bad, good = serve(sending(OTHER)), serve(sending(CONTENT))
    with pytest.raises(WeightsError):
        file_of(bad).fetch()
    assert (cache / "net.caffemodel").read_bytes() == old
    assert file_of(bad, good).fetch().read_bytes() == CONTENT
    assert names(cache) == ["net.caffemodel"]


def test_an_intact_file_asks_nobody_whatever_mirror_there_is(serve, cache, tmp_path) -> None:
    folder_with(cache)
    server = serve(sending(OTHER))
    assert file_of(server).fetch(mirror=base(server)).read_bytes() == CONTENT
    assert server.asked == []


# Mirrors


@pytest.mark.parametrize("path", ["", "/", "/nets", "/nets/", "/a/b%20c//", "/ü /"])
def test_a_mirror_has_the_file_below_its_address_by_name(serve, cache, path) -> None:
    mirror, official = serve(sending(CONTENT)), serve(sending(CONTENT))
    file_of(official).fetch(mirror=f"{base(mirror)}{path}?key=a/b&x")
    wanted = {"/ü /": "/%C3%BC%20"}.get(path, path.rstrip("/"))
    assert mirror.asked[0][0] == f"GET {wanted}/net.caffemodel?key=a/b&x HTTP/1.1".encode()
    assert official.asked == []


def test_without_the_file_on_the_mirror_the_others_follow(serve, cache, capsys) -> None:
    mirror, official = serve(answering("404 Not Found")), serve(sending(CONTENT))
    assert file_of(official).fetch(mirror=base(mirror)).read_bytes() == CONTENT
    assert "the server answers 404" in capsys.readouterr().err


def test_the_variable_and_what_is_given_before_it(serve, cache, monkeypatch) -> None:
    named, given = serve(sending(CONTENT)), serve(sending(CONTENT))
    monkeypatch.setenv("LRP_MIRROR", base(named))
    file_of(serve(answering("404 Not Found"))).fetch().unlink()
    assert (len(named.asked), len(given.asked)) == (1, 0)
    file_of(serve(answering("404 Not Found"))).fetch(mirror=base(given))
    assert (len(named.asked), len(given.asked)) == (1, 1)
    monkeypatch.setenv("LRP_MIRROR", "")
    assert chosen_mirror(None) is None
    monkeypatch.setenv("LRP_MIRROR", f"ftp://anna:{SECRET}@x/")
    with pytest.raises(UsageError, match=r"'ftp://x/' cannot be a mirror"):
        lrpcli.load_model("caffenet")


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://localhost{}/"])
def test_a_folder_is_a_mirror_also_offline(serve, cache, tmp_path, monkeypatch, form) -> None:
    folder = folder_with(tmp_path / "a folder ü%41")
    official = serve(sending(CONTENT))
    monkeypatch.setenv("LRP_OFFLINE", "1")
    text = folder.as_uri().removeprefix("file://") if form.startswith("file") else str(folder)
    assert file_of(official).fetch(mirror=form.format(text)).read_bytes() == CONTENT
    assert official.asked == [] and (folder / "net.caffemodel").read_bytes() == CONTENT


def test_a_relative_folder_is_taken_from_the_current_one(cache, tmp_path, monkeypatch) -> None:
    folder_with(tmp_path / "nets")
    monkeypatch.chdir(tmp_path)
    file = CachedFile("some-net", HASH, ("http://127.0.0.1:9/net.caffemodel",))
    assert file.fetch(mirror="nets").read_bytes() == CONTENT


def test_offline_no_server_is_asked_not_even_a_mirror(serve, cache, monkeypatch, tmp_path) -> None:
    mirror, official = serve(sending(CONTENT)), serve(sending(CONTENT))
    monkeypatch.setenv("LRP_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"LRP_OFFLINE forbids to fetch them\. Unset it, name a folder"):
        file_of(official).fetch(mirror=base(mirror))
    with pytest.raises(
        WeightsError, match=r"could not be fetched from .*/nowhere: the file there cannot be read \(No such"
    ):
        file_of(official).fetch(mirror=str(tmp_path / "nowhere"))
    assert mirror.asked == official.asked == []


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "link to nowhere", "wrong size", "wrong hash"])
def test_what_lies_on_a_folder_in_place_of_the_file(serve, cache, tmp_path, capsys, kind) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    place = folder / "net.caffemodel"
    {
        "missing": lambda: None,
        "folder": place.mkdir,
        "pipe": lambda: os.mkfifo(place),
        "device": lambda: place.symlink_to("/dev/zero"),
        "link to nowhere": lambda: place.symlink_to("nowhere"),
        "wrong size": lambda: place.write_bytes(CONTENT + b"x"),
        "wrong hash": lambda: place.write_bytes(OTHER),
    }[kind]()
    assert file_of(serve(sending(CONTENT))).fetch(mirror=str(folder)).read_bytes() == CONTENT
    assert f"could not be fetched from {folder}: " in capsys.readouterr().err
    assert names(cache) == ["net.caffemodel"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "A mirror is an address such as https://mirror.example/nets, or a folder; it is empty."),
        ("ftp://x.example/n", "'ftp://x.example/n' cannot be a mirror: it must begin with https://, http:// or file"),
        (f"s3://anna:{SECRET}@x/n", "'s3://x/n' cannot be a mirror: it must begin with https://"),
        (f"anna:{SECRET}@x.example/n", "'anna://x.example/n' cannot be a mirror: it must begin with https://"),
        ("https:x.example", "'https:x.example' cannot be a mirror: it names no host."),
        ("https://", "'https://' cannot be a mirror: it names no host."),
        ("http://x.example/n#part", "'http://x.example/n' cannot be a mirror: what stands behind # is never sent"),
        ("http://x.example:port/n", "'http://x.example:port/n' cannot be a mirror: its host and port cannot be read."),
        ("http://x.example:99999/n", "cannot be a mirror: its host and port cannot be read."),
        (f"http://anna:{SECRET}/x@[x/n", "'http://[x/n' cannot be a mirror: its host and port cannot be read."),
        (f"https://anna:{SECRET}?x@x.example/n", "'https://x.example/n' cannot be a mirror: its host and port"),
        ("file://server/nets", "'file://server/nets' cannot be a mirror: the address of a folder has no host"),
        ("file:", "'file:' cannot be a mirror"),
    ],
)
def test_what_cannot_be_a_mirror_is_a_sentence_without_the_password(text, sentence) -> None:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        check_mirror(text)
    assert sentence in str(caught.value) and SECRET not in str(caught.value)


def test_addresses_are_shown_without_what_may_be_secret() -> None:
    for address, without in {
        f"https://anna:{SECRET}@x.example:8443/a/@b?t={SECRET}#c": "https://x.example:8443/a/@b",
        f"http://{SECRET}@x.example": "http://x.example",
        "https://x.example/a": "https://x.example/a",
        "/srv/nets?": "/srv/nets?",
    }.items():
        assert shown(address) == without
    assert host_of(address_below("/srv/nets", "net.onnx")) == "/srv/nets"


def test_a_proxy_is_asked_where_the_environment_names_one(serve, cache, monkeypatch) -> None:
    proxy = serve(sending(CONTENT))
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", base(proxy))
    CachedFile("some-net", HASH, ("http://weights.example/net.caffemodel",)).fetch()
    assert proxy.asked[0][0] == b"GET http://weights.example/net.caffemodel HTTP/1.1"


# Passwords


def test_a_password_goes_to_its_own_server_alone_and_nowhere_else(serve, cache, capsys) -> None:
    elsewhere = serve(answering("404 Not Found"))
    first, second = "/inner?x=1", elsewhere.url
    mirror = serve(
        lambda answer: answer.say(moved(second if b"inner" in answer.server.asked[-1][0] else first) + b"\r\n")
    )
    address = base(mirror).replace("http://", f"http://anna%40home:{SECRET}%21@") + f"?token={SECRET}"
    with pytest.raises(WeightsError) as caught:
        file_of(serve(answering("404 Not Found"))).fetch(mirror=address)
    expected = b"Authorization: Basic " + base64.b64encode(f"anna@home:{SECRET}!".encode())
    assert [expected in lines for lines in mirror.asked] == [True, True]
    assert len(elsewhere.asked) == 1 and not any(b"Authorization" in line for line in elsewhere.asked[0])
    assert SECRET not in str(caught.value) + "".join(capsys.readouterr())


def test_a_redirection_with_a_password_is_not_shown(serve, cache) -> None:
    with pytest.raises(WeightsError, match=r"it leads to 'ftp://x/y', which is not a web address") as caught:
        file_of(serve(lambda answer: answer.say(moved(f"ftp://anna:{SECRET}@x/y?{SECRET}") + b"\r\n"))).fetch()
    assert SECRET not in str(caught.value)


# Hashes of which the first digits are known


@pytest.fixture
def plain_https(monkeypatch) -> None:
    """https without its encryption, as no server here has a certificate."""

    class Plain(urllib.request.HTTPSHandler):
        def __init__(self, watch: object) -> None:
            super().__init__()

        def https_open(self, request: urllib.request.Request) -> object:
            return self.do_open(module.http.client.HTTPConnection, request)

    monkeypatch.setattr(module, "_Https", Plain)


SHORT = f"sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}"


def test_the_first_digits_of_a_hash_do_over_https_and_in_a_folder(serve, cache, tmp_path, plain_https) -> None:
    server = serve(sending(CONTENT))
    url = server.url.replace("http:", "https:")
    file = CachedFile("some-net", SHORT, (url,), file="net-1.pth", folder=tmp_path / "hub")
    assert file.state() == "not fetched"
    assert file.fetch() == tmp_path / "hub" / "net-1.pth"
    assert (file.state(), file.verify()) == ("cached", "ok")
    assert not cache.exists()
    file.path().write_bytes(OTHER)
    assert file.verify() == "wrong hash"
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "net-1.pth").write_bytes(CONTENT)
    assert file.fetch(mirror=str(tmp_path / "mirror")).read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("digits", [SHORT, HASH], ids=["first digits", "whole"])
def test_plain_http_takes_a_whole_hash_at_first_and_by_redirection(serve, cache, plain_https, digits) -> None:
    plain = serve(sending(CONTENT))
    leading = serve(lambda answer: answer.say(moved(plain.url) + b"\r\n"))
    for url in (plain.url, leading.url.replace("http:", "https:")):
        file = CachedFile("some-net", digits, (url,))
        if digits == HASH:
            file.fetch().unlink()
            continue
        with pytest.raises(WeightsError, match="it is plain http, and only the first digits of the file's hash are"):
            file.fetch()
    assert len(plain.asked) == (2 if digits == HASH else 0)


# Downloads that are killed, at once, and without room

FETCH = """
import resource, sys
from lrpcli.errors import WeightsError
from lrpcli.models.zoo.weights import CachedFile
known, limit, *urls = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    print(CachedFile("some-net", known, tuple(urls), 350_000).fetch(), flush=True)
except WeightsError as error:
    sys.exit(str(error))
"""


def fetching(cache: Path, *servers: Server, limit: int = resource.RLIM_INFINITY) -> "subprocess.Popen[bytes]":
    env = environment(LRP_CACHE_DIR=str(cache), no_proxy="127.0.0.1")
    line = [sys.executable, "-c", FETCH, HASH, str(limit), *(server.url for server in servers)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_at_the_second_source_it_leaves_nothing_that_counts(serve, cache, number) -> None:
    stopping = serve(silent_after(SIZED % len(CONTENT) + CONTENT[:100_000]))
    running = fetching(cache, serve(sending(OTHER)), stopping)
    wait_for(lambda: stopping.asked and any(part.stat().st_size for part in cache.glob(".*.part")))
    running.send_signal(number)
    assert running.wait(300) != 0
    running.communicate()
    assert [name for name in names(cache) if not name.endswith(".part")] == []
    assert file_of(serve(sending(CONTENT))).fetch().read_bytes() == CONTENT
    assert names(cache) == ["net.caffemodel"]


def test_two_processes_and_two_sources_at_once(serve, cache) -> None:
    both = threading.Barrier(2)

    def slowly(answer: Handler) -> None:
        answer.say(SIZED % len(CONTENT) + CONTENT[:1000])
        both.wait(300)
        answer.say(CONTENT[1000:])

    running = [fetching(cache, serve(sending(OTHER)), serve(slowly)) for _ in range(2)]
    for one in running:
        output, errors = one.communicate(timeout=300)
        assert one.returncode == 0, errors
        assert Path(output.decode().strip()).read_bytes() == CONTENT
    assert names(cache) == ["net.caffemodel"]


def test_without_room_no_other_source_is_tried_and_nothing_stays(serve, cache) -> None:
    first, second = serve(sending(CONTENT)), serve(sending(CONTENT))
    running = fetching(cache, first, second, limit=100_000)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 1
    assert b"cannot be stored in" in errors and b"File too large" in errors and errors.count(b"\n") == 1, errors
    assert names(cache) == [] and second.asked == []
