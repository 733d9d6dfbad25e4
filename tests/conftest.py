"""What all tests need of the process that they run in."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every command that the tests start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
