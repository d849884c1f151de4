"""The write APIs of InfluxDB 2 and 3, as far as skep speaks to them: a fake, for Debian has neither.

What it does is taken from their public descriptions (https://docs.influxdata.com/influxdb/v2/api/,
https://docs.influxdata.com/influxdb3/core/api/): paths, parameters, tokens, 204, a batch of which some lines are
refused (422, 400), 429 with Retry-After. It stores nothing but lines.
"""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

V2, V3 = "/api/v2/write", "/api/v3/write_lp"
PRECISION = {V2: ("ns", "us", "ms", "s"), V3: ("auto", "nanosecond", "microsecond", "millisecond", "second")}


class FakeInflux:
    """`buckets` are those that there are (`ORG/BUCKET` for 2, a database for 3). `faults`: answers that come before
    any other, each once: a status, headers, what is said. `certificates`: a directory of `make_certificates`, for
    https."""

    def __init__(self, token: str, *buckets: str, certificates: Path | None = None) -> None:
        self.token = token
        self.buckets = buckets
        self.lines: list[str] = []
        self.requests: list[tuple[str, dict[str, str]]] = []  # path, parameters
        self.faults: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, said = fake.answer(self.path, dict(self.headers), body)
                content = json.dumps(said).encode() if said else b""
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")

    def start(self) -> FakeInflux:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(
        self, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.requests.append((parts.path, query))
        if parts.path not in PRECISION:
            return 404, {}, {"error": "not found"}
        is_v2 = parts.path == V2
        scheme = "Token" if is_v2 else "Bearer"
        if headers.get("Authorization") != f"{scheme} {self.token}":
            return 401, {}, {"code": "unauthorized", "message": "unauthorized access"}
        if query.get("precision", "ns") not in PRECISION[parts.path]:
            return 400, {}, {"code": "invalid", "message": "invalid precision"}
        bucket = f"{query.get('org')}/{query.get('bucket')}" if is_v2 else query.get("db", "")
        if bucket not in self.buckets:
            return 404, {}, {"code": "not found", "message": f'bucket "{query.get("bucket")}" not found'}
        if self.faults:
            return self.faults.pop(0)
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.lines += body.decode().splitlines()
        return 204, {}, {}
