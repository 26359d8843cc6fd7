"""A page as Markdown; a table as LaTeX (booktabs) and as CSV. Every text is data: no markup of its own survives."""

from __future__ import annotations

import csv
import io
import math
import re

from micota.report.escape import PLAIN, clipped, coded, fence, long, paragraphs, short, visible
from micota.report.page import MISSING, Case, Cell, Figure, Page, Response, Section, Table

FIGURES = "figures"  # the folder of the pictures, beside the page
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


def markdown(page: Page) -> str:
    """The page as GitHub's Markdown; its figures lie beside it."""
    lines = [f"# {_quoted(short(page.title))}", "", *(f"- {_inline(note)}" for note in page.notes), ""]
    for section in page.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section) -> list[str]:
    lines = [f"## {_quoted(short(section.title))}", ""]
    for paragraph in paragraphs(section.text):
        lines += [_inline(paragraph), ""]
    for item in section.items:
        if isinstance(item, Table):
            lines += _table(item)
        elif isinstance(item, Figure):
            picture = f"![{_quoted(short(item.alt))}]({FIGURES}/{item.key}.png)"
            lines += _framed(item.title, item.caption, [picture])
        else:
            lines += _case(item)
    return lines


def _framed(title: str, caption: str, inside: list[str]) -> list[str]:
    """What a figure or a table shows, its title above it and its caption below."""
    return [f"**{_quoted(short(title))}**", "", *inside, "", *([_inline(caption), ""] if caption else [])]


def _table(table: Table) -> list[str]:
    rule = "|" + "|".join(["---"] * table.words + ["---:"] * (len(table.head) - table.words)) + "|"
    lines = [_line([_quoted(short(name)) for name in table.head]), rule]
    for row in table.rows:
        cells = [_marked(cell) for cell in row]
        heading = len(row) == 1 < len(table.head)
        lines.append(_line([f"**{_quoted(short(row[0].text))}**", *[""] * (len(table.head) - 1)] if heading else cells))
    return _framed(table.title, table.caption, lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _marked(cell: Cell) -> str:
    text = _quoted(short(cell.text))
    return f"**{text}**" if cell.bold else f"*{text}*" if cell.underline else text


def _case(case: Case) -> list[str]:
    lines = ["Problem:", "", *_fenced(case.problem)]
    lines += [f"Gold answer: {_quoted(short(case.gold))}", ""]
    for response in case.responses:
        lines += [f"**{_quoted(short(response.title))}**: {_inline(facts(response))}", "", *_fenced(response.text)]
    return _framed(case.title, case.caption, lines)


def facts(response: Response) -> str:
    """What a line says of a response."""
    words = len(response.reflections)
    return f"{response.verdict}, {response.tokens:,} tokens, {words:,} reflection {'word' if words == 1 else 'words'}"


def _fenced(text: str) -> list[str]:
    shown, left_out = clipped(text, PLAIN)
    shown = visible(shown)
    lines = [f"{fence(shown)}text", shown, fence(shown), ""]
    return [*lines, f"({left_out:,} more characters are left out.)", ""] if left_out else lines


def _inline(text: str) -> str:
    """A paragraph; what stands between backticks stays code."""
    flat = long(text).replace("\n", " ")
    made = "".join(f"`{piece}`" if code else _quoted(piece) for piece, code in coded(flat))
    return START.sub(r"\1\\", made)


def _quoted(text: str) -> str:
    """Text in which nothing is Markdown or HTML any more."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKUP.sub(r"\\\1", plain)


def latex(table: Table) -> str:
    """A floating table for booktabs: `\\usepackage{booktabs}` and `\\usepackage[T1]{fontenc}` is all it needs."""
    width = len(table.head)
    columns = "l" * table.words + "r" * (width - table.words)
    lines = [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{_caption(table)}}}", rf"\label{{tab:{table.key}}}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row([_tex(short(name)) for name in table.head])]
    lines.append(r"\midrule")
    for i, row in enumerate(table.rows):
        if len(row) == 1 < width:
            lines += [r"\addlinespace"] if i else []
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_tex(short(row[0].text))}}}}} \\")
        else:
            lines.append(_row([_styled(cell) for cell in row]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _caption(table: Table) -> str:
    return " ".join(_tex(part).replace("\n", " ") for part in (short(table.title), long(table.caption)) if part)


def _row(cells: list[str]) -> str:
    return "{}" + " & ".join(cells) + r" \\"  # the braces keep a `[` or `*` from being read by the `\\` before them


def _styled(cell: Cell) -> str:
    text = _tex(short(cell.text))
    return rf"\textbf{{{text}}}" if cell.bold else rf"\underline{{{text}}}" if cell.underline else text


def _tex(text: str) -> str:
    """Text for a plain article: all of TeX's specials quoted, what its fonts lack written as an escape."""
    return "".join(SPECIAL.get(char) or _letter(char) for char in text)


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
    shown = short(text)
    return "'" + shown if FORMULA.match(shown) else shown
