"""What tests of URLs need; where fsspec or an S3 server is missing, they are left out."""

import itertools
import os
from importlib.util import find_spec

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3():
    """The variables of a server with a bucket, which are set for this process too."""
    for package in ("moto", "s3fs", "flask"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install --group s3")
    from tests.remote.server import s3_server

    with s3_server() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(params=["memory", "s3"])
def place(request):
    """A URL below which nothing lies yet."""
    pytest.importorskip("fsspec", reason="needs fsspec: pip install 'lrpcli[remote]'")
    name = f"{os.getpid()}-{next(_numbers)}"
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"s3://bucket/{name}"
    return f"memory://{name}"


@pytest.fixture
def memory():
    """The same in the memory of this process."""
    pytest.importorskip("fsspec", reason="needs fsspec: pip install 'lrpcli[remote]'")
    return f"memory://{os.getpid()}-{next(_numbers)}"
