"""Hostile replies of a server, of which only whole ones are kept: `python tests/fuzz/replies.py 100 --seed 1`."""

from __future__ import annotations

import copy
import gzip
import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

import openai  # noqa: F401  (once, before the cases are forked)
from isolated import Case, main

from micota.generation.engine import open_engine
from micota.machine import ServerConfig
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.store.records import Completion, Request

Sent = tuple[int, dict[str, str], Iterable[bytes]]
"""A status, headers, and the pieces of a body; without Content-Length it is sent in chunks."""
KEY = "sk-Zq7xPw93LmTvB2"
LIMIT = 8


class HostileServer(ThreadingHTTPServer):
    """Answers each request by `act(path, request body or {})` on loopback."""

    daemon_threads = True

    def __init__(self, act: Callable[[str, dict[str, Any]], Sent]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.act = act
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileServer

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        status, headers, pieces = self.server.act(self.path, json.loads(self.rfile.read(length)) if length else {})
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Transfer-Encoding": "chunked", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
        self.wfile.write(b"0\r\n\r\n")

    do_POST = do_GET


def good(text: str | None = "It is \\boxed{4}.") -> dict[str, Any]:
    """A reply as it should be."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "1", "object": "x", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


def listed(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()


def answered(body: bytes, status: int = 200, **headers: str) -> Callable[[str, dict[str, Any]], Sent]:
    """A server that lists its model and answers everything with one body."""

    def act(path: str, asked: dict[str, Any]) -> Sent:
        return (status, headers, [body]) if asked else (200, {}, [listed("fake")])

    return act


def ask(url: str, n: int = 1, batch: int = 1, **sampling: Any) -> list[Completion]:
    """The answers of the model `fake` there."""
    source = Source(ref="endpoint:fake", revision="endpoint")
    settings = Sampling(**{"max_tokens": LIMIT, **sampling})
    spec = Generate(
        model=source, problems=Problems(source=source), prompt=Prompt(template="{problem}"), sampling=settings
    )
    engine = open_engine(
        spec, None, ServerConfig(url=url, key_env="HOSTILE_KEY", timeout_s=4, patience_s=0, batch=batch), 1
    )
    requests = [Request(f"{i:016x}", 0, f"q{i}") for i in range(n)]
    try:
        return [one for group in engine.answer(requests) for one in group]
    finally:
        engine.close()


def checked(answers: Iterable[Completion]) -> None:
    """Answers that are kept are whole rows of a pool: texts within the limit, counts that are counts, no key."""
    for answer in answers:
        line = answer.line()
        assert Completion.parse(line.encode()) == answer
        answer.text.encode()
        assert len(answer.text) < 10_000 and KEY not in line
        assert all(type(n) is int and 0 <= n < 2**40 for n in (answer.prompt_tokens, answer.completion_tokens))
        assert answer.finish_reason in ("stop", "length", "filter")


VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        "",
        "x",
        0,
        -1,
        3,
        2.0,
        2.5,
        10**18,
        -(10**400),
        math.nan,
        math.inf,
        [],
        {},
        [[]],
        [None],
        {"text": 1},
    ),
    *(
        "<think>",
        "</think> 4",
        "x" * 9_000,
        "\ud835 4",
        "\0\x1b]0;t\x07\u202e",
        "length",
        "STOP",
        "eos",
        "abort",
        "safety",
        "4" * 400,
    ),
    *([{"type": "text", "text": "4"}], [{"type": "image"}], {"content": "4"}, KEY, KEY[::-1], f"{KEY[:5]} {KEY[5:]}"),
]
FIELDS = (
    "content",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "choices",
    "message",
    "text",
    "error",
    "data",
    "id",
    "max_model_len",
    "owned_by",
)
BODIES = [
    *(
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b"<html>",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"data: {}\n\n",
        b"\0" * 99,
        b'{"a":' * 9_999,
    ),
    *(
        b'{"choices":' + b"[" * 99_999,
        b'{"choices":[{"message":{"content":NaN}}]}',
        b'{"usage":{"prompt_tokens":' + b"9" * 9_999,
    ),
]


def cases(count: int, random: Random) -> Iterator[Case]:
    """Replies with changed fields, broken bodies, and statuses with hostile messages."""
    for number in range(count):
        kind = ("fields", "fields", "body", "status", "models")[number % 5]
        headers: dict[str, str] = {}
        status, body = 200, json.dumps(_changed(good(), random)).encode()
        if kind == "body":
            body, packing = random.choice(BODIES), random.choice(["", "", "gzip", "br", "deflate"])
            body = gzip.compress(body) if packing == "gzip" and random.random() < 0.7 else body
            headers = {"Content-Encoding": packing} if packing else {}
        elif kind == "status":
            status = random.choice([201, 301, 307, 400, 401, 403, 404, 405, 413, 418, 422, 500])
            word = random.choice(["seed", "max_completion_tokens", "fake", KEY])
            said = f"Unsupported \x1b[2J {random.choice(VALUES)!r} {word}"
            body, headers = json.dumps({"error": {"message": said}}).encode(), {"Location": "http://127.0.0.1:1/x"}
        models = (
            json.dumps(_changed(json.loads(listed("fake")), random)).encode() if kind == "models" else listed("fake")
        )
        yield f"{kind} {number}", lambda _, sent=(status, headers, [body]), models=models: _asked(sent, models)  # type: ignore[misc]


def _asked(sent: Sent, models: bytes) -> None:
    server = HostileServer(lambda path, asked: sent if asked else (200, {}, [models]))
    checked(ask(server.url))


def _changed(reply: dict[str, Any], random: Random) -> dict[str, Any]:
    for _ in range(random.randint(1, 2)):
        places: list[Any] = [reply]
        for place in places:
            items = place.values() if isinstance(place, dict) else place
            places += [item for item in items if isinstance(item, dict | list)]
        place, value = random.choice(places), copy.deepcopy(random.choice(VALUES))
        if isinstance(place, dict):
            place[random.choice([*place, random.choice(FIELDS)])] = value
        elif place:
            place[0] = value
    return reply


if __name__ == "__main__":
    import os

    os.environ["HOSTILE_KEY"] = KEY
    main(cases, 100)
