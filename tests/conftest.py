"""What all tests need of the process that they run in."""

import os
import signal
import sys

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many of these as there are cores: one thread each, before torch counts the cores, in what they start too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every command that the tests start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_functions_traced_before():
    """torch.export of torch 2.6 gives a function up that it traced in eight ways, in whichever tests of a process."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
