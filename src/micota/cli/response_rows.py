"""`micota responses`: graded responses in a terminal, control characters made visible, or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from micota.atomic import atomic
from micota.errors import MicotaError
from micota.report.escape import long, short

if TYPE_CHECKING:
    from pandas import DataFrame


def show(console: Console, rows: DataFrame, of: int) -> None:
    """Each response below its problem and reference answer; `of` are all that fit."""
    for row in rows.to_dict("records"):
        marks = [word for word in ("truncated", "repetitive", "fake") if row[word]]
        about = [row["model"], row["benchmark"], f"{row['verdict']} ({row['scorer']})", f"{row['tokens']:,} tokens"]
        console.print(Rule(Text(short(" · ".join(map(str, [*about, *marks]))))))
        console.print(f"problem {row['problem']}, sample {row['sample']}", style="dim", markup=False, highlight=False)
        parts = [("", "problem_text"), ("gold: ", "gold"), ("answer: ", "answer"), ("", "response")]
        for title, name in [*parts, *([("judge: ", "reply")] if isinstance(row.get("reply"), str) else [])]:
            text = row[name] if isinstance(row[name], str) else "–"
            console.print(Text(title + long(text)), soft_wrap=True)
            console.print()
    if len(rows) < of:
        console.print(f"{len(rows)} of {of:,}; --n 0 prints all, --out FILE.jsonl writes them", highlight=False)
    elif not of:
        console.print("no response fits")


def write(rows: DataFrame, out: Path) -> None:
    """All rows as JSONL or Parquet, by the name of the file."""
    if out.suffix not in (".jsonl", ".parquet"):
        raise MicotaError(f"{out} says no format", fix="end its name in .jsonl or .parquet")
    with atomic(out) as temporary:
        if out.suffix == ".parquet":
            rows.to_parquet(temporary, index=False)
        else:
            rows.to_json(temporary, orient="records", lines=True, force_ascii=False)
