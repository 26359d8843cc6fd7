"""A page as one HTML file that needs nothing else: no scripts, nothing from outside, light and dark, paper and phone.

Elements are built by `el`, which escapes whatever is not HTML already.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

from micota.report.drawing import Picture
from micota.report.escape import PLAIN, clipped, coded, long, marked, paragraphs, short, visible
from micota.report.page import Case, Cell, Figure, Page, Response, Section, Table
from micota.report.render import facts

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
VOID = ("meta", "img", "source")
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2129; --soft: #5c6470; --line: #d9dde3; --shade: #f5f6f8;
  --accent: #0067a5; --mark: #ffe28a; --marked: #1d2129; --good: #00664f; --bad: #b3261e }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #15181d; --ink: #e6e8eb; --soft: #a2abb6;
  --line: #353b44; --shade: #1d2127; --accent: #6cb8ee; --mark: #8a6d00; --marked: #fff; --good: #55c9a5;
  --bad: #ff8f85 } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3.25rem 0 .6rem; padding-top: .9rem;
  border-top: 2px solid var(--ink) }
p { margin: 0 0 .8rem; max-width: 46rem }
ul.notes { margin: 0 0 1.25rem; padding: 0; list-style: none; color: var(--soft) }
ul.notes li { max-width: 46rem; margin: .2rem 0 }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .9rem }
a { color: var(--accent); text-underline-offset: .18em }
figure { margin: 1.75rem 0 2.25rem }
figcaption { font-weight: 600; margin-bottom: .6rem; max-width: 46rem }
.note { font-size: .875rem; line-height: 1.5; color: var(--soft); margin: .6rem 0 0 }
img { display: block; width: 100%; height: auto }
.wide { max-width: 58rem } .plain { max-width: 42rem }
.scroll { overflow-x: auto; 
  background: linear-gradient(to left, var(--paper) 40%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--line), transparent) right / 1rem 100% no-repeat scroll }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.4; font-variant-numeric: tabular-nums;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); overflow-wrap: normal }
th, td { padding: .32rem .55rem; text-align: right; white-space: nowrap; vertical-align: top; font-weight: 400 }
thead th { vertical-align: bottom; white-space: normal; font-weight: 600; border-bottom: 1px solid var(--ink) }
.word { text-align: left; white-space: normal; min-width: 10.5rem; max-width: 22rem; overflow-wrap: anywhere }
tr > :first-child { padding-left: .1rem; position: sticky; left: 0; background: var(--paper) }
tbody tr + tr > * { border-top: 1px solid var(--line) }
tr.group th { text-align: left; font-weight: 600; padding-top: .9rem; color: var(--soft); white-space: normal }
u { text-decoration-thickness: 1px; text-underline-offset: .2em }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--shade); padding: .1em .3em;
  border-radius: 3px }
pre { margin: .5rem 0 0; padding: .8rem .9rem; max-height: 30rem; overflow: auto; background: var(--shade);
  border: 1px solid var(--line); border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .82rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; unicode-bidi: plaintext }
mark { background: var(--mark); color: var(--marked); border-radius: 3px; padding: 0 .15em; font-weight: 600 }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.25rem;
  margin-top: 1.25rem }
.sides section { min-width: 0 }
h3 { font-size: 1rem; margin: 0 }
pre + p { margin: .5rem 0 0 }
.facts { font-size: .9rem; color: var(--soft); margin: .1rem 0 0 }
.correct { color: var(--good) } .wrong { color: var(--bad) }
footer { margin-top: 3.5rem; padding-top: .8rem; border-top: 1px solid var(--line); font-size: .85rem;
  color: var(--soft) }
@media (max-width: 40rem) { .plain, .wide { overflow-x: auto } .plain img { width: 31rem } .wide img { width: 44rem }
  body { padding: 1.25rem 1rem 3rem } h1 { font-size: 1.6rem }
  .word { min-width: 7.5rem; max-width: 9.5rem } th, td { padding: .3rem .5rem } table { font-size: .8125rem } }
@media print { body { max-width: none; padding: 0; font-size: 10pt } nav { display: none }
  .scroll, pre { overflow: visible; max-height: none } .scroll { background: none }
  .scroll, .sides section, tr, img, figcaption { break-inside: avoid }
  h2, h3, figcaption { break-after: avoid } table { font-size: 8pt } th, td { padding: .2rem .35rem } }
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def el(name: str, /, *children: str, **attributes: str) -> Html:
    """An element; children and attributes are escaped unless they are Html. `class_` is the attribute class.

    >>> el("p", "1 < 2", el("b", "&"), class_="x")
    '<p class="x">1 &lt; 2<b>&amp;</b></p>'
    """
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{_safe(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{pairs}>" + ("" if name in VOID else f"{join(*children)}</{name}>"))


def join(*children: str) -> Html:
    return Html("".join(map(_safe, children)))


def _safe(text: str) -> str:
    return text if isinstance(text, Html) else html.escape(visible(text))


def whole(page: Page, pictures: Mapping[str, Picture], footer: str = "") -> str:
    """The page as HTML; `pictures` has each figure as it is drawn, by its key."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", **{"http-equiv": "Content-Security-Policy"}, content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", short(page.title)),
        el("style", Html(STYLE)),
    )
    sections = [_section(i, section, pictures) for i, section in enumerate(page.sections, 1)]
    links = [el("a", short(section.title), href=f"#s{i}") for i, section in enumerate(page.sections, 1)]
    notes = el("ul", *(el("li", _inline(note)) for note in page.notes), class_="notes")
    body = el("body", el("h1", short(page.title)), notes, el("nav", *links), *sections, el("footer", _inline(footer)))
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _section(number: int, section: Section, pictures: Mapping[str, Picture]) -> Html:
    text = [el("p", _inline(paragraph)) for paragraph in paragraphs(section.text)]
    items = [_item(item, pictures) for item in section.items]
    return el("section", el("h2", short(section.title)), *text, *items, id=f"s{number}")


def _item(item: Table | Figure | Case, pictures: Mapping[str, Picture]) -> Html:
    if isinstance(item, Table):
        return _table(item)
    return _picture(item, pictures[item.key]) if isinstance(item, Figure) else _case(item)


def _inline(text: str) -> Html:
    """A paragraph; what stands between backticks is code."""
    return join(*(el("code", piece) if code else piece for piece, code in coded(long(text))))


def _framed(title: str, caption: str, *inside: Html) -> Html:
    """What a figure or a table shows, its title above it and its caption below."""
    below = [el("p", _inline(caption), class_="note")] if caption else []
    return el("figure", el("figcaption", short(title)), *inside, *below)


def _table(table: Table) -> Html:
    words = table.words
    head = [el("th", short(name), scope="col", **_word(i, words)) for i, name in enumerate(table.head)]
    rows = [_row(row, len(table.head), words) for row in table.rows]
    made = el("table", el("thead", el("tr", *head)), el("tbody", *rows))
    return _framed(table.title, table.caption, el("div", made, class_="scroll", tabindex="0"))


def _row(row: tuple[Cell, ...], width: int, words: int) -> Html:
    if len(row) == 1 < width:
        return el("tr", el("th", short(row[0].text), colspan=str(width), scope="colgroup"), class_="group")
    first: dict[str, Any] = {"scope": "row"}
    cells = [
        el("td" if i else "th", _cell(cell), **({} if i else first), **_word(i, words)) for i, cell in enumerate(row)
    ]
    return el("tr", *cells)


def _word(column: int, words: int) -> dict[str, str]:
    return {"class_": "word"} if column < words else {}


def _cell(cell: Cell) -> str:
    text = short(cell.text)
    return el("strong", text) if cell.bold else el("u", text) if cell.underline else text


def _picture(figure: Figure, drawn: Picture) -> Html:
    night = el("source", media="screen and (prefers-color-scheme: dark)", srcset=_data(drawn.dark))
    picture = el("picture", night, el("img", src=_data(drawn.light), alt=long(figure.alt)))
    size = "wide" if figure.panels > 1 else "plain"
    return _framed(figure.title, figure.caption, el("div", picture, class_=size))


def _data(svg: bytes) -> Html:
    return Html("data:image/svg+xml;base64," + base64.b64encode(svg).decode())


def _case(case: Case) -> Html:
    problem = el("div", el("h3", "Problem"), _shown(case.problem, ()), el("p", f"Gold answer: {short(case.gold)}"))
    sides = el("div", *map(_response, case.responses), class_="sides")
    return _framed(case.title, case.caption, problem, sides)


def _response(response: Response) -> Html:
    colour = "correct" if response.verdict == "correct" else "wrong"
    said, _, rest = facts(response).partition(",")
    line = el("p", el("strong", said, class_=colour), f",{rest}", class_="facts")
    return el("section", el("h3", short(response.title)), line, _shown(response.text, response.reflections))


def _shown(text: str, reflections: tuple[tuple[int, int], ...]) -> Html:
    """The beginning of a text, with its reflection words marked, and how much was left out."""
    shown, left_out = clipped(text, PLAIN)
    pieces = [el("mark", piece) if word else piece for piece, word in marked(shown, reflections)]
    more = [el("p", f"{left_out:,} more characters are left out.", class_="facts")] if left_out else []
    return join(el("pre", *pieces), *more)
