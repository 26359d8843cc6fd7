"""A Hub of one repository on loopback: what huggingface_hub asks of it to create, list, read and commit."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest


class Hub:
    """The files of the repository, how it was created, and how many commits it has; `refuses` answers 401."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
        self.commits = 0
        self.conflicts = 0
        self.refuses = False

    def tree(self, under: str) -> list[dict[str, Any]]:
        """The files below a folder, as the Hub lists them."""
        inside = f"{under}/" if under else ""
        found = [(name, data) for name, data in sorted(self.files.items()) if name.startswith(inside)]
        return [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in found]


def handler(there: Hub) -> type[BaseHTTPRequestHandler]:
    """What answers for it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None: ...

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if there.refuses:
                self.reply({"error": "Invalid username or password."}, 401)
            elif "/tree/" in path:
                found = there.tree("/".join(path.split("/tree/")[1].split("/")[1:]))
                self.reply(found or {"error": "none"}, 200 if found else 404, {"X-Error-Code": "EntryNotFound"})
            elif "/resolve/" in path:
                data = there.files["/".join(path.split("/resolve/")[1].split("/")[1:])]
                start, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
                self.send(data[int(start) : int(end) + 1 if end else None], 206, "application/octet-stream", {})
            else:
                self.reply({"sha": "0" * 40, "id": "me/answers", "siblings": []})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if there.refuses:
                self.reply({"error": "Invalid username or password."}, 401)
            elif self.path == "/api/repos/create":
                there.created = json.loads(body)
                self.reply({"url": f"http://{self.headers['Host']}/datasets/me/answers"})
            elif "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                self.reply({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
            elif "/commit/" not in self.path:
                self.reply({"errors": [], "warnings": []})  # it looks at the card before
            elif there.conflicts:
                there.conflicts -= 1
                self.reply({"error": "A commit has happened since."}, 412)
            else:
                self.commit(body)

        def commit(self, body: bytes) -> None:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    there.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            there.commits += 1
            url = f"http://{self.headers['Host']}/datasets/me/answers/commit/1"
            self.reply({"commitUrl": url, "commitOid": "1" * 40, "success": True})

        def reply(self, data: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send(json.dumps(data).encode(), code, "application/json", headers or {})

        def send(self, body: bytes, code: int, sort: str, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {"Content-Type": sort, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


@pytest.fixture
def hub() -> Iterator[tuple[Hub, str]]:
    """A Hub, and its address for HF_ENDPOINT."""
    there = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(there))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield there, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
