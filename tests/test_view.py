"""The view: who may ask, what each filter leaves, and that a page holds no script, whatever a response says."""

from __future__ import annotations

import html
import itertools
import json
import random
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_recipe import command
from view_world import ATTACKS, TEXTS, Answered, view_world

pytest.importorskip("duckdb", reason='the view needs pip install "micota[view]"')
pytest.importorskip("starlette", reason='the view needs pip install "micota[view]"')

from micota.errors import MicotaError
from micota.recipe import recipe as recipes
from micota.report.comparison import compared, holm
from micota.report.results import Results
from micota.specs import Generate, Problems
from micota.store.artifacts import Result, Store
from micota.store.pool import Writer
from micota.store.records import Completion, read_rows, text_key, write_rows
from micota.viewer import static_site
from micota.viewer.accuracy_page import tables
from micota.viewer.filters import Filters
from micota.viewer.pages import View
from micota.viewer.response_pages import problem
from micota.viewer.server import application
from micota.viewer.static_site import export

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
    for page in (*PLAIN, "problem?in=test-set&key=" + first_key(get), first_link(get, "lineage", "artifact")):
        reply = get(page)
        policy = dict(part.strip().partition(" ")[::2] for part in reply.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert (reply.headers["x-content-type-options"], reply.headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert re.findall(RUNS, reply.text) == [], page
        links = set(re.findall(r"(?:src|href|action)=\"([^\"#]+)", reply.text))
        assert links and all(link.startswith(f"/{TOKEN}/") for link in links), page


SETS = "data?first=train-set (train)&second=test-set (test)"
PLAIN = (
    "responses",
    "tables?baseline=instruct",
    "compare?a=micota&b=strong",
    SETS,
    "dropped?data=long-cot",
    "lineage",
    "live",
)
RUNS = r"<script(?![^>]*\ssrc=\"/a-token/)|<style|\sstyle=|\son\w+=\"|javascript:\S*\"|<iframe|<img (?!src=\"/a-token/)"
"""What a page must not have: the texts' own are escaped."""


def first_link(get: Get, page: str, to: str) -> str:
    found = re.search(rf'href="/{TOKEN}/({to}\?[^"]*)"', get(page).text)
    assert found
    return html.unescape(found[1])


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


def test_the_table_is_that_of_the_results_and_sorts(get: Get, frame: Any, view: View) -> None:
    wanted = Results(view.answers.files.results.recipe, view.store)
    table = wanted.table(scorer="semantic").set_index("arm")
    page = get("tables?scorer=semantic&baseline=instruct").text
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page, re.S)[1:]]
    assert [row[0] for row in rows] == list(table.index)
    for row in rows:
        one = table.loc[row[0]]
        assert row[3:5] == [
            f"<strong>{100 * one.accuracy:.1f}</strong>",
            f"{100 * one.low:.1f} to {100 * one.high:.1f}",
        ]
        if row[0] != "instruct":
            difference = wanted.compare(row[0], "instruct", "semantic").accuracy["test-set"]
            assert re.sub(r"<.*?>", "", row[6]) == f"{100 * difference.value:+.1f}"
            assert row[7] == f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}, n = {difference.n}"
    for sort, down in (("accuracy", False), ("accuracy", True), ("tokens", True), ("arm", False)):
        page = get(f"tables?scorer=semantic&sort={'-' * down}{sort}").text
        names = re.findall(r'<th scope="?row"? class="word">([^<]*)</th>', page)
        values = [name if sort == "arm" else table.loc[name][sort] for name in names]
        assert len(names) == 7 and values == sorted(values, reverse=down) and "aria-sort" in page
    assert "<td>10</td>" in get("tables?level=Level 1").text
    assert get("tables?baseline=nobody").status_code == 400


def test_two_models_are_compared_as_by_the_command(get: Get, view: View) -> None:
    found = Results(view.answers.files.results.recipe, view.store).compare("micota", "strong", "exact_match")
    assert "compare?a=micota&amp;b=strong&amp;scorer=exact_match" in get("tables?baseline=strong").text
    page = html.unescape(get("compare?a=micota&b=strong&scorer=exact_match").text)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions == [f"{found.title}, by {name}" for name in ("benchmark", "level", "length")]
    levels = found.by("level") if "level" in found.groups else None
    assert page.count("Level 1") == 1 and "shortest third" in page and (levels is None or len(levels) == 3)
    for name, rows in found.sides:
        assert f"{name} does better on {len(rows)}" in page and all(f"key={key}" in page for key in rows.problem)
    assert get("compare?a=micota&b=nobody").status_code == 400 and get("compare").status_code == 400


class Sampled(Answered):
    """Three samples of each answer, of which the later ones are longer."""

    def make_generate(self, spec: Generate, dice: random.Random) -> Result:
        made = super().make_generate(spec, dice)
        path = self.store.work(spec) / "out" / "rows.jsonl"
        rows, texts = read_rows(path), list[Completion]()
        with Writer(self.store.pool_folder(made.pools[0]), {}) as writer:
            for row, sample in itertools.product(list(rows), (1, 2)):
                tokens = row["tokens"] + dice.randrange(9)
                texts.append(Completion(row["key"], sample, "?", f"{sample}, so 7", "stop", 9, tokens, "fabricated"))
                rows.append({**row, "sample": sample, "sha": texts[-1].sha, "tokens": tokens})
            writer.write(texts)
        write_rows(path, rows)
        return made


def test_the_table_is_that_of_the_results_for_samples_seeds_and_variables(tmp_path: Path) -> None:
    """Means over samples first and seeds then; differences and exact p over problems, in groups of the rate."""
    text = """
for: {seed: [0, 1], rate: [1e-3, 2e-3]}
let:
  test-set: {problems: {source: "lab:arithmetic", split: test, n: 9}}
  long-cot: {distill: {from: lab:teacher, data: {problems: {source: "lab:arithmetic", split: train, n: 9}}}}
arms:
  plain: lab:student
  tuned: {train: {base: lab:student, data: long-cot, seed: $seed, lr: $rate}}
  other: {train: {base: lab:student, data: long-cot, seed: $seed, lr: $rate, epochs: 2}}
evaluate: {models: [arms], data: [test-set]}
"""
    (tmp_path / "many.yaml").write_text(text)
    recipe, store = recipes.load(str(tmp_path / "many.yaml")), Store(tmp_path / "store")
    Sampled(store, [f"What is {i}?" for i in range(9)], TEXTS).fill(recipe)
    view = View(store, recipe)
    view.refresh()
    whole = Results(recipe, store)
    for baseline in ("plain", "other"):
        shown = tables(view.answers, {"baseline": [baseline]})["rows"]
        wanted = whole.table().to_dict("records")
        assert len(shown) == len(wanted) == 10
        for row, of in zip(shown, wanted, strict=True):
            assert (row["arm"], row["scorer"]) == (of["arm"], of["scorer"])
            assert str(row["rate"] or "nan") == str(of["rate"])
            for name in ("n", "accuracy", "low", "high", "tokens", "truncated", "repetitive"):
                assert row[name] == pytest.approx(of[name], nan_ok=True), (name, row)
            frame = whole.frame[whole.frame.rate.isna() | (whole.frame.rate == row["rate"])]
            sides = [frame[(frame.arm == arm) & (frame.scorer == row["scorer"])] for arm in (row["arm"], baseline)]
            if row["arm"] == baseline or sides[1].empty or (row["rate"] is None and baseline == "other"):
                assert "difference" not in row
                continue
            found = compared("a", sides[0], "b", sides[1], row["scorer"])
            one = found.accuracy["test-set"]
            assert (row["difference"], row["pairs"]) == (pytest.approx(one.value), one.n)
            assert [row["from"], row["to"]] == pytest.approx([one.low, one.high], nan_ok=True)
            assert row["p"] == pytest.approx(found.p["test-set"])
        for scorer in ("exact_match", "semantic"):
            rows = [row for row in shown if row["scorer"] == scorer and "p" in row]
            assert [row["holm"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]))


def test_every_dropped_answer_is_there_with_its_reason(get: Get, view: View) -> None:
    recipe = view.answers.files.results.recipe
    dropped = view.store.manifest(recipe.named("long-cot")).facts["dropped"]  # type: ignore[union-attr]
    assert dropped
    for reason, n in dropped.items():
        page = get(f"dropped?data=long-cot&reason={reason}").text
        assert page.count("<details>") == n and page.count(f"<summary>{reason.replace('_', ' ')}, ") == n
    assert get("dropped?data=long-cot").text.count("<details>") == sum(dropped.values())
    assert get("dropped?data=nothing").status_code == 400


def test_sets_with_a_problem_in_common_are_told(get: Get) -> None:
    page = get("data?first=train-set (train)&second=train-set (train)").text
    assert page.count('<td class="word">exact: ') == 30


def test_the_graph_leads_to_each_artifact(get: Get, view: View) -> None:
    page = get("lineage").text
    for one in view.store.all():
        assert f"artifact?id={one.id}" in page
        shown = get(f"artifact?id={one.id}").text
        assert f"<h1>{one.id}</h1>" in shown and one.content in shown
    for name in ("train-0000000000000000", "../../x", ""):
        assert get(f"artifact?id={name}").status_code == 400


def test_live_shows_what_runs_and_what_was_left(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    recipe, store = view_world(tmp_path, without=("verify",))
    spec = recipe.evaluations[0].spec
    work = store.recover(spec)
    other = store.recover(recipe.evaluations[1].spec)
    (other / "log.txt").write_text("it began\n<script>left</script>\n")
    (work / "task.json").write_text(json.dumps({"name": "lab-mini/ta-long"}))
    progress = {
        "done": 30,
        "total": 60,
        "unit": "steps",
        "note": "loss 0.5",
        "at": 15.0,
        "began": {"done": 0, "at": 0.0},
    }
    (work / "progress.json").write_text(json.dumps(progress))
    states = work / "scratch" / "checkpoint-20" / "trainer_state.json"
    states.parent.mkdir(parents=True)
    states.write_text(json.dumps({"log_history": [{"step": 10, "loss": 1.25}, {"step": 20, "loss": 0.75}]}))
    claim = store.locks.acquire(store.lock(spec.id))
    page = TestClient(application(View(store), TOKEN), base_url="http://localhost").get(f"/{TOKEN}/live").text
    assert claim and "1 stages run" in page and "lab-mini/ta-long" in page and "30 of 60 steps" in page
    assert "2.0/s" in page and "15 s" in page and "loss 0.5" in page and "10: 1.250, 20: 0.750" in page
    assert page.count('aria-label="Latest response') == 5 and "&lt;script&gt;left" in page
    store.locks.release(store.lock(spec.id))


def test_a_store_that_cannot_be_read_is_told_of_on_every_page(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    recipe, store = view_world(tmp_path)
    view, stop = View(store, recipe), threading.Event()
    shutil.rmtree(store.root / "view")
    (store.root / "view").write_text("a file where the folder was")
    view.follow(Once(stop))  # type: ignore[arg-type]
    page = TestClient(application(view, TOKEN), base_url="http://localhost").get(f"/{TOKEN}/responses").text
    assert "could not be read" in page


class Once:
    """An event that is set after one wait."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> None:
        self.event.set()


def test_variables_are_filters_and_columns_and_words_of_the_pages_are_refused(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    text = """
for: {NAME: [0, 1]}
let:
  test-set: {problems: {source: "lab:arithmetic", split: test, n: 9}}
  long-cot: {distill: {from: lab:teacher, data: {problems: {source: "lab:arithmetic", split: train, n: 9}}}}
arms: {tuned: {train: {base: lab:student, data: long-cot, seed: $NAME}}}
evaluate: {models: [arms], data: [test-set]}
"""
    for name in ("seed", "level", "page", "row"):
        (tmp_path / f"{name}.yaml").write_text(text.replace("NAME", name))
    recipe, store = recipes.load(str(tmp_path / "seed.yaml")), Store(tmp_path / "store")
    Answered(store, [f"What is {i}?" for i in range(9)], TEXTS).fill(recipe)
    view = View(store, recipe)
    view.refresh()
    get = TestClient(application(view, TOKEN), base_url="http://localhost").get
    assert count(get(f"/{TOKEN}/responses").text) == (18, 9)
    assert count(get(f"/{TOKEN}/responses?seed=1").text) == (9, 9)
    assert get(f"/{TOKEN}/tables?baseline=tuned").text.count("baseline</td>") == 2
    for name in ("level", "page", "row"):
        with pytest.raises(MicotaError, match=f"a variable called '{name}'"):
            View(store, recipes.load(str(tmp_path / f"{name}.yaml")))


def test_without_a_recipe_there_are_lineage_and_live(view: View) -> None:
    from starlette.testclient import TestClient

    client = TestClient(application(View(view.store), TOKEN), base_url="http://localhost", follow_redirects=False)
    assert client.get(f"/{TOKEN}/").headers["location"] == f"/{TOKEN}/lineage"
    assert client.get(f"/{TOKEN}/lineage").status_code == 200
    assert (client.get(f"/{TOKEN}/responses").status_code, client.get(f"/{TOKEN}/lengths.png").status_code) == (
        400,
        400,
    )


def test_an_export_is_the_same_pages_of_a_draw_that_is_said(tmp_path: Path) -> None:
    recipe, store = view_world(tmp_path)
    there, whole = export(View(store, recipe), tmp_path / "site", 150)
    pages = {path.name: path.read_text() for path in (tmp_path / "site").glob("*.html")}
    assert (there, whole) == (140, 420)
    assert "140 of 420 verdicts are here" in pages["index.html"]
    assert len([name for name in pages if name.startswith("problem-")]) == 10
    assert {"responses.html", "tables.html", "data.html", "lineage.html"} <= pages.keys() and "live.html" not in pages
    for name, text in pages.items():
        links = [html.unescape(link) for link in re.findall(r'(?:src|href)="([^"#]+)"', text)]
        assert [link for link in links if not (tmp_path / "site" / link).is_file()] == [], name
        assert "None" not in re.findall(r'(?:src|href|action)="([^"]*)"', text), name
    with pytest.raises(MicotaError, match="not empty"):
        export(View(store, recipe), tmp_path / "site", 150)


def test_the_report_leads_to_the_pages_and_they_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, store = view_world(tmp_path)
    report = store.root / "reports" / "lab-mini"
    assert command(monkeypatch, "report", "lab-mini", "--store", str(store.root)) == 0
    assert str(report / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert 'href="view/index.html"' in (report / "report.html").read_text()
    assert "](view/index.html)" in (report / "report.md").read_text()
    pages = {path.name: path.stat().st_size for path in (report / "view").iterdir()}
    assert sum(pages.values()) < 5_000_000 and len([name for name in pages if name.startswith("problem-")]) == 30
    assert (
        len([name for name in pages if name.startswith("compare-")]) == 12
    )  # six models with the baseline, two scorers
    monkeypatch.setattr(static_site, "BYTES", sum(pages.values()) // 2)
    assert command(monkeypatch, "report", "lab-mini", "--store", str(store.root)) == 0
    fewer = [path.name for path in (report / "view").glob("problem-*")]
    assert 0 < len(fewer) < 30 and sum(path.stat().st_size for path in (report / "view").iterdir()) <= static_site.BYTES
    monkeypatch.setattr(static_site, "MANY", 10)
    assert command(monkeypatch, "report", "lab-mini", "--store", str(store.root)) == 0
    assert not (report / "view").exists() and "view/index.html" not in (report / "report.html").read_text()


def test_an_export_has_at_least_one_problem(tmp_path: Path) -> None:
    recipe, store = view_world(tmp_path)
    assert export(View(store, recipe), tmp_path / "site", 1) == (14, 420)  # 7 models, 2 scorers
    page = (tmp_path / "site" / "responses.html").read_text()
    assert "14 of 420 verdicts are here" in page and count(page) == (7, 1)
    assert len(list((tmp_path / "site").glob("problem-*.html"))) == 1


class Shared(Answered):
    """Problem sets that have their texts in common, and each a reference answer, a level and a subject of its own."""

    def _asked(self, spec: Problems) -> list[dict[str, Any]]:
        about = {"answer": f"gold {spec.split}", "level": f"level {spec.split}", "subject": f"subject {spec.split}"}
        return [{"key": text_key(text), "problem": text, **about} for text in self._problems]


def test_a_problem_of_two_sets_has_the_reference_answer_of_its_own(tmp_path: Path) -> None:
    text = """
let:
  ones: {problems: {source: "lab:arithmetic", split: test}}
  twos: {problems: {source: "lab:arithmetic", split: train}}
arms: {student: "lab:student"}
evaluate: {models: [arms], data: [ones, twos]}
"""
    (tmp_path / "two.yaml").write_text(text)
    recipe, store = recipes.load(str(tmp_path / "two.yaml")), Store(tmp_path / "store")
    asked = [f"What is {i}?" for i in range(4)]
    Shared(store, asked, TEXTS).fill(recipe)
    view = View(store, recipe)
    view.refresh()
    for benchmark, split in (("ones", "test"), ("twos", "train")):
        for one in asked:
            shown = problem(view.answers, {"in": [benchmark], "key": [text_key(one)]})
            words = {name: f"{name} {split}" for name in ("gold", "level", "subject")}
            assert shown["problem"] == {"text": one, **words}
            assert [side["gold"] for side in shown["sides"]] == [words["gold"]]


def test_a_filter_quotes_any_name_of_a_variable() -> None:
    filters = Filters.of({'a" OR "b': ["1"]}, ['a" OR "b'], "semantic")
    assert filters.where()[0].endswith(' AND "a"" OR ""b" IN (?)')
