"""A public fake of an OpenAI-compatible server on loopback, which fails in every way that real ones do. For tests and
for dry runs of a recipe; a word counts as a token.

    with FakeServer(lambda message: "4", faults=FAULTS, share=0.2) as server:
        ...  # generate: {engine: openai, url: server.url}
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from micota.machine.addresses import FAKE_SERVER

FAULTS = ("429", "500", "503", "cut", "closed", "slow", "no json", "html", "no choices", "no usage", "no text")


class FakeServer:
    """Answers chats and completions by `answer(user message)`; of the requests a `share` fails by one of `faults`.

    `key` is the key that it demands; with `apart` thoughts come as reasoning_content; `slow_s` is the delay of the
    fault `slow`, `latency_s` that of every answer. `asked` counts the requests by their user message,
    `answered` those that got an answer, `failed` the faults; `bodies` are the requests as they were sent.
    """

    def __init__(
        self,
        answer: Callable[[str], str],
        *,
        model: str = "fake",
        key: str | None = None,
        faults: Sequence[str] = (),
        share: float = 0.0,
        apart: bool = False,
        slow_s: float = 3.0,
        latency_s: float = 0.0,
        seed: int = 0,
        port: int = 0,
    ) -> None:
        self.answer, self.model, self.key, self.apart = answer, model, key, apart
        self.faults, self.share, self.slow_s, self.latency_s = tuple(faults), share, slow_s, latency_s
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.dice = random.Random(seed)
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.fake = self

    @property
    def url(self) -> str:
        """Its address, for `generate: {engine: openai, url: ...}`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def fault(self) -> str | None:
        """The fault of the next request, if it fails."""
        with self.lock:
            return self.dice.choice(self.faults) if self.faults and self.dice.random() < self.share else None

    def reply(self, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        """The reply to a request as the interface says: cut at a stop string or at max_tokens, counted in words."""
        message = body["messages"][-1]["content"] if chat else body["prompt"]
        prompt = "\n".join(part["content"] for part in body["messages"]) if chat else message
        text, finish = self.answer(message), "stop"
        cuts = [text.find(stop) for stop in body.get("stop") or () if stop in text]
        text = text[: min(cuts)] if cuts else text
        if len(text.split()) > body["max_tokens"]:
            text, finish = " ".join(text.split()[: body["max_tokens"]]), "length"
        counts = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"message": _message(text, self.apart)} if chat else {"text": text}
        return {"id": "1", "object": "x", "created": 0, "model": self.model, "choices": [choice], "usage": counts}


def _message(text: str, apart: bool) -> dict[str, Any]:
    thought, closed, rest = text.removeprefix("<think>").partition("</think>")
    if not apart or not text.startswith("<think>"):
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": rest if closed else None, "reasoning_content": thought}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    fake: FakeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = FAKE_SERVER
    server: _Http

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        fake = self.server.fake
        if self._allowed():
            self._send(
                200, {"object": "list", "data": [{"id": fake.model, "object": "model", "owned_by": FAKE_SERVER}]}
            )

    def do_POST(self) -> None:
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        chat = self.path.endswith("/chat/completions")
        message = body["messages"][-1]["content"] if chat else body["prompt"]
        message = message if isinstance(message, str) else str(message)  # tokens
        with fake.lock:
            fake.asked[message] += 1
            fake.bodies.append(body)
            fake.at_once += 1
            fake.most_at_once = max(fake.most_at_once, fake.at_once)
        try:
            time.sleep(fake.latency_s)
            fault = fake.fault()
            if fault:
                with fake.lock:
                    fake.failed[fault] += 1
                self._fail(fault, fake.reply(body, chat))
                return
            with fake.lock:
                fake.answered[message] += 1
            self._send(200, fake.reply(body, chat))
        finally:
            with fake.lock:
                fake.at_once -= 1

    def _allowed(self) -> bool:
        key = self.server.fake.key
        sent = self.headers.get("Authorization", "")
        if key is None or sent == f"Bearer {key}":
            return True
        self._send(401, {"error": {"message": f"Incorrect API key provided: {sent.removeprefix('Bearer ')}"}})
        return False

    def _fail(self, fault: str, good: dict[str, Any]) -> None:
        if fault.isdigit():
            self._send(int(fault), {"error": {"message": "try again"}}, {"Retry-After-Ms": "20"})
        elif fault == "cut":  # half of the body, then nothing
            data = json.dumps(good).encode()
            self._head(200, len(data), {})
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif fault == "closed":
            self.close_connection = True
        elif fault == "slow":
            time.sleep(self.server.fake.slow_s)
            self._send(200, good)
        else:
            self._send(200, *_broken(fault, good))

    def _send(self, code: int, data: Any, headers: dict[str, str] | None = None) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self._head(code, len(body), headers or {})
        self.wfile.write(body)

    def _head(self, code: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _broken(fault: str, good: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """A reply that says 200 and cannot be used."""
    if fault == "no json":
        return json.dumps(good).encode()[:-9], {}
    if fault == "html":
        return b"<html>502 Bad Gateway</html>", {"Content-Type": "text/html"}
    if fault == "no choices":
        return {**good, "choices": []}, {}
    if fault == "no usage":
        return {**good, "usage": None}, {}
    choice = {**good["choices"][0], "message": {"role": "assistant"}, "text": None}
    return {**good, "choices": [choice]}, {}
