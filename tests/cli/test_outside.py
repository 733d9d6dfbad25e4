"""What comes from outside ends with a sentence and the right code; "this is a bug" is for bugs."""

import errno
import importlib
import os

import pytest
import torch

from lrpcli.cli.outside import known
from lrpcli.errors import LrpError, WeightsError
from lrpcli.records import status
from tests.photos import photo
from tests.resilience.runs import TINY_OPTIONS, environment, lrp, process

main_module = importlib.import_module("lrpcli.cli.main")  # whose function has its name

SYSTEM = [errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EDQUOT, errno.EACCES,
          errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOMEM, errno.EAGAIN, errno.EFBIG, errno.ENOTCONN]  # fmt: skip


@pytest.mark.parametrize("number", SYSTEM, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("filename", [None, "/some/file", b"/some/\xff", 7])
def test_every_error_of_the_system_is_a_sentence(number, filename):
    found = known(OSError(number, os.strerror(number), filename))
    assert isinstance(found, LrpError) and found.exit_code == 3 and str(found).endswith(".")
    if number != errno.ENOMEM:
        assert os.strerror(number) in str(found)
        assert filename in (None, 7) or "/some/" in str(found)


OUTSIDE = [
    (MemoryError(), 3, "There is too little memory"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                  "to allocate 8 bytes. Error code 12 (Cannot allocate memory)"), 3, "There is too little memory"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 3, "There is too little memory"),
    (RuntimeError("can't start new thread"), 3, "No thread can be started"),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 3, "ulimit -u"),
    (OSError(errno.EMFILE, "Too many open files", "/x"), 3, "ulimit -n"),
    (OSError(errno.EFBIG, "File too large", "/x"), 3, "ulimit -f"),
    (OSError("one without a number"), 3, "one without a number"),
    (ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"), 3, "The package 'matplotlib' cannot be"),
    (ImportError("libtorch.so: failed to map segment", name="torch._C"), 3, "The package 'torch' cannot be loaded"),
    (ImportError("libc10.so: failed to map segment from shared object"), 3, "There is too little memory"),
    (OSError("libc10.so: cannot allocate memory"), 3, "There is too little memory"),
    (WeightsError("They are gone."), 3, "They are gone."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "text"), OUTSIDE, ids=lambda value: type(value).__name__)
def test_an_error_from_outside_that_nobody_met_is_told_by_the_command(monkeypatch, error, code, text):
    def fails(output):
        raise error

    monkeypatch.setattr(status, "StatusReader", fails)
    result = lrp("status", "out")
    assert result.exit_code == code and text in result.stderr and "bug" not in result.stderr, result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("odd"), RuntimeError("shape"), KeyError("x"), AttributeError("y"), AssertionError()]
)
def test_a_bug_is_called_one(monkeypatch, error):
    def fails(output):
        raise error

    assert known(error) is None
    monkeypatch.setattr(status, "StatusReader", fails)
    result = lrp("status", "out", "-vv")
    assert result.exit_code == 3 and "This is a bug" in result.stderr and "Traceback" in result.stderr


def test_a_number_of_too_many_digits(tmp_path):
    result = lrp("explain", photo(tmp_path / "a.png"), tmp_path / "out", "--shard", "1/" + "9" * 5000)
    assert result.exit_code == 2 and "too many digits" in result.stderr


BROKEN = {
    "torch": [
        "raise ImportError('libcudart.so.12: cannot open shared object file')",
        "raise OSError('libcudart.so.12: cannot open shared object file')",
        "raise RuntimeError('built for another numpy')",
        "import another_package_that_is_missing",
        "x = 1",
        "def f(:",
    ],
    "numpy": ["raise ImportError('numpy.core.multiarray failed to import')"],
    "PIL": ["raise ImportError('libjpeg')"],
    "tqdm": ["x = 1"],
}


@pytest.mark.parametrize(("package", "body"), [(name, body) for name, bodies in BROKEN.items() for body in bodies])
def test_a_package_that_cannot_be_loaded_is_named(tmp_path, package, body):
    (tmp_path / "broken" / package).mkdir(parents=True)
    (tmp_path / "broken" / package / "__init__.py").write_text(body)
    env = environment(path=[tmp_path / "broken"])
    result = process("explain", *TINY_OPTIONS, photo(tmp_path / "a.png"), tmp_path / "out", env=env)
    assert result.returncode == 3, result.stderr
    assert f"The package '{package}' cannot be loaded: ".encode() in result.stderr
    assert b"bug" not in result.stderr and b"Traceback" not in result.stderr and result.stderr.count(b"\n") == 1


def test_an_interrupted_import_is_an_interrupt(tmp_path):
    """Also of what is imported before the command is known."""
    for package in ("torch", "click"):
        (tmp_path / package / package).mkdir(parents=True)
        (tmp_path / package / package / "__init__.py").write_text("raise KeyboardInterrupt")
        env = environment(path=[tmp_path / package])
        result = process("explain", *TINY_OPTIONS, photo(tmp_path / "a.png"), tmp_path / "out", env=env)
        assert result.returncode == -2 and result.stderr == b"", result.stderr


def test_memory_serves_where_there_is_no_folder_for_temporary_files(monkeypatch, tmp_path):
    """As in a container with a read-only root, where torch's CUDA build asks for one while it is loaded."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(main_module, "TEMPORARY", (str(tmp_path),))
    monkeypatch.setattr(main_module, "IN_MEMORY", str(tmp_path / "memory"))
    monkeypatch.setattr(os, "curdir", "/nonexistent")
    (tmp_path / "memory").mkdir()
    main_module._offer_temporary_folder()
    assert "TMPDIR" not in os.environ
    monkeypatch.setattr(main_module, "TEMPORARY", ("/nonexistent",))
    monkeypatch.setenv("TEMP", "/nonexistent")
    main_module._offer_temporary_folder()
    assert os.environ.pop("TMPDIR") == str(tmp_path / "memory")


def test_what_is_missing_for_temporary_files_is_said():
    error = FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']")
    namespace = {"__name__": "torch", "error": error}
    with pytest.raises(FileNotFoundError) as caught:
        exec(compile("raise error", "torch/__init__.py", "exec"), namespace)
    assert "Name a folder that can be written in TMPDIR." in str(known(caught.value))
