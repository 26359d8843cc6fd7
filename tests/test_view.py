"""The view: who may ask, what each filter leaves, and that a page holds no script, whatever a response says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from view_world import ATTACKS, view_world

pytest.importorskip("duckdb", reason='the view needs pip install "micota[view]"')
pytest.importorskip("starlette", reason='the view needs pip install "micota[view]"')

from micota.report.results import Results
from micota.viewer.pages import View
from micota.viewer.server import application

TOKEN = "a-token"


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    recipe, store = view_world(tmp_path_factory.mktemp("view"))
    view = View(store, recipe)
    view.refresh()
    return view


Get = Callable[..., Any]


@pytest.fixture(scope="module")
def get(view: View) -> Get:
    from starlette.testclient import TestClient

    client = TestClient(application(view, TOKEN), base_url="http://127.0.0.1:8000", follow_redirects=False)
    return lambda page, method="GET", **given: client.request(method, f"/{TOKEN}/{page}", **given)


@pytest.fixture(scope="module")
def frame(view: View) -> Any:
    return Results(view.answers.files.results.recipe, view.store).frame


def count(page: str) -> tuple[int, int]:
    """How many responses and problems a list says that it has."""
    found = re.search(r"<strong>([\d,]+)</strong> responses to <strong>([\d,]+)</strong>", page)
    assert found
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def test_only_who_has_the_token_and_names_this_machine_may_read(get: Get, view: View) -> None:
    from starlette.testclient import TestClient

    client = TestClient(application(view, TOKEN), base_url="http://127.0.0.1:8000", follow_redirects=False)
    assert (
        client.get("/").status_code
        == client.get("/responses").status_code
        == client.get("/a-tokem/").status_code
        == 403
    )
    assert client.get(f"/{TOKEN}x/responses").status_code == client.get("/%C3%A9/").status_code == 403
    assert get("responses", method="POST").status_code == get("responses", method="DELETE").status_code == 405
    for host in ("evil.example", "127.0.0.1.evil.example:8000", "evil.example:127.0.0.1", "", "[::1]:8000"):
        assert get("responses", headers={"host": host}).status_code == 400, host
    for host in ("127.0.0.1:1", "localhost:99", "localhost"):
        assert get("responses", headers={"host": host}).status_code == 200, host
    assert get("").headers["location"].endswith("/responses")
    assert get("nothing").status_code == 404 and get("../responses").status_code == 403


def test_no_script_or_style_stands_in_a_page_and_nothing_comes_from_elsewhere(get: Get) -> None:
    for page in ("responses", "problem?in=test-set&key=" + first_key(get)):
        reply = get(page)
        policy = dict(part.strip().partition(" ")[::2] for part in reply.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert (reply.headers["x-content-type-options"], reply.headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert (
            re.findall(
                r"<script(?![^>]*\ssrc=\"/a-token/)[^>]*>|<style|\sstyle=|\son\w+=\"|javascript:\S*\"|<iframe|<img",
                reply.text,
            )
            == []
        )
        assert set(re.findall(r"(?:src|href|action)=\"([^\"#]*)", reply.text)) == {
            found
            for found in re.findall(r"(?:src|href|action)=\"([^\"#]*)", reply.text)
            if found.startswith(f"/{TOKEN}/") or not found
        }


def first_key(get: Get) -> str:
    found = re.search(r"key=([0-9a-f]{16})", get("responses").text)
    assert found
    return found[1]


def test_each_filter_leaves_what_the_tidy_table_has(get: Get, frame: Any) -> None:
    rows = frame[frame.scorer == "semantic"]
    exact = frame[frame.scorer == "exact_match"]
    right = frame.verdict == "correct"
    disagree = (
        right.groupby([frame.model, frame.benchmark, frame.problem, frame["sample"]], observed=True).transform(
            "nunique"
        )
        > 1
    )
    wanted = {
        "": rows,
        "scorer=exact_match": exact,
        "arm=micota": rows[rows.arm == "micota"],
        "arm=micota&arm=strong": rows[rows.arm.isin(["micota", "strong"])],
        "verdict=wrong&benchmark=test-set": rows[rows.verdict == "wrong"],
        "disagree=1": rows[disagree[rows.index]],
        "truncated=1": rows[rows.truncated],
        "repetitive=1&truncated=1": rows[rows.repetitive & rows.truncated],
        "least=50&most=100": rows[rows.tokens.between(50, 100)],
        "least=50&arm=teacher&verdict=correct": rows[
            (rows.tokens >= 50) & (rows.arm == "teacher") & (rows.verdict == "correct")
        ],
        "benchmark=nothing": rows[:0],
    }
    for query, left in wanted.items():
        assert count(get(f"responses?{query}").text) == (len(left), left.problem.nunique()), query
    assert get("responses?least=x").status_code == 400


def test_right_and_wrong_are_the_problems_of_the_frame(get: Get, view: View, frame: Any) -> None:
    for scorer in ("semantic", "exact_match"):
        rows = frame[frame.scorer == scorer].set_index("problem")
        right, wrong = (rows[rows.arm == arm].verdict == "correct" for arm in ("micota", "strong"))
        wanted = sorted(right.index[right & ~wrong.reindex(right.index)])
        query = f"right=micota&wrong=strong&scorer={scorer}"
        listed = [json.loads(line) for line in get(f"responses.jsonl?{query}").text.splitlines()]
        assert wanted and sorted({row["problem"] for row in listed}) == wanted
        keys, at = [], re.search(r"key=([0-9a-f]{16})", get(f"responses?{query}").text)[1]  # type: ignore[index]
        while at:  # by the keys of the page, from the first to the last
            keys.append(at)
            page = get(f"problem?{query}&in=test-set&key={at}").text
            found = re.search(r'rel="next" href="[^"]*key=([0-9a-f]{16})', page)
            at = found[1] if found else None
        assert keys == wanted


def test_a_search_finds_the_responses_with_all_its_words(get: Get, view: View, frame: Any) -> None:
    texts = Results(view.answers.files.results.recipe, view.store).responses(scorer="semantic").response
    zebras = texts.str.contains("Zebra").sum()
    assert zebras and count(get("responses?q=zebra").text)[0] == zebras
    assert count(get("responses?q=ZEBRA+recheck").text)[0] == zebras
    assert count(get("responses?q=zebra+boxed").text)[0] == 0
    for odd in ('"', "'; DROP", "*", "NEAR(", "\\", "%00", "zebra%22 OR x"):
        assert get(f"responses?q={odd}").status_code == 200, odd


def test_a_problem_shows_models_beside_each_other_with_marks_and_reasons(get: Get, view: View) -> None:
    page = get(f"problem?in=test-set&key={first_key(get)}&show=micota&show=strong&show=instruct&show=teacher").text
    assert re.findall(r'<h2 id="side\d">([^<]+)</h2>', page) == ["micota", "strong", "instruct", "teacher"]
    assert page.count("semantic:") == page.count("exact_match:") == 4
    assert "Generated by fabricated" in page and 'class="reflection"' in page
    assert get("problem?in=nothing&key=x").status_code == 400
    assert "None of these models" in get("problem?in=test-set&key=x").text


def test_a_download_is_what_the_list_shows_with_the_texts(get: Get, frame: Any) -> None:
    lines = [json.loads(line) for line in get("responses.jsonl?arm=micota&verdict=wrong").text.splitlines()]
    rows = frame[(frame.scorer == "semantic") & (frame.arm == "micota") & (frame.verdict == "wrong")]
    assert {(line["problem"], line["sample"]) for line in lines} == set(zip(rows.problem, rows["sample"], strict=True))
    assert all(line["response"] and line["problem_text"] and line["gold"] == "7" for line in lines)
    assert any(attack[:20] in line["response"] for line in lines for attack in ATTACKS)


def test_what_comes_into_the_store_later_is_taken_in(tmp_path: Path) -> None:
    recipe, store = view_world(tmp_path, without=("verify",))
    view = View(store, recipe)
    view.refresh()
    assert view.answers.parts == []
    view_world(tmp_path)
    view.refresh()
    assert len(view.answers.parts) == 7 and view.answers.indexed == 7
    files = {path: path.stat().st_mtime_ns for path in (store.root / "view").rglob("*") if path.is_file()}
    View(store, recipe).refresh()
    assert files == {path: path.stat().st_mtime_ns for path in (store.root / "view").rglob("*") if path.is_file()}
