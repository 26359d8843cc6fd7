"""The page as HTML and Markdown, a table as LaTeX (booktabs) and CSV, by the templates beside this file.

Every text is data: each format quotes whatever a template prints unless it is quoted already, and no markup survives.
"""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from micota.report.drawing import Picture
from micota.report.escape import PLAIN, clipped, coded, fence, long, marked, paragraphs, short, visible
from micota.report.page import MISSING, Cell, Page, Table
from micota.report.texts import TEMPLATES, text

DELIMITERS = ("block_start_string", "block_end_string", "variable_start_string", "variable_end_string")
MARKUP = re.compile(r"([\\`*_\[\]|~$@]|:(?=//))")
START = re.compile(r"^(\s*\d*)(?=[#+\-=.)])")
FORMULA = re.compile(r"^[\s]*[=+\-@\t\r]")
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": r"$-$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "Δ": r"$\Delta$",
    "√": r"$\surd$",
    "\u00a0": "~",
    "\u202f": r"\,",
} | {char: "\\" + char for char in "#$%&_{}"}


@cache
def environment(quote: Callable[[str], str], folder: Path = TEMPLATES, **settings: str) -> Environment:
    """Jinja with what the templates use; everything that a template prints and that is no Markup yet is quoted.

    Templates come from a folder, else from those of the report.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(quote(visible(str(value)))),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **settings,  # type: ignore[arg-type]
    )
    environment.filters |= {"short": short, "coded": coded, "marked": marked, "paragraphs": paragraphs, "data": _data}
    environment.filters |= {
        "clip": lambda text: clipped(text, PLAIN),
        "long": long,
        "inline": _inline,
        "fenced": _fenced,
    }
    return environment


def html(page: Page, pictures: Mapping[str, Picture]) -> str:
    """The page as one HTML file that needs nothing else: no scripts, nothing from outside."""
    template = environment(escape).get_template("report.html")
    words = {"footer": text("page", "footer"), "about": text("page", "pages")}
    return template.render(page=page, pictures=pictures, **words).lstrip() + "\n"


def markdown(page: Page) -> str:
    """The page as GitHub's Markdown; its figures are beside it."""
    return environment(_line).get_template("report.md").render(page=page, about=text("page", "pages")).strip() + "\n"


def latex(table: Table) -> str:
    """A floating table for booktabs: `\\usepackage{booktabs}` and `\\usepackage[T1]{fontenc}` is all it needs."""
    marks = dict(zip(DELIMITERS, ("<%", "%>", "<<", ">>"), strict=True))
    return environment(_tex, **marks).get_template("table.tex").render(table=table).lstrip() + "\n"


def _data(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _inline(paragraph: str) -> Markup:
    """A paragraph of Markdown; what is between backticks stays code."""
    flat = long(paragraph).replace("\n", " ")
    pieces = "".join(f"`{piece}`" if code else _quoted(piece) for piece, code in coded(flat))
    return Markup(START.sub(r"\1\\", pieces))


def _fenced(text: str) -> Markup:
    visible_text = visible(clipped(text, PLAIN)[0])
    return Markup(f"{fence(visible_text)}text\n{visible_text}\n{fence(visible_text)}")


def _quoted(text: str) -> str:
    """Text in which nothing is Markdown or HTML any more."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKUP.sub(r"\\\1", plain)


def _line(text: str) -> str:
    return _quoted(short(text))


def _tex(text: str) -> str:
    """Text for a plain article: all of TeX's specials quoted, what its fonts lack written as an escape."""
    return "".join(SPECIAL.get(char) or _letter(char) for char in text.replace("\n", " "))


def _letter(char: str) -> str:
    known = char < "\x7f" or (char.isalpha() and char < "\u0180")
    return char if known else rf"\textbackslash{{}}u{ord(char):04x}"


def table_csv(table: Table) -> str:
    """The numbers behind the cells, in full; a heading becomes the first column of the rows below it."""
    grouped = any(len(row) == 1 < len(table.head) for row in table.rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(["group"] if grouped else []), *map(_text, table.head)])
    heading = ""
    for row in table.rows:
        if len(row) == 1 < len(table.head):
            heading = _text(row[0].text)
        else:
            writer.writerow([*([heading] if grouped else []), *map(_value, row)])
    return out.getvalue()


def _value(cell: Cell) -> str | float:
    if cell.value is not None:
        return cell.value if math.isfinite(cell.value) else ""
    return "" if cell == MISSING else _text(cell.text)


def _text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    visible_text = short(text)
    return "'" + visible_text if FORMULA.match(visible_text) else visible_text
