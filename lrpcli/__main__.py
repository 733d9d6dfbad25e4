"""`python -m lrpcli` is `lrp`."""

from lrpcli.cli import program

if __name__ == "__main__":
    program()
