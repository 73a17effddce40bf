"""Object stores for tests: S3's API on this machine, and fsspec's own store in memory."""

import json
import urllib.request
from contextlib import contextmanager
from uuid import uuid4

from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_lago.storage.folders import StoreFolder

CONN_ID = "object_store"


class Memory(MemoryFileSystem):
    """fsspec's store in memory, but one of its own for each test, which may be made to fail or to wait."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.store = {}
        self.pseudo_dirs = [""]
        self.before = lambda what, path: None

    def pipe_file(self, path, value, **arguments):
        self.before("write", path)
        return super().pipe_file(path, value, **arguments)

    def cat_file(self, path, **arguments):
        self.before("read", path)
        return super().cat_file(path, **arguments)

    def rm_file(self, path):
        self.before("remove", path)
        # fsspec's own walks through the class's store
        if self.store.pop(self._strip_protocol(path), None) is None:
            raise FileNotFoundError(path)


def memory_folder():
    fs = Memory()
    return StoreFolder(fs, "/bucket/reports", "memory://bucket/reports"), fs


class S3:
    """
    A bucket of its own behind S3's API.

    :param url: Of the server.
    """

    def __init__(self, url):
        self.url = url
        self.bucket = f"bucket-{uuid4().hex[:12]}"
        self._ask("PUT", "")

    def connection(self, url=None, **changes):
        """Return the text of an Airflow connection to it."""
        extra = {"endpoint_url": url or self.url, "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": "key", "password": "secret", "extra": extra, **changes})

    def uri(self, prefix):
        return f"s3://{CONN_ID}@{self.bucket}/{prefix}"

    def objects(self):
        """Return what the bucket holds, by key."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def _ask(self, method, path):
        request = urllib.request.Request(f"{self.url}/{self.bucket}{path}", method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.read()


@contextmanager
def s3_server():
    """Start a server that speaks S3's API; give its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
