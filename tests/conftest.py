"""What all tests need of the process that they run in."""

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many of these as there are cores: one thread each, before torch counts the cores, in what they start too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every command that the tests start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
