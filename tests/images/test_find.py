import io
import os
import socket
from pathlib import Path

import pytest

from lrpcli.errors import ImageError, UsageError
from lrpcli.images.decode import decode
from lrpcli.images.find import Discovery, Source
from lrpcli.images.lists import sources_from_list
from lrpcli.images.sources import named_below, require_unique_names


def grow(root: Path, *names: str | bytes) -> str:
    """Empty files under `root`, folders made on the way; the root as text."""
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def names(inputs: str | list[str], **options: object) -> list[str]:
    return [source.name for source in Discovery([inputs] if isinstance(inputs, str) else inputs, **options)]


def test_a_folder_is_walked_in_byte_order_of_whole_paths(tmp_path):
    tree = [
        "a.jpg",
        "a-b/x.jpg",
        "a/z.jpg",
        "a/b/y.jpg",
        "a/b.jpg",
        "a0.jpg",
        "B.jpg",
        "é.jpg",
        "ä/x.jpg",
        "z.jpg",
        " .jpg",
    ]
    root = grow(tmp_path / "in", *tree)
    found = list(Discovery([root]))
    assert [source.name for source in found] == sorted(tree, key=os.fsencode)
    assert [source.path for source in found] == [f"{root}/{source.name}" for source in found]
    assert names(root + "/") == names(root)


def test_random_trees_are_in_byte_order(tmp_path):
    parts = [b"a", b"a.b", b"a-", b"a~", b"\xff", b"\n", b"A", b"-x"]
    tree = {b"/".join((first, second, third + b".png")) for first in parts for second in parts for third in parts[:3]}
    tree |= {first + b".jpg" for first in parts}
    root = grow(tmp_path, *tree)
    assert [os.fsencode(name) for name in names(root)] == sorted(tree)


def test_names_of_every_kind_survive(tmp_path):
    tree = [b"new\nline.jpg", b"-rf.jpg", b"caf\xe9.jpg", b"x" * 251 + b".jpg", b"*?[a].jpg", b"\xe2\x80\xae.jpg"]
    found = list(Discovery([grow(tmp_path, *tree)]))
    assert [os.fsencode(source.name) for source in found] == sorted(tree)
    assert all(Path(source.path).is_file() for source in found)


def test_hidden_entries_and_other_suffixes_are_counted(tmp_path):
    tree = ["a.JPG", "b.Png", ".c.jpg", ".git/d.jpg", "notes.txt", "e", "f/.g.jpg", "f/h.jpg.npy"]
    discovery = Discovery([grow(tmp_path, *tree)])
    assert [source.name for source in discovery] == ["a.JPG", "b.Png"]
    assert (discovery.hidden, discovery.other_suffix, discovery.special, discovery.linked) == (3, 3, 0, 0)
    assert len(list(discovery)) == 2
    assert discovery.hidden == 3  # counted anew, not on top
    everything = Discovery([str(tmp_path)], all_files=True)
    assert sorted(source.name for source in everything) == sorted(tree)
    assert (everything.hidden, everything.other_suffix) == (0, 0)
    assert names(str(tmp_path), suffixes={".txt"}) == ["notes.txt"]


def test_a_file_is_itself_whatever_it_is_called(tmp_path):
    grow(tmp_path, "deep/.hidden", "b.txt")
    assert list(Discovery([f"{tmp_path}/deep/.hidden", f"{tmp_path}/b.txt", "-"])) == [
        Source(f"{tmp_path}/deep/.hidden", ".hidden"),
        Source(f"{tmp_path}/b.txt", "b.txt"),
        Source("-", "stdin"),
    ]


def test_the_current_folder(tmp_path, monkeypatch):
    grow(tmp_path, "-.jpg", "cats/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert list(Discovery(["."])) == [Source("./-.jpg", "-.jpg"), Source("./cats/a.jpg", "cats/a.jpg")]
    monkeypatch.chdir(tmp_path / "cats")
    assert list(Discovery(["..", "."])) == [
        Source("../-.jpg", "-.jpg"),
        Source("../cats/a.jpg", "cats/a.jpg"),
        Source("./a.jpg", "a.jpg"),
    ]


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    for path in (f"{tmp_path}/none.jpg", "", f"{tmp_path}/link"):
        with pytest.raises(UsageError) as caught:
            Discovery([str(tmp_path), path])
        assert str(caught.value) == f"The input {path!r} does not exist."
    grow(tmp_path, "a.jpg")
    with pytest.raises(UsageError, match=r"The input '.*a\.jpg/' cannot be used: .*Not a directory"):
        Discovery([f"{tmp_path}/a.jpg/"])


def test_links_to_files_count_and_links_to_folders_only_when_followed(tmp_path):
    root = grow(tmp_path / "in", "a.jpg")
    grow(tmp_path / "other", "b.jpg")
    (tmp_path / "in/link.jpg").symlink_to("a.jpg")
    (tmp_path / "in/dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "in/self.jpg").symlink_to("self.jpg")
    (tmp_path / "in/folder").symlink_to(tmp_path / "other")
    discovery = Discovery([root])
    assert [source.name for source in discovery] == ["a.jpg", "dangling.jpg", "link.jpg", "self.jpg"]
    assert discovery.linked == 1
    assert names(root, follow=True) == ["a.jpg", "dangling.jpg", "folder/b.jpg", "link.jpg", "self.jpg"]
    (tmp_path / "root").symlink_to("in")
    assert names(str(tmp_path / "root")) == [source.name for source in discovery]
    for broken in ("dangling.jpg", "self.jpg"):
        with pytest.raises(ImageError) as caught:
            decode(f"{root}/{broken}")
        assert caught.value.kind == "io"


def test_loops_of_links_end(tmp_path):
    root = grow(tmp_path, "a/x.jpg", "b/y.jpg")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "a/here").symlink_to(".")
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    assert names(root, follow=True) == ["a/b/y.jpg", "a/x.jpg", "b/a/x.jpg", "b/y.jpg"]


def test_pipes_sockets_and_devices_in_folders_are_skipped(tmp_path, monkeypatch):
    root = grow(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "null.jpg").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        for all_files in (False, True):
            discovery = Discovery([root], all_files=all_files)
            assert [source.name for source in discovery] == ["a.jpg"]
            assert discovery.special == 3
    named = list(Discovery([f"{root}/pipe.jpg"]))
    assert named == [Source(f"{root}/pipe.jpg", "pipe.jpg")]
    with pytest.raises(ImageError, match=r"pipe\.jpg' is a named pipe and is not opened"):
        decode(named[0].path)


def test_the_output_folder_is_not_walked(tmp_path, monkeypatch):
    root = grow(tmp_path, "a.jpg", "out/a.jpg.png", "out/b/c.jpg", "outer/d.jpg", "sub/out/e.jpg")
    for output in (f"{root}/out", f"{root}/out/", f"{root}/sub/../out", "out", "./out"):
        monkeypatch.chdir(tmp_path)
        assert names(root, output=output) == ["a.jpg", "outer/d.jpg", "sub/out/e.jpg"]
    (tmp_path / "sub/link").symlink_to("../out")
    assert names(root, output="out", follow=True) == ["a.jpg", "outer/d.jpg", "sub/out/e.jpg"]
    assert names(".", output="sub/link") == ["a.jpg", "outer/d.jpg", "sub/out/e.jpg"]
    assert "out/b/c.jpg" in names(".", output="missing")


def test_an_output_folder_made_during_the_walk_is_not_walked(tmp_path):
    root = grow(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    walk = iter(Discovery([root], output=f"{root}/c/out"))
    assert next(walk).name == "a/1.jpg"
    grow(tmp_path / "c/out", "1.jpg.png")
    assert [source.name for source in walk] == ["b/2.jpg", "c/3.jpg"]


def test_output_and_input_must_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"The folder '\.' is input and output at once.*Choose another output folder"):
        Discovery(["."], output=str(tmp_path))


def test_a_folder_that_cannot_be_listed_fails_by_name(tmp_path, monkeypatch):
    root = grow(tmp_path, "a/x.jpg", "b/y.jpg")
    genuine = os.scandir

    def scandir(path):
        if path == f"{root}/a":
            raise PermissionError(13, "Permission denied", path)
        return genuine(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert list(Discovery([root])) == [Source(f"{root}/a", "a"), Source(f"{root}/b/y.jpg", "b/y.jpg")]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ImageError, match="/a' is a folder that may not be listed, not a file"):
        decode(f"{root}/a")
    with pytest.raises(UsageError, match="The folder '.*/a' cannot be listed; check its permissions"):
        list(Discovery([f"{root}/a"]))


def test_deep_trees_need_no_recursion(tmp_path):
    folders = [f"{tmp_path}/{'d/' * depth}" for depth in range(1, 1101)]
    for folder in folders:
        Path(folder).mkdir()
    picture = Path(folders[-1], "x.jpg")
    picture.touch()
    assert names(str(tmp_path)) == ["d/" * 1100 + "x.jpg"]
    picture.unlink()
    for folder in reversed(folders):  # what clears tmp_path later recurses
        Path(folder).rmdir()


def test_the_reason_for_finding_nothing(tmp_path):
    root = grow(tmp_path, "notes.txt", "data.csv", ".hidden.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").symlink_to("/")
    discovery = Discovery([root])
    assert list(discovery) == []
    assert discovery.empty_reason() == (
        f"There is no image in {root!r}; skipped: 2 files with other suffixes, 1 hidden entry, 1 link to a folder, "
        "1 pipe, socket or device. --all-files tries every file, --follow enters links to folders."
    )
    empty = grow(tmp_path / "empty")
    (tmp_path / "empty/sub").mkdir(parents=True)
    nothing = Discovery([f"{tmp_path}/empty", empty])
    assert list(nothing) == []
    assert nothing.empty_reason() == f"There are no files in {empty!r}, {empty!r}."


@pytest.mark.parametrize(
    ("content", "null", "expected"),
    [
        (b"a.jpg\nb c.jpg\n", False, [("a.jpg", "a.jpg"), ("b c.jpg", "b c.jpg")]),
        (b"a.jpg\r\n\r\n\n  \nb.jpg", False, [("a.jpg", "a.jpg"), ("b.jpg", "b.jpg")]),
        (b"a\nb.jpg\0\0c.jpg\r\0", True, [("a\nb.jpg", "a\nb.jpg"), ("c.jpg\r", "c.jpg\r")]),
        (b"/data/./x/../a.jpg", False, [("/data/./x/../a.jpg", "data/a.jpg")]),
        (b"../../up//a.jpg", False, [("../../up//a.jpg", "up/a.jpg")]),
        (b"//a.jpg\n./b.jpg\n", False, [("//a.jpg", "a.jpg"), ("./b.jpg", "b.jpg")]),
        (b"-\n-x.jpg", False, [("./-", "-"), ("-x.jpg", "-x.jpg")]),
        (b" lead.jpg", False, [(" lead.jpg", " lead.jpg")]),
        (b"", False, []),
        (b"", True, []),
        (b"\xef\xbb\xbfa.jpg\r\nb.jpg", False, [("a.jpg", "a.jpg"), ("b.jpg", "b.jpg")]),
        (b"\xef\xbb\xbf", False, []),
        (b"\xef\xbb\xbfa.jpg\0 \0", True, [("a.jpg", "a.jpg"), (" ", " ")]),
        (b"a.jpg \nb\xef\xbb\xbf.jpg\n", False, [("a.jpg ", "a.jpg "), ("b\ufeff.jpg", "b\ufeff.jpg")]),
        (b"/dev/stdin\n/dev/fd/0\n", False, [("-", "dev/stdin"), ("-", "dev/fd/0")]),
        (b"/proc/self/fd/7\n/dev/fd/7\n", False, [("/dev/fd/7", "proc/self/fd/7"), ("/dev/fd/7", "dev/fd/7")]),
    ],
)
def test_lists(content, null, expected):
    assert list(sources_from_list(io.BytesIO(content), null=null)) == [Source(*pair) for pair in expected]


def test_bytes_of_a_list_that_are_no_text_are_kept():
    (source,) = sources_from_list(io.BytesIO(b"caf\xe9.jpg\n"))
    assert os.fsencode(source.path) == os.fsencode(source.name) == b"caf\xe9.jpg"


def test_long_lists_are_read_as_they_come():
    wanted = [f"{index:06}.jpg" for index in range(20_000)]
    stream = io.BytesIO("\0".join(wanted).encode())
    assert [source.name for source in sources_from_list(stream, null=True)] == wanted
    reading, writing = os.pipe()
    os.write(writing, b"a.jpg\nb.j")
    with os.fdopen(reading, "rb") as pipe:
        sources = sources_from_list(pipe)
        assert next(sources).name == "a.jpg"  # the second line is not complete yet
        os.write(writing, b"pg\n")
        os.close(writing)
        assert [source.name for source in sources] == ["b.jpg"]


@pytest.mark.parametrize("content", [b"/\n", b"..\n", b"a/..\n", b"./\n"])
def test_a_line_without_a_file_name_is_refused(content):
    with pytest.raises(UsageError, match="The list of files names '.*', which is a folder"):
        list(sources_from_list(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("content", "null", "message"),
    [
        ("a.jpg\n".encode("utf-16"), False, "is UTF-16 text"),
        ("a.jpg\n".encode("utf-32"), False, "is UTF-32 text"),
        (b"\xfe\xff\0a\0\n", True, "is UTF-16 text"),
        ("a.jpg\nb.jpg\n".encode("utf-16-le"), False, "Line 1 of the list of files holds a NUL byte. Give -0"),
        (b"a.jpg\nb.jpg\0c.jpg\0", False, "Line 2 of the list of files holds a NUL byte"),
        (b"x" * (1 << 17), False, "a line of more than 65536 bytes"),
        (b"a.jpg\n" * (1 << 15), True, "a line of more than 65536 bytes"),
    ],
)
def test_what_is_no_list_is_refused(content, null, message):
    with pytest.raises(UsageError, match=message):
        list(sources_from_list(io.BytesIO(content), null=null))


def test_folders_of_results_are_passed_over_and_counted(tmp_path):
    tree = [
        "a.jpg",
        "old/.lrp/run.json",
        "old/a.jpg.png",
        "measured/.lrp/evaluate.json",
        "measured/curves.png",
        "b/.lrp/x",
    ]
    root = grow(tmp_path / "in", *tree, "b/c.jpg")
    discovery = Discovery([root], all_files=True)
    assert [source.name for source in discovery] == ["a.jpg", "b/.lrp/x", "b/c.jpg"]
    assert discovery.results == 2 and discovery.skipped() == "2 folders of results"
    for folder in ("old", "measured"):
        with pytest.raises(UsageError, match=r"holds results of an earlier run \(\.lrp/\), not photos"):
            Discovery([f"{root}/{folder}"])
    (tmp_path / "link").symlink_to(f"{root}/old")
    with pytest.raises(UsageError, match="holds results"):
        Discovery([f"{tmp_path}/link"])


def test_streams_that_the_shell_names_are_inputs_and_none_is_found_in_a_folder(tmp_path):
    reading, writing = os.pipe()
    try:
        paths = [f"/dev/fd/{reading}", f"/proc/self/fd/{reading}", "/dev/stdin", "/dev/fd/0"]
        assert list(Discovery(paths)) == [Source(paths[0], str(reading))] * 2 + [Source("-", "stdin")] * 2
        (tmp_path / "a.jpg").symlink_to(paths[1])
        discovery = Discovery([str(tmp_path)], all_files=True)
        assert list(discovery) == [] and discovery.special == 1
    finally:
        os.close(reading)
        os.close(writing)
    with pytest.raises(UsageError, match=f"The input '/dev/fd/{reading}' does not exist"):
        Discovery([f"/dev/fd/{reading}"])


def test_names_below_a_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = [Source("in/a/x.jpg", "x.jpg"), Source(f"{tmp_path}/in/..b/./y.jpg", "y.jpg"), Source("-", "stdin")]
    assert [source.name for source in named_below(sources, "in")] == ["a/x.jpg", "..b/y.jpg", "stdin"]
    assert [source.path for source in named_below(sources, "in/")] == [source.path for source in sources]
    assert [source.name for source in named_below(sources[:1], "/")] == [f"{tmp_path}/in/a/x.jpg".lstrip("/")]
    for outside in ("other/x.jpg", "in2/x.jpg", "in/../x.jpg", "in"):
        with pytest.raises(UsageError, match=f"The input '{outside}' does not lie below --base 'in'"):
            list(named_below([Source(outside, "x.jpg")], "in"))


def test_twins_are_found_and_both_are_named():
    sources = [Source("x/a.jpg", "a.jpg"), Source("b.jpg", "b.jpg"), Source("y/a.jpg", "a.jpg")]
    with pytest.raises(UsageError) as caught:
        require_unique_names(iter(sources))
    assert str(caught.value) == (
        "The inputs 'x/a.jpg' and 'y/a.jpg' would write the same result, 'a.jpg' under the output folder. "
        "Name a folder that holds both with --base, or explain them into different output folders."
    )
    assert list(require_unique_names(iter(sources[:2]))) == sources[:2]
    with pytest.raises(UsageError, match=r"The input 'b\.jpg' is given twice. Name it once\."):
        require_unique_names([sources[1], sources[0], sources[1]])


def test_composed_and_decomposed_letters_are_different_names():
    sources = [Source("e\u0301.jpg", "e\u0301.jpg"), Source("\u00e9.jpg", "\u00e9.jpg")]
    assert list(require_unique_names(sources)) == sources
