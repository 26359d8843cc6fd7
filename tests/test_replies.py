"""What servers reply: whole answers are kept in every usual form, and nothing else reaches a pool."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest

from micota.chat import with_thought
from micota.errors import MicotaError
from micota.generation.replies import Malformed, Reply, read, served_models
from micota.store.pool import Pool, Writer
from micota.store.records import Completion

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
import isolated
import replies as hostile
from replies import KEY, HostileServer, answered, ask, good, listed


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE_KEY", KEY)


def reply(message: dict[str, Any] | None = None, usage: Any = ..., **choice: Any) -> str:
    """The body of a good reply with some parts changed."""
    body = good()
    if message is not None:
        body["choices"][0]["message"] = {"role": "assistant", **message}
    body["choices"][0] |= choice
    if usage is not ...:
        body["usage"] = usage
    return json.dumps(body)


THINKING = {"reasoning_content": "Perhaps \\boxed{4}, but wait"}
OPEN = "Perhaps \\boxed{4}, but wait"
KEPT: dict[str, tuple[str, tuple[Any, ...]]] = {
    "a plain answer": (reply(), ("It is \\boxed{4}.", "", "stop", 3, 4)),
    "content null": (reply({"content": None}), ("", "", "stop", 3, 4)),
    "content null, cut": (reply({"content": None}, finish_reason="length"), ("", "", "length", 3, 4)),
    "content empty": (reply({"content": ""}), ("", "", "stop", 3, 4)),
    "filtered": (reply({"content": None}, finish_reason="content_filter"), ("", "", "filter", 3, 4)),
    "refused": (reply({"content": None, "refusal": "I cannot."}), ("I cannot.", "", "filter", 3, 4)),
    "refused, no content": (reply({"refusal": "I cannot."}), ("I cannot.", "", "filter", 3, 4)),
    "refusal null": (reply({"content": "4", "refusal": None}), ("4", "", "stop", 3, 4)),
    "parts": (
        reply({"content": [{"type": "text", "text": "It "}, {"type": "text", "text": "is 4"}]}),
        ("It is 4", "", "stop", 3, 4),
    ),
    "thought apart": (reply({**THINKING, "content": "4"}), (f"{OPEN}\n</think>\n\n4", "<think>\n", "stop", 3, 4)),
    "thought named reasoning": (
        reply({"reasoning": "t", "content": "4"}),
        ("t\n</think>\n\n4", "<think>\n", "stop", 3, 4),
    ),
    "thought named thinking": (
        reply({"thinking": "t", "content": "4"}),
        ("t\n</think>\n\n4", "<think>\n", "stop", 3, 4),
    ),
    "thought in both": (
        reply({"reasoning": "t", "content": "<think>t</think>4"}),
        ("<think>t</think>4", "", "stop", 3, 4),
    ),
    "thought null": (reply({"reasoning_content": None, "content": "4"}), ("4", "", "stop", 3, 4)),
    "thought empty": (reply({"reasoning_content": "", "content": "4"}), ("4", "", "stop", 3, 4)),
    "thought cut": (reply({**THINKING, "content": None}, finish_reason="length"), (OPEN, "<think>\n", "length", 3, 4)),
    "thought alone": (reply({**THINKING, "content": ""}), (OPEN, "<think>\n", "stop", 3, 4)),
    "thought without content": (reply(THINKING), (OPEN, "<think>\n", "stop", 3, 4)),
    "thought closed only": (reply({"content": "t</think>4"}), ("t</think>4", "<think>\n", "stop", 3, 4)),
    "a lone surrogate": (reply({"content": "So \ud835 4"}), ("So \ufffd 4", "", "stop", 3, 4)),
    "a pair of surrogates": (reply({"content": "\ud83d\ude00"}), ("\U0001f600", "", "stop", 3, 4)),
    "NUL": (reply({"content": "a\0b"}), ("a\0b", "", "stop", 3, 4)),
    "finish eos": (reply(finish_reason="eos"), ("It is \\boxed{4}.", "", "stop", 3, 4)),
    "finish STOP": (reply(finish_reason="STOP"), ("It is \\boxed{4}.", "", "stop", 3, 4)),
    "finish max_tokens": (reply(finish_reason="max_tokens"), ("It is \\boxed{4}.", "", "length", 3, 4)),
    "finish unknown": (reply(finish_reason="recitation"), ("It is \\boxed{4}.", "", "filter", 3, 4)),
    "finish null at the limit": (
        reply(finish_reason=None, usage={"prompt_tokens": 3, "completion_tokens": 8}),
        ("It is \\boxed{4}.", "", "length", 3, 8),
    ),
    "finish null": (reply(finish_reason=None), ("It is \\boxed{4}.", "", None, 3, 4)),
    "no usage": (reply(usage=None), ("It is \\boxed{4}.", "", "stop", None, None)),
    "half a usage": (reply(usage={"prompt_tokens": 5}), ("It is \\boxed{4}.", "", "stop", 5, None)),
    "a usage of zeros": (
        reply(usage={"prompt_tokens": 0, "completion_tokens": 0}),
        ("It is \\boxed{4}.", "", "stop", None, None),
    ),
    "a usage of floats": (
        reply(usage={"prompt_tokens": 5.0, "completion_tokens": 3.0}),
        ("It is \\boxed{4}.", "", "stop", 5, 3),
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_an_answer_is_kept_in_every_usual_form(name: str) -> None:
    body, wanted = KEPT[name]
    assert read(body, "", 8) == Reply(*wanted)


COUNTS = (-1, True, 2.5, float("nan"), float("inf"), "4", [], 2**40)
REFUSED = {
    "no JSON": "{",
    "HTML": "<html>",
    "nothing": "",
    "a number": "3",
    "null": "null",
    "a list": "[]",
    "events": "data: {}\n\n",
    "no choices": '{"choices": []}',
    "choices null": '{"choices": null}',
    "an error": '{"error": {"message": "overloaded"}}',
    "message null": reply(None).replace('{"role": "assistant", "content": "It is \\\\boxed{4}."}', "null"),
    "no content": reply({}),
    "content a number": reply({"content": 4}),
    "content a mapping": reply({"content": {"text": "4"}}),
    "thought a list": reply({"content": "4", "reasoning": ["t"]}),
    "finish a number": reply(finish_reason=1),
    "aborted": reply(finish_reason="abort"),
    "usage a list": reply(usage=[3]),
    **{f"prompt tokens {n}": reply(usage={"prompt_tokens": n, "completion_tokens": 4}) for n in COUNTS},
    **{f"completion tokens {n}": reply(usage={"prompt_tokens": 4, "completion_tokens": n}) for n in COUNTS},
    "400 digits": reply(usage={"prompt_tokens": 3, "completion_tokens": 10**399}),
    "9,999 digits": '{"usage": {"completion_tokens": ' + "9" * 9_999 + "}}",
    "more tokens than the limit": reply(usage={"prompt_tokens": 3, "completion_tokens": 999}),
    "one token more than the limit": json.dumps({"choices": [{"text": "x", "token_ids": [5] * 9}]}),
    "a text beyond the limit": reply({"content": "x" * 100_000}),
    "a thought beyond it": reply({"reasoning": "x" * 100_000}),
    "brackets": '{"choices":' + "[" * 200_000 + "]" * 200_000 + "}",
    "NaN": '{"choices": [{"message": {"content": NaN}}]}',
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_reply_that_is_none_is_refused_in_few_words(name: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(REFUSED[name], "", 8)
    assert 3 < len(str(refused.value)) < 400


def test_what_an_error_says_in_a_reply_of_200_is_said() -> None:
    with pytest.raises(Malformed, match="overloaded"):
        read('{"error": {"message": "overloaded", "code": 503}}', "", 8)


@pytest.mark.parametrize(
    ("thought", "answer", "whole"),
    [
        ("t", "4", "<think>\nt\n</think>\n\n4"),
        ("\nt\n", "\n\n4\n", "<think>\nt\n</think>\n\n4\n"),
        ("t", "", "<think>\nt"),
        ("t", " \n", "<think>\nt"),
        ("", "4", "4"),
        (" ", "4", "4"),
        ("t", "<think>t</think>4", "<think>t</think>4"),
        ("t", "\n<think>other</think>4", "\n<think>other</think>4"),
    ],
)
def test_a_thought_and_an_answer_make_one_response(thought: str, answer: str, whole: str) -> None:
    assert with_thought(thought, answer) == whole


@pytest.mark.parametrize("body", [b"[]", b"{}", b"[" * 200_000, b'{"data": [{"id": 3}]}', b'{"data": 3}', b"\xff"])
def test_a_list_of_models_that_is_none_is_no_list(body: bytes) -> None:
    assert served_models(body.decode("utf-8", "replace")) == []


def test_an_answer_is_asked_for_through_the_whole_way_and_a_packed_one_is_read() -> None:
    server = HostileServer(answered(gzip.compress(reply().encode()), **{"Content-Encoding": "gzip"}))
    assert [one.text for one in ask(server.url, 2)] == ["It is \\boxed{4}."] * 2


ENDLESS = [b'{"choices":[{"message":{"content":"', *[b"x" * 2**20] * 400]
WHOLE = {
    "an endless body": ((200, {}, ENDLESS), "a body of more than"),
    "a bomb": ((200, {"Content-Encoding": "gzip"}, [gzip.compress(b"x" * 2**28)]), "a body of more than"),
    "a broken bomb": ((200, {"Content-Encoding": "gzip"}, [b"x" * 99]), "cannot be unpacked"),
    "an unknown packing": ((200, {"Content-Encoding": "br"}, [b"x" * 99]), "packed as br"),
    "null finish": ((200, {}, [reply(finish_reason=None).encode()]), "does not say how its answers end"),
    "never a usage": ((200, {}, [reply(usage=None).encode()]), "does not count its tokens"),
    "another origin": ((307, {"Location": "http://127.0.0.1:1/steal"}, []), "redirects to http://127.0.0.1:1/steal"),
    "a file": ((302, {"Location": "file:///etc/passwd"}, []), "redirects to file:///etc/passwd"),
    "itself": ((308, {"Location": "/v1/chat/completions"}, []), "redirects to /v1/chat"),
    "no such path": ((404, {}, [b'{"detail":"Not Found"}']), "it usually ends in /v1"),
    "a page": ((405, {}, [b"<html>"]), "it usually ends in /v1"),
    "no seed": (
        (400, {}, [b'{"error":{"message":"Unrecognized request argument supplied: seed"}}']),
        "the field `seed`",
    ),
    "escapes": ((400, {}, [b'{"error":{"message":"\\u001b[2J\\u009b31m\\u202egnp"}}']), "\\x1b[2J"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_server_that_cannot_be_used_is_described_with_what_to_change(name: str) -> None:
    sent, says = WHOLE[name]
    server = HostileServer(lambda path, asked: sent if asked else (200, {}, [listed("fake")]))
    with pytest.raises(MicotaError) as refused:
        ask(server.url)
    assert says in str(refused.value)
    assert all(one.isprintable() for one in str(refused.value).replace("\n", ""))
    assert "remove that problem" not in str(refused.value) or name == "escapes"
    assert len(server.asked) <= 1 + 8


def test_a_server_that_knows_another_name_for_the_limit_is_asked_by_it() -> None:
    said = b'{"error":{"message":"Unsupported parameter: max_tokens. Use max_completion_tokens instead."}}'

    def act(path: str, asked: dict[str, Any]) -> hostile.Sent:
        return (
            (400, {}, [said]) if "max_tokens" in asked else (200, {}, [reply().encode() if asked else listed("fake")])
        )

    server = HostileServer(act)
    assert len(ask(server.url, 3)) == 3
    assert len(server.asked) == 1 + 1 + 3


def test_requests_that_were_on_their_way_when_the_limit_got_its_other_name_are_sent_again() -> None:
    said = b'{"error":{"message":"Unsupported parameter: max_tokens. Use max_completion_tokens instead."}}'
    together = threading.Barrier(3)

    def act(path: str, asked: dict[str, Any]) -> hostile.Sent:
        if "max_tokens" in asked:
            together.wait(20)
            return 400, {}, [said]
        return 200, {}, [reply().encode() if asked else listed("fake")]

    server = HostileServer(act)
    assert len(ask(server.url, 3, batch=3)) == 3
    assert len(server.asked) == 1 + 3 + 3


def test_a_filter_that_speaks_by_its_status_is_an_answer_that_was_refused() -> None:
    server = HostileServer(answered(b'{"error":{"code":"content_filter","message":"filtered"}}', 400))
    (answer,) = ask(server.url)
    assert (answer.text, answer.finish_reason) == ("", "filter")


PIECES = [
    KEY,
    KEY[::-1],
    f"{KEY[:8]}\n{KEY[8:]}",
    " ".join(KEY),
    f"{KEY[:5]}-{KEY[5:9]}_{KEY[9:]}",
    KEY.upper(),
    KEY[3:11],
]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
@pytest.mark.parametrize("echo", PIECES)
def test_a_key_that_comes_back_in_pieces_is_hidden(status: int, echo: str) -> None:
    server = HostileServer(answered(json.dumps({"error": {"message": f"you sent {echo}, really"}}).encode(), status))
    with pytest.raises(MicotaError, match="you sent") as refused:
        ask(server.url)
    letters = "".join(one for one in str(refused.value) if one.isalnum()).lower()
    key = KEY.replace("-", "").lower()
    assert not [i for i in range(len(key) - 5) if key[i : i + 6] in letters or key[::-1][i : i + 6] in letters]
    assert "really" in str(refused.value)


def test_a_key_in_an_answer_is_hidden_too() -> None:
    server = HostileServer(answered(reply({"content": f"your key is {KEY}"}).encode()))
    assert [one.text for one in ask(server.url)] == ["your key is ***"]


def test_odd_answers_are_rows_of_a_pool_like_others(tmp_path: Path) -> None:
    texts = ["a\0b", "a\u2028b\x85c", "\ufffd", "", "\r\n"]
    rows = [Completion(f"{i:016x}", 0, "q", text, "stop", 1, 1, "e") for i, text in enumerate(texts)]
    with Writer(tmp_path, {}) as writer:
        writer.write(rows)
    pool = Pool(tmp_path)
    assert list(pool.read((row.key, 0) for row in rows)) == rows


def test_hostile_replies_end_in_messages_or_in_whole_rows() -> None:
    ends, wrong = isolated.faults(hostile.cases(10, Random(3)))
    assert wrong == []
    assert sum(ends.values()) == 10
