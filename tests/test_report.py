"""The report: hostile texts stay text in every format, figures cope with what is missing, files stay in the store."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import World, problem, script, with_roles
from fabricated import Fabricated
from test_recipe import command

from micota.recipe import recipe as recipes
from micota.recipe.variants import piece
from micota.report import drawing, figures, render
from micota.report.case import case
from micota.report.escape import PLAIN, fence, marked, visible
from micota.report.files import folder, page, publish, write
from micota.report.page import MISSING, Case, Cell, Figure, Page, Response, Section, Table
from micota.report.reflection import places
from micota.report.results import Results
from micota.stats import Estimate
from micota.store.artifacts import Store

EVIL = "</script><img src=x onerror=alert(1)>"
BIDI = "\u202eevil\u2066\u200f"
CONTROL = "\x00\x1b[31m\x07\x9b"
TICKS = "``` `````` ~~~"
HOSTILE = f"{EVIL} {BIDI} {CONTROL} {TICKS} {{{{7*7}}}} $x^2$ \\input{{/etc/passwd}} ]]> &lt; wait"
ALLOWED = {
    "a": {"href"},
    "code": set(),
    "div": {"class", "tabindex"},
    "figure": set(),
    "img": {"src", "alt"},
    "li": set(),
    "meta": {"charset", "http-equiv", "content", "name"},
    "p": {"class"},
    "section": {"id"},
    "source": {"media", "srcset"},
    "strong": {"class"},
    "td": {"class"},
    "th": {"class", "scope", "colspan"},
    "tr": {"class"},
    "ul": {"class"},
    "html": {"lang"},
} | {
    name: set()
    for name in (
        "body",
        "figcaption",
        "footer",
        "h1",
        "h2",
        "h3",
        "head",
        "mark",
        "nav",
        "picture",
        "pre",
        "style",
        "table",
        "tbody",
        "thead",
        "title",
        "u",
    )
}


VOID = ("meta", "img", "source")


class Strict(HTMLParser):
    """Collects what is in a page, and refuses what is not allowed in it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= ALLOWED[tag], (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def parsed(text: str) -> Strict:
    """The page, after the checks that hold for every page."""
    found = Strict()
    found.feed(text)
    found.close()
    assert found.open == []
    for tag, attributes in found.elements:
        for name in ("src", "srcset"):
            if name in attributes:
                assert re.fullmatch(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", attributes[name] or ""), tag
        assert re.fullmatch(r"#s\d+", attributes.get("href") or "#s1")
    policies = [a["content"] for _, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert_visible(text)
    return found


def assert_visible(text: str) -> None:
    assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []


def rows_of(name: str, texts: list[str]) -> str:
    return "".join(json.dumps({"problem": text, "answer": name}) + "\n" for text in texts)


@pytest.fixture
def hostile(world: World) -> World:
    """A world whose test problems, answers, golds and names are hostile; only the training data is tame."""
    texts = [f"{HOSTILE} {i}" for i in range(3)] + ["x" * 2_000_000]
    world.write("test.jsonl", rows_of(f"=1+1 {EVIL}", texts))
    huge = "`" * 2_000_000 + EVIL
    answers = [{"problem": "*", "text": HOSTILE + "\n" + "wait " * 400_000}, {"problem": texts[0], "text": huge}]
    world.write("answers.jsonl", script(map(problem, range(20))) + "".join(json.dumps(a) + "\n" for a in answers))
    text = world.recipe_file.read_text()
    name = json.dumps(EVIL + BIDI + "$\\frac{")
    text = text.replace("name: small", "name: " + json.dumps(EVIL.replace("/", "")))
    text = text.replace("  micota: {train", f"  micota: {{name: {name}, train").replace(
        "mid-cot}}\nev", "mid-cot}}\nev"
    )
    text = text.replace("arms:", "  half-cot: {distil: {from: ta-long, data: train-set}}\narms:")
    text = text.replace("evaluate:", "  half: {train: {base: student, data: half-cot}}\nevaluate:")
    world.recipe_file.write_text(with_roles(text))
    return world


def test_hostile_texts_are_shown_and_never_run(hostile: World) -> None:
    hostile.run()
    path = write(hostile.load(), hostile.store)
    assert path.is_relative_to(hostile.store.root / "reports")
    assert len(path.relative_to(hostile.store.root).parts) == 3
    found = parsed(path.read_text(encoding="utf-8"))
    said = "".join(found.text)
    assert said.count(EVIL) >= 4, "titles, problem and responses show it as text"
    assert "\\u202eevil" in said and "\\x00\\x1b[31m\\x07\\x9b" in said
    assert path.stat().st_size < 2_000_000
    assert re.search(r"[\d,]{9} more characters are left out", said)
    markdown = (path.parent / "report.md").read_text(encoding="utf-8")
    assert_visible(markdown)
    assert len(markdown) < 100_000
    assert "<" not in outside_fences(markdown)
    for table in (path.parent / "tables").glob("*.*"):
        assert_visible(table.read_text(encoding="utf-8"))


def outside_fences(markdown: str) -> str:
    """The lines of a Markdown text that stand in no fence; every fence is closed."""
    kept, closing = [], ""
    for line in markdown.splitlines():
        run = re.match(r"`{3,}", line)
        if closing:
            closing = "" if run and len(run[0]) >= len(closing) and not line.strip("`") else closing
        elif run:
            closing = run[0]
        else:
            kept.append(line)
    assert not closing
    return "\n".join(kept)


TABLE = Table(
    "table9",
    f"A title {HOSTILE}",
    ("Model", "=HYPERLINK(1)", "a & b | c"),
    (
        (Cell(f"7B {EVIL}"),),
        (Cell("=cmd|' /C calc'!A0"), Cell("45.3 ± 2.5", 45.31, bold=True), Cell("-3.0", -3.0)),
        (Cell("@me_[x](http://a.b)"), MISSING, Cell("50 %", 50.0, underline=True)),
        (Cell("+1"), Cell("[+1.2, +9.8]"), Cell("nan", float("nan"))),
    ),
    caption=f"What `code` is {HOSTILE}",
)


def test_a_table_as_csv_keeps_numbers_and_holds_no_formula() -> None:
    head, *rows = csv.reader(io.StringIO(render.table_csv(TABLE)))
    assert head == ["group", "Model", "'=HYPERLINK(1)", "a & b | c"]
    assert rows[0] == [f"7B {EVIL}", "'=cmd|' /C calc'!A0", "45.31", "-3.0"]
    assert rows[1][1:] == ["'@me_[x](http://a.b)", "", "50.0"]
    assert rows[2][1:] == ["'+1", "[+1.2, +9.8]", ""]


def test_a_table_as_latex_is_balanced_and_quotes_every_special() -> None:
    text = render.latex(TABLE)
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)
    depth = 0
    for char in bare:
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth >= 0
    assert depth == 0
    begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert begun == ended[::-1] == ["table", "tabular"]
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\textbf{45.3 $\pm$ 2.5}" in text and r"\underline{50 \%}" in text
    assert r"\multicolumn{3}{l}{\textit{7B " in text
    assert not re.search(r"\\input\b", text)
    assert all(ord(char) < 0x180 for char in text)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows if "multicolumn" not in row} == {2}


def test_a_table_as_html_and_as_markdown() -> None:
    one = Page("T", ("a note",), (Section("S", "Text with `code`.\n\n1. <b>", (TABLE,)),))
    found = parsed(render.html(one, {}))
    assert [tag for tag, _ in found.elements].count("tr") == 5
    assert ("th", {"colspan": "3", "scope": "colgroup"}) in found.elements
    markdown = render.markdown(one)
    assert "| **45.3 ± 2.5** |" in markdown and "| *50 %* |" in markdown
    assert "`code`" in markdown and "1\\. &lt;b&gt;" in markdown
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_what_cannot_be_seen_is_written_as_an_escape() -> None:
    assert visible("a\x00\x7f\x85\u202e\ud800\U000e0041\n\té漢") == "a\\x00\\x7f\\x85\\u202e\\ud800\\U000e0041\n\té漢"
    assert fence("a ```` b") == "`````" and fence("a") == "```"
    assert list(marked("wait, ok", ((0, 4), (90, 94)))) == [("", False), ("wait", True), (", ok", False)]


def test_a_response_is_cut_where_it_is_long_and_its_words_are_marked_and_counted() -> None:
    text = "Wait. " * 2_000
    one = Case("c", "T", "p", "7", (Response("A", "wrong", 9, text, places(text)),))
    found = parsed(render.html(Page("T", (), (Section("S", "", (one,)),)), {}))
    said = "".join(found.text)
    assert "2,000 reflection words" in said and f"{12_000 - PLAIN:,} more characters are left out." in said
    assert [tag for tag, _ in found.elements].count("mark") == -(-PLAIN // 6)


RICH = """
name: rich
for: {size: [small, tiny], seed: [1, 2]}
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match}
  train: {precision: float32, seed: $seed, system: $size}
let:
  train-set: {problems: {source: "lab:arithmetic", split: train}}
  probe-set: {problems: {source: "lab:arithmetic", split: dev}}
  set-a: {problems: {source: "lab:arithmetic", split: test, seed: 1}}
  set-b: {problems: {source: "lab:arithmetic", split: test, seed: 2}}
  teacher: lab:teacher
  ta: lab:ta
  student: lab:student
  long-cot: {distil: {from: teacher, data: train-set}}
  ta-long: {train: {base: ta, data: long-cot, seed: 0, system: none}}
  ta-mid:
    dial: {seed: $seed, base: ta, models: [ta-long], method: dare_ties, density: 0.7, rescale: inverse_density,
           weight: [0.4, 0.8], steps: 3, refine: 0, target: {length: 0.5, of: ta-long}, fallback: nearest,
           probe: {data: probe-set, n: 4, prompt: "{problem}", precision: float32}}
  mid-cot: {distil: {from: ta-mid, data: train-set}}
  half-cot: {distil: {from: ta-long, data: train-set}}
  mixed: {mix: [{data: long-cot, share: 0.5}, {data: half-cot, share: 0.5}]}
arms:
  instruct: student
  strong: {train: {base: student, data: long-cot}}
  half: {train: {base: student, data: half-cot}}
  mix_long: {train: {base: student, data: mixed}}
  micota: {train: {base: student, data: mid-cot}}
  micota_tokens: {train: {base: student, data: mid-cot, target_tokens: 500}}
evaluate: {models: [arms, teacher, ta, ta-long, ta-mid], data: [set-a, set-b], prompt: "{problem}", precision: float32}
measure: {bpc: {models: [student], data: [long-cot, mid-cot], precision: float32}}
"""
DOTS = {f"accuracy_by_length{matched}{group}" for matched in ("", "_tokens") for group in (1, 2)}
LOSSES = {f"loss{matched}{group}" for matched in ("", "_tokens") for group in (1, 2)}
ALL = DOTS | LOSSES | {"figure2", "figure3", "dial", "task_vectors", "lengths"}


def fabricated(tmp_path: Path, without: tuple[str, ...] = ()) -> tuple[recipes.Recipe, Store]:
    (tmp_path / "rich.yaml").write_text(with_roles(RICH))
    recipe = recipes.load(str(tmp_path / "rich.yaml"))
    problems = [f"What is {i} + {i}?" for i in range(12)]
    Fabricated(Store(tmp_path / "store"), problems, ["Hmm, wait: it is 7.", "8"]).fill(recipe, without)
    return recipe, Store(tmp_path / "store")


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> tuple[recipes.Recipe, Store]:
    """The whole of it, done once."""
    return fabricated(tmp_path_factory.mktemp("rich"))


def drawn(one: Page) -> dict[str, Figure]:
    return {item.key: item for section in one.sections for item in section.items if isinstance(item, Figure)}


def test_every_figure_is_drawn_beside_its_table_and_the_same_each_time(rich: tuple[recipes.Recipe, Store]) -> None:
    recipe, store = rich
    path = write(recipe, store)
    there = {one.name: one.read_bytes() for one in (path.parent / "figures").iterdir()}
    assert set(there) == {f"{key}.png" for key in ALL}
    found = parsed(path.read_text())
    alts = [attributes.get("alt") or "" for tag, attributes in found.elements if tag == "img"]
    assert len(alts) == len(ALL) and all(len(alt) > 30 for alt in alts)
    again = page(recipe, Store(store.root))
    shown = drawn(again)
    assert drawing.picture(shown["accuracy_by_length1"]).png == there["accuracy_by_length1.png"]
    once, twice = drawing.picture(shown["dial"]), drawing.picture(shown["dial"])
    assert once == twice
    assert once.dark != once.light and b"#15181d" in once.dark and b"#fffffe" not in once.dark
    first = again.sections[0]
    assert [type(item).__name__ for item in first.items][:3] == ["Figure", "Figure", "Table"]
    assert "24 problems of set-a, set-b; 2 seeds" in shown["accuracy_by_length1"].caption
    assert "0.5" in shown["dial"].alt or "weight" in shown["dial"].alt
    assert "× after" not in path.read_text(), "the share stands in the picture"
    extra = path.parent / "figures" / "old.png"
    extra.write_bytes(b"")
    publish(again, path.parent)
    assert not extra.exists()
    assert not list(path.parent.rglob(".*"))


@pytest.mark.parametrize(
    ("without", "gone", "says"),
    [
        (("train",), {"loss1", "loss_tokens2"}, "Training loss of the arms (small): left out"),
        (("search",), {"dial"}, "length over the setting: left out"),
        (
            ("verify",),
            DOTS | {"figure2", "figure3"},
            ": left out",
        ),
        (("generate", "verify", "select", "mix", "train", "bpc", "merge", "problems", "search"), ALL, ": left out"),
    ],
)
def test_what_is_missing_leaves_a_line_and_the_command(
    tmp_path: Path, without: tuple[str, ...], gone: set[str], says: str
) -> None:
    recipe, store = fabricated(tmp_path, without)
    one = page(recipe, store)
    assert not gone & set(drawn(one))
    text = "\n".join(section.text for section in one.sections)
    assert says in text and "`micota run` makes" in text
    notes = " ".join(one.notes)
    assert ("evaluations are missing" in notes) == ("verify" in without)
    assert re.search(r"\d+ of \d+ stages are done", notes)
    if len(drawn(one)) < 8:
        assert parsed(publish(one, folder(recipe, store)).read_text())


def test_the_case_is_chosen_by_a_rule_that_counts_both_ways(rich: tuple[recipes.Recipe, Store]) -> None:
    recipe, store = rich
    results = Results(recipe, store)
    (found,) = case(results)
    assert isinstance(found, Case)
    rows = results.frame.query("scorer == 'exact_match' and benchmark == 'set-a' and seed == 1 and size == 'small'")
    half, micota = (
        dict(zip(part.problem, part.verdict == "correct", strict=True))
        for part in (rows[rows.arm == arm] for arm in ("half", "micota"))
    )
    won = sorted(key for key in micota if micota[key] and not half[key])
    lost = [key for key in micota if half[key] and not micota[key]]
    assert f"there are {len(won)} such, and {len(lost)} the other way round" in found.caption
    texts = {row["key"]: row["problem"] for row in results.rows(recipe.evaluations[0].spec.problems)}
    assert found.problem == texts[won[0]]
    assert [(one.title, one.verdict) for one in found.responses] == [("Half-size CoT", "wrong"), ("MiCoTA", "correct")]
    assert all(one.reflections == places(one.text) for one in found.responses)


def test_no_seed_lies_outside_the_figure_of_accuracy_and_length() -> None:
    from matplotlib.figure import Figure as Sheet

    axes = Sheet(layout="constrained").subplots()
    seeds, percent = ((200.0, 8.0), (205.0, 75.0)), Estimate(40.0, 1.0, 38.0, 42.0)
    figures.draw_dots(axes, [figures.Dot("_Half", "half", "grey", Estimate(204.0), percent, seeds)])
    low, high = axes.get_ylim()
    assert low < 8 and high > 75


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a/b", "..", "", "\x00", "x" * 300, "Ü ber", EVIL])
def test_a_name_is_one_piece_of_a_path(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=~-]{0,80}", piece(name))
    assert piece(name) != piece(name + "?")


def test_a_plain_name_stays_as_it_is() -> None:
    assert piece("lab-mini") == "lab-mini"
    assert piece("paper_7B.v2") == "paper_7B.v2"


def test_the_command_prints_table_2_and_what_holds_and_ends_with_the_path(
    rich: tuple[recipes.Recipe, Store], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, store = rich
    assert command(monkeypatch, "report", str(store.root.parent / "rich.yaml"), "--store", str(store.root)) == 0
    said = capsys.readouterr().out
    assert said.index("Table 2") < said.index("MiCoTA is better than Instruct")
    assert said.splitlines()[-1] == f"report: {folder(recipe, store) / 'report.html'}"


def test_a_report_is_loaded_without_what_draws_it() -> None:
    modules = "micota.report.files, micota.cli.tables"
    code = f"import sys, {modules}; print([m for m in ('matplotlib', 'numpy') if m in sys.modules])"
    loaded: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
