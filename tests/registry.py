"""A registry on 127.0.0.1 (engines take that for insecure) with images made from busybox. Basic authentication.

What it speaks is the part of the distribution API that pulls need: https://distribution.github.io/distribution
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.images import busybox_tar

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
USER, PASSWORD = "reader", "pass word-9f3c"


class Registry:
    """`requests` are the methods and paths that were asked for with the right password."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.requests: list[str] = []
        self.refused = 0
        self._blobs: dict[str, tuple[str, bytes]] = {}  # digest, or name:tag -> type and bytes

    def push(self, name: str, tag: str, note: str) -> str:
        """Makes an image whose command prints `note` and sleeps; returns its digest."""
        layer = busybox_tar()
        packed = gzip.compress(layer, 1, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": [f"NOTE={note}"], "Cmd": ["/bin/sh", "-c", "echo $NOTE; sleep 100000"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "size": len(config), "digest": _digest(config)},
                "layers": [{"mediaType": LAYER, "size": len(packed), "digest": _digest(packed)}],
            }
        ).encode()
        for kind, data in ((MANIFEST, manifest), (CONFIG, config), (LAYER, packed)):
            self._blobs[_digest(data)] = kind, data
        self._blobs[f"{name}:{tag}"] = MANIFEST, manifest
        return _digest(manifest)

    def find(self, path: str) -> tuple[str, bytes] | None:
        _, _, rest = path.partition("/v2/")
        for kind in ("/manifests/", "/blobs/"):
            name, found, reference = rest.partition(kind)
            if found:
                return self._blobs.get(reference) or self._blobs.get(f"{name}:{reference}")
        return None


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@contextmanager
def registry() -> Iterator[Registry]:
    """Yields a registry that answers until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if self.headers.get("Authorization") != wanted:
                made.refused += 1
                self._answer(401, "application/json", b"{}", "WWW-Authenticate", 'Basic realm="test"')
                return
            made.requests.append(f"{self.command} {self.path}")
            if self.path.rstrip("/") == "/v2":
                self._answer(200, "application/json", b"{}")
                return
            found = made.find(self.path)
            if found is None:
                self._answer(404, "application/json", b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            else:
                self._answer(200, *found, "Docker-Content-Digest", _digest(found[1]))

        do_HEAD = do_GET

        def _answer(self, status: int, kind: str, data: bytes, name: str = "", value: str = "") -> None:
            self.send_response(status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if name:
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Registry(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
