"""The `lrp` command; imports nothing heavy until a command runs."""

import os
import signal

try:
    from lrpcli.cli.main import main
except KeyboardInterrupt:  # as _Root.invoke does later
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise

__all__ = ["main"]
