"""Object stores for tests: S3's API on this machine, and fsspec's own store in memory."""

import http.client
import json
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_lago.storage.folders import StoreFolder
from support.scripted import Reply, ScriptedServer


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


class Bucket:
    """
    ``with Bucket(url) as bucket``: a bucket of its own, behind a front that may refuse requests.

    :param url: Of a server that speaks S3's API.
    """

    def __init__(self, url):
        self._url = url
        self.name = f"bucket-{uuid4().hex[:12]}"
        self.conn_id = f"store_{uuid4().hex[:12]}"  # Airflow keeps the file system of a connection
        #: Takes a request, and returns status and code of a refusal, or None.
        self.refuse = lambda request: None
        self._front = ScriptedServer(self._answer)

    def __enter__(self):
        self._front.__enter__()
        assert self._ask("PUT", f"/{self.name}")[0] == 200
        return self

    def __exit__(self, *exc):
        self._front.__exit__(*exc)

    @property
    def environment(self):
        """The connection as Airflow reads it from the environment."""
        once = {"retries": {"max_attempts": 0}}  # the store's client would try again for minutes
        extra = {"endpoint_url": self._front.url, "region_name": "us-east-1", "config_kwargs": once}
        connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
        return f"AIRFLOW_CONN_{self.conn_id.upper()}", json.dumps(connection)

    @property
    def requests(self):
        return self._front.requests

    def uri(self, prefix):
        return f"s3://{self.conn_id}@{self.name}/{prefix}"

    def put(self, key, content):
        """Write an object."""
        self._client().put_object(Bucket=self.name, Key=key, Body=content)

    def objects(self, prefix=""):
        """Return what lies below a prefix, by key."""
        client = self._client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        found = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key[len(prefix) :]: client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in found}

    def lines(self, key):
        """Return the lines of an object as JSON; each of them is whole."""
        content = self.objects(key)[""]
        assert content[-1:] in (b"", b"\n")
        return [json.loads(line) for line in content.splitlines()]

    def _client(self):
        import boto3

        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self._url, **keys)

    def _answer(self, request):
        refusal = self.refuse(request)
        if refusal is None:
            passed = {name: value for name, value in request.headers.items() if name != "expect"}
            status, headers, body = self._ask(request.method, request.path, request.body, passed)
            kept = {
                name: value for name, value in headers.items() if name.lower() not in ("connection", "date", "server")
            }
            return Reply(status, body, kept)
        status, code = refusal
        body = f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
        return Reply(status, b"" if request.method == "HEAD" else body, {"Content-Type": "application/xml"})

    def _ask(self, method, path, body=b"", headers=None):
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()
