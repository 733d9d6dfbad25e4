"""An S3 server for tests, moto's, in a process of its own: python -m tests.remote.server prints its port."""

import os
import subprocess
import sys
from contextlib import contextmanager

from tests.resilience.runs import environment

BUCKET = "bucket"
LOGIN = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def same_environment(**changes):
    """The environment of a process that finds the packages that this one does."""
    return environment(path=[part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part], **changes)


@contextmanager
def s3_server():
    """While entered, a server with an empty bucket; gives the variables by which commands find it."""
    line = [sys.executable, "-W", "ignore", "-m", "tests.remote.server"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(line, env=same_environment(), **pipes) as process:
        port = process.stdout.readline().strip()
        assert port.isdecimal(), "the server did not start"
        try:
            yield {**LOGIN, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
        finally:
            process.stdin.close()
            process.kill()


def main():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys).create_bucket(Bucket=BUCKET)
    print(port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
