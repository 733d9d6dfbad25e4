"""Objects that cannot be read or written, hostile keys, and URLs that say too much."""

import http.server
import json
import re
import threading
from contextlib import contextmanager

import pytest

from lrpcli import remote
from lrpcli.errors import LrpError, ModelError, UsageError
from lrpcli.paths import is_url, local_path, shown_url
from lrpcli.remote import Remote, is_usable, object_at
from tests.photos import photo
from tests.remote.places import SECRET, contents, done, lines, put, table
from tests.resilience.runs import explain, lrp, rows, tree

pytest.importorskip("fsspec")
KEYS = (
    "a.png",
    "A.png",
    "100%/what?.png",
    "sp ace/ü ñ.png",
    "quo'te\".png",
    "b*[x].png",
    "a.png/inner.png",
    "#+&;.png",
)
DENIED = re.compile("Access Denied|Forbidden")
UNUSABLE = ("a//b.png", "../up.png", "x/../y.png", "./dot.png", "/abs.png", "s3://x/y.png", "a.png?versionId=1")


@pytest.fixture
def picture(tmp_path):
    return photo(tmp_path / "picture.png", 3).read_bytes()


@pytest.fixture
def hostile():
    """A place whose objects called gone*, denied* and odd* fail; see Hostile."""
    from tests.remote.places import Hostile

    Hostile.store.clear()
    Hostile.full = False
    yield "hostile://me:pass-word@host/in"
    Hostile.full = False


@pytest.mark.parametrize("place", ["memory", "s3"], indirect=True)
def test_every_key_that_a_file_can_have_is_mirrored(place, picture, tmp_path):
    keys = KEYS if place.startswith("s3") else tuple(key for key in KEYS if not key.startswith("a.png/"))
    put(place, dict.fromkeys(keys, picture))
    result = explain(place, tmp_path / "out", "--json", "--save", "map")
    assert result.returncode == 0, result.stderr
    assert sorted(tree(tmp_path / "out")) == sorted(f"{key}.npy" for key in keys)
    assert [row["input"] for row in rows(result)[:-1]] == [f"{place}/{key}" for key in sorted(keys, key=str.encode)]
    assert explain(place, f"{place}-out", "--save", "map").returncode == 0
    assert contents(f"{place}-out") == tree(tmp_path / "out")


def test_keys_that_no_file_can_have_are_counted_and_passed_over(s3, picture, tmp_path):
    import boto3

    bucket = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], region_name="us-east-1")
    start = tmp_path.name
    for key in (*UNUSABLE, "good.png", "folder/", "text.txt", ".hidden/a.png"):
        bucket.put_object(Bucket="bucket", Key=f"{start}/{key}", Body=b"" if key.endswith("/") else picture)
    result = explain(f"s3://bucket/{start}", tmp_path / "out", "--save", "map")
    assert result.returncode == 0 and sorted(tree(tmp_path / "out")) == ["good.png.npy"], result.stderr
    said = result.stderr.decode()
    assert f"{len(UNUSABLE)} objects that no file can be called like" in said
    assert "1 file with another suffix, 1 hidden entry" in said
    assert not (tmp_path / "up.png.npy").exists()


def test_what_cannot_be_read_fails_by_itself(hostile, picture, tmp_path):
    put(hostile, dict.fromkeys(("a.png", "denied.png", "gone.png", "odd.png", "z.png"), picture))
    result = explain(hostile, tmp_path / "out", "--json")
    assert result.returncode == 1
    errors = {row["input"]: row["error"] for row in rows(result)[:-1] if row["status"] == "failed"}
    url = "hostile://host/in/"
    assert errors == {
        f"{url}denied.png": {"kind": "io", "message": f"The image '{url}denied.png' cannot be read: Access Denied."},
        f"{url}gone.png": {"kind": "io", "message": f"The image '{url}gone.png' does not exist."},
        f"{url}odd.png": {
            "kind": "io", "message": f"The image '{url}odd.png' cannot be read: no route to me:***@host.",
        },
    }  # fmt: skip
    assert SECRET.encode() not in result.stdout + result.stderr
    assert not any(SECRET.encode() in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert SECRET not in lrp("table", tmp_path / "out").output + lrp("status", tmp_path / "out", "--json").output


def test_an_object_that_is_longer_than_any_image_is_not_read(hostile, picture, tmp_path):
    put(hostile, {"a.png": picture, "b.png": picture + bytes(1 << 25)})
    result = explain(hostile, tmp_path / "out", "--json", "--max-pixels", "10000")
    assert [row.get("error", {}).get("kind") for row in rows(result)[:-1]] == [None, "too_large"]


def test_places_that_rename_hold_whole_files(hostile, picture, tmp_path):
    photo(tmp_path / "in" / "a.png", 1)
    assert explain(tmp_path / "in", hostile, "-q").returncode == 0
    assert explain(tmp_path / "in", tmp_path / "out").returncode == 0
    assert contents(hostile) == tree(tmp_path / "out")
    assert not [key for key in contents(hostile, journals=True) if key.endswith(".tmp")]
    text = b"".join(contents(hostile, journals=True).values())
    assert SECRET.encode() not in text and done(hostile) == ["a.png"]
    assert table(hostile)[1][19] == "hostile://host/in/a.png.png" or SECRET not in str(table(hostile))


def test_an_output_that_cannot_be_written_ends_the_run_as_a_full_disk_does(hostile, tmp_path):
    from tests.remote.places import Hostile

    photo(tmp_path / "in" / "a.png", 1)
    Hostile.full = True
    result = explain(tmp_path / "in", hostile)
    assert result.returncode == 3
    said = result.stderr.decode().splitlines()[-1]
    assert said.startswith("Error: The output 'hostile://host/in") and "No space left on device" in said
    Hostile.full = False
    assert explain(tmp_path / "in", hostile).returncode == 0


@contextmanager
def denying_server():
    """An S3 server that lets nobody do anything."""

    class Denying(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denying) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def forgetful(s3):
    """A process in which file systems are made anew with the variables of the moment."""
    import s3fs

    yield s3fs.S3FileSystem.clear_instance_cache
    s3fs.S3FileSystem.clear_instance_cache()


def test_denied_access_and_absent_buckets_are_one_sentence(forgetful, tmp_path, monkeypatch):
    source = photo(tmp_path / "in" / "a.png").parent
    result = explain(source, "s3://absent/out")
    assert result.returncode == 3 and b"The specified bucket does not exist" in result.stderr
    result = explain("s3://absent/in", tmp_path / "out")
    assert result.returncode == 2 and result.stderr.count(b"\n") == 1
    assert b"The input 's3://absent/in' does not exist: The specified bucket does not exist." in result.stderr
    result = explain("s3://bucket/nothing", tmp_path / "out")
    assert result.returncode == 2 and b"There are no files in 's3://bucket/nothing'." in result.stderr
    with denying_server() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        forgetful()
        for arguments, code in (((source, "s3://bucket/out"), 3), (("s3://bucket/in", tmp_path / "out"), 2)):
            result = explain(*arguments)
            said = result.stderr.decode()
            assert result.returncode == code and DENIED.search(said) and said.count("\n") == 1, said
        for words in (("status", "s3://bucket/out"), ("table", "s3://bucket/out")):
            result = lrp(*words)
            assert result.exit_code == 3 and DENIED.search(result.output) and result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("s4://bucket/in", UsageError, "begins with a protocol that is not known"),
        ("simplecache::memory://in", UsageError, "is a chain of URLs"),
        ("s3://", UsageError, "names no folder or object"),
        ("s3://bucket/a/../b", UsageError, "names no folder or object"),
        ("s3://bucket//b", UsageError, "names no folder or object"),
        ("ftp://me:secret/with@host/x", UsageError, "ftp://host/x"),
    ],
)
def test_urls_that_cannot_be_used_are_refused_by_one_sentence(url, kind, message):
    with pytest.raises(kind) as raised:
        Remote(url)
    assert message in str(raised.value) and "secret" not in str(raised.value)


def test_missing_packages_are_named(monkeypatch):
    import sys

    import fsspec.core

    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ModelError, match=r"'s3://bucket/x' needs the package s3fs.*pip install 'lrpcli\[remote\]'"):
        Remote("s3://bucket/x")
    with pytest.raises(UsageError, match="'gs://bucket/x' needs a package that is missing"):
        Remote("gs://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ModelError, match=r"needs the package fsspec.*lrpcli\[remote\]"):
        Remote("memory://x")


def test_urls_and_paths_are_told_apart():
    assert [is_url(text) for text in ("s3://b/k", "S3A://b", "a//b", "x:/y", "://x", "C://x", "s3:/b", "hub:a/b")] == [
        True, True, False, False, False, False, False, False,
    ]  # fmt: skip
    assert local_path("a b") == "a b" and local_path("FILE:///a b") == "/a b" and local_path("s3://a") is None
    for text in ("file://host/a", "file:///a%20b", "file:///a?b"):
        with pytest.raises(UsageError, match="not clearly a path of this machine"):
            local_path(text)
    assert shown_url("abfs://container@account.dfs/x") == "abfs://container@account.dfs/x"
    assert shown_url("sftp://u:p@h:22/a@b") == "sftp://h:22/a@b"
    assert [is_usable(key) for key in KEYS] == [True] * len(KEYS)
    assert not any(map(is_usable, UNUSABLE))


def test_objects_are_found_where_their_url_was_opened(memory, monkeypatch):
    monkeypatch.setattr(remote, "_ROOTS", {})
    put(memory, {"a/b.png": b"b"})
    found, key = object_at(f"{memory}/a/b.png")
    assert (found.url, key) == (f"{memory}/a", "b.png") and found.read(key) == b"b"
    opened = remote.open_input(f"{memory}/")
    assert object_at(f"{memory}/c/d.png") == (opened, "c/d.png")
    assert object_at("memory://x.png")[1] == "x.png"


def test_a_listing_is_kept_until_it_is_forgotten(memory):
    place = Remote(memory)
    assert place.entry("x/a") is None and place.listing("x") == {}
    put(memory, {"x/a": b"abc"})
    assert place.entry("x/a") is None
    place.forget()
    assert place.entry("x/a").size == 3 and place.entry("x") is None and place.list("") == {"x": place.list("")["x"]}


def test_only_the_first_of_two_is_created(place):
    found = Remote(place)
    assert found.create("a/b", b"one") is True and found.create("a/b", b"two") is False
    assert contents(place) == {"a/b": b"one"}


def test_the_input_may_not_be_the_output_nor_hold_results(memory, picture, tmp_path):
    put(memory, {"a.png": picture})
    result = explain(memory, f"{memory}/")
    assert result.returncode == 2 and b"input and output at once" in result.stderr
    assert explain(memory, f"{memory}/out").returncode == 0
    result = explain(f"{memory}/out", tmp_path / "out")
    assert result.returncode == 2 and b"holds results of an earlier run" in result.stderr
    result = explain(memory, tmp_path / "out", "--json")
    assert len(rows(result)) == 2 and b"1 folder of results" in result.stderr


def test_records_hold_an_etag_and_no_login(hostile, s3, picture, tmp_path):
    place = f"s3://bucket/{tmp_path.name}"
    put(place, {"a.png": picture})
    explain(place, tmp_path / "out")
    line = next(
        line
        for line in map(json.loads, (tmp_path / "out/.lrp/journal-1-of-1.jsonl").read_bytes().splitlines())
        if line["type"] == "done"
    )
    assert line["path"] == f"{place}/a.png" and line["size"] == len(picture) and len(line["version"]) > 30
    assert lines(hostile) == []


def test_errors_of_the_package_pass(memory):
    with pytest.raises(LrpError):
        Remote("memory://a::b")
