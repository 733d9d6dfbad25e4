"""The public surface: what the package exports, that importing it is cheap, and that errors say their exit code."""

import pickle
import subprocess
import sys

import pytest

import lrpcli
from lrpcli import errors


def test_every_exported_name_exists_and_nothing_else_is_public():
    for name in lrpcli.__all__:
        assert getattr(lrpcli, name) is not None
    assert dir(lrpcli) == sorted(lrpcli.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'explainer'"):
        _ = lrpcli.explainer


def test_importing_the_package_imports_no_torch():
    code = "import sys, lrpcli; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn = {
        word for line in errors.__doc__.splitlines() for word in line.replace("+--", " ").replace("|", " ").split()[:1]
    }
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes <= drawn


def test_an_image_error_survives_the_way_between_processes():
    again = pickle.loads(pickle.dumps(errors.ImageError("io", "It is gone.")))
    assert (again.kind, str(again)) == ("io", "It is gone.")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.ConfigError, 2),
        (errors.UnsupportedLayer, 2),
        (errors.WeightsError, 3),
        (errors.OutputError, 3),
        (errors.DeviceError, 3),
        (errors.ImageError, 1),
    ],
)
def test_exit_codes(kind, code):
    assert kind.exit_code == code and issubclass(kind, errors.LrpError)
