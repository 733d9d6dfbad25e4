"""`python -m lrpcli` is `lrp`."""

from lrpcli.cli import main

if __name__ == "__main__":
    main(prog_name="lrp")
