"""Buckets of a server that speaks S3, with what an operator would have in the environment."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import boto3
from moto.server import ThreadedMotoServer


@contextlib.contextmanager
def bucket(name: str) -> Iterator[Any]:
    """Create an empty bucket, and give boto3's client for it."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    words = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    before = {word: os.environ.get(word) for word in words}
    os.environ.update(words)
    client = boto3.client("s3", endpoint_url=words["AWS_ENDPOINT_URL"], region_name="us-east-1")
    client.create_bucket(Bucket=name)
    try:
        yield client
    finally:
        client.close()
        server.stop()
        for word, value in before.items():
            os.environ.pop(word, None) if value is None else os.environ.update({word: value})
