"""The view in a real browser: each page by clicks and keys, hostile texts, requests, faults of accessibility.

Run by `make test-browser`, with Playwright in an environment of its own and Debian's Chromium; SCREENSHOTS=DIR keeps a
picture of every page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from view_world import view_world

from micota.report.results import Results
from micota.viewer.pages import View
from micota.viewer.static_site import export

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(os.environ.get("AXE", "axe.min.js"))
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
PAGES = ("responses", "problem", "tables", "compare", "data", "dropped", "lineage", "artifact", "live")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return view_world(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def address(world: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that `micota view` prints, as long as it runs."""
    command = [
        sys.executable,
        "-c",
        "from micota.cli.main import main; main()",
        "view",
        "lab-mini",
        "--store",
        str(world[1].root),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        line = running.stdout.readline().strip()
        assert line.startswith("http://127.0.0.1:"), line
        yield line
        running.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert CHROMIUM, "there is no Chromium: apt-get install chromium, or name one in CHROMIUM"
    with sync_playwright() as run:
        chromium = run.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


class Watched:
    """A page with all that it asked for, and all that its console said."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def check(self, where: str) -> None:
        """Nothing ran that stands in a text, nothing was asked for elsewhere, the console is silent."""
        assert self.page.evaluate("window.hit") is None, where
        away = [url for url in self.requests if not url.startswith(("http://127.0.0.1:", "file://"))]
        assert (away, self.errors) == ([], []), where
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1, f"{where}: the page is {wide} pixels wider than the window"

    def faults(self) -> list[str]:
        """What axe-core calls serious or critical."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))  # over the debugger, which no policy binds
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')}" for one in found
                if one["impact"] in ("serious", "critical") for node in one["nodes"]]  # fmt: skip

    def picture(self, name: str) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=False)


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    one = Watched(browser, viewport={"width": 1200, "height": 900})
    yield one
    one.context.close()


def to(page: Any, name: str) -> None:
    """Go to a page by clicks, from the responses."""
    if name in ("problem",):
        page.click("tbody a >> nth=0")
    elif name == "compare":
        page.click("nav >> text=Tables")
        page.select_option("select[name=baseline]", "instruct")
        page.click("#table a[href*='/compare']:visible >> nth=0")
    elif name == "dropped":
        page.click("nav >> text=Data")
        page.click("a[href*='/dropped']:visible >> nth=0")
    elif name == "artifact":
        page.click("nav >> text=Lineage")
        page.click("tbody a >> nth=0")
    else:
        page.click(f"nav >> text={name.capitalize()}")
    page.wait_for_load_state()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1200, "height": 900}},
        {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"},
    ],
    ids=["desk", "dark-phone"],
)
def test_each_page_is_reached_by_clicks_and_has_no_serious_fault(
    browser: Any, address: str, name: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    one = Watched(browser, **options)
    one.page.goto(address)
    one.page.wait_for_selector("tbody a")
    to(one.page, name)
    assert f"/{name}" in one.page.url
    for details in one.page.query_selector_all("details > summary"):
        details.click()
    one.picture(f"{name}-{request.node.callspec.id.split('-', 1)[0]}")
    one.check(name)
    assert one.faults() == []
    one.context.close()


def test_the_keys_lead_through_exactly_the_problems_that_one_solves_and_another_does_not(
    watched: Watched, address: str, world: tuple[Any, Any]
) -> None:
    frame = Results(*world).frame
    rows = frame[frame.scorer == "semantic"].set_index("problem")
    right, wrong = (rows[rows.arm == arm].verdict == "correct" for arm in ("micota", "strong"))
    wanted = sorted(right.index[right & ~wrong.reindex(right.index)])
    page = watched.page
    page.goto(address)
    page.select_option("select[name=right]", "micota")
    page.select_option("select[name=wrong]", "strong")
    page.wait_for_url("**right=micota*wrong=strong**")
    page.wait_for_function(
        f"document.querySelector('#list [role=status]').innerText.includes('to {len(wanted)} problems')"
    )
    page.click("tbody a >> nth=0")
    seen = []
    for _ in range(len(wanted) + 2):
        page.wait_for_load_state()
        seen.append(page.url.partition("key=")[2][:16])
        if page.query_selector("a[rel=next]") is None:
            break
        with page.expect_navigation():
            page.keyboard.press("ArrowRight")
    assert seen == wanted
    with page.expect_navigation():
        page.keyboard.press("ArrowLeft")
    assert page.url.partition("key=")[2][:16] == wanted[-2]
    closed = page.locator(".sides details:not([open])").count()
    page.keyboard.press("t")
    assert page.locator(".sides details[open]").count() > 0 and closed > 0
    watched.check("keys")
    with page.expect_navigation():
        page.keyboard.press("u")
    assert "/responses" in page.url and "right=micota" in page.url


def test_a_search_and_the_filters_change_the_list_without_a_new_page(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    page.evaluate("window.same = true")
    page.keyboard.press("/")
    page.keyboard.type("zebra")
    page.wait_for_url("**q=zebra**")
    assert page.evaluate("window.same") and page.evaluate("document.activeElement.name") == "q"
    page.check("input[name=disagree]")
    page.wait_for_url("**disagree=1**")
    with page.expect_download() as download:
        page.click("text=Download as JSONL")
    assert download.value.suggested_filename == "responses.jsonl"
    page.go_back()
    page.wait_for_function("!location.search.includes('disagree')")
    watched.check("search")


def test_the_table_sorts_by_a_click_and_takes_a_baseline(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    to(page, "tables")
    page.select_option("select[name=baseline]", "instruct")
    page.wait_for_selector("text=Difference, points")
    page.click("th >> text=Accuracy, %")
    page.wait_for_selector("th[aria-sort=descending]")
    cells = page.eval_on_selector_all("tbody tr td strong", "all => all.map(one => parseFloat(one.innerText))")
    assert cells == sorted(cells, reverse=True) and len(cells) == 14
    watched.picture("tables-baseline")
    watched.check("tables")
    assert watched.faults() == []


@pytest.mark.parametrize("place", ["disk", "web server"])
def test_an_export_works_from_a_disk_and_a_web_server(
    watched: Watched, world: tuple[Any, Any], tmp_path: Path, place: str
) -> None:
    export(View(world[1], world[0]), tmp_path / "site", 150)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = watched.page
        page.goto(
            f"http://127.0.0.1:{server.server_port}/"
            if place != "disk"
            else (tmp_path / "site" / "index.html").as_uri()
        )
        assert page.evaluate("getComputedStyle(document.body).maxWidth") != "none"
        page.select_option("select[name=model]", "micota")
        assert page.locator("tbody tr:visible").count() == page.locator("tr[data-model=micota]").count() == 10
        watched.picture("export")
        page.click("tbody tr:visible a >> nth=0")
        page.wait_for_selector(".sides section")
        assert page.locator(".sides section").count() == 7
        for name in ("tables", "data", "lineage"):
            with page.expect_navigation():  # with its style sheet
                page.click(f"nav >> text={name.capitalize()}")
            watched.check(name)
        server.shutdown()
    assert watched.faults() == []
