"""The list of responses, and one problem with the responses of up to four models side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from micota.errors import MicotaError
from micota.grading.extract import after_thought
from micota.report.reflection import places
from micota.viewer.database import Database
from micota.viewer.filters import EQUAL, FLAGS, Filters, Query, number

LONGEST = 100_000  # characters of a response that a page shows
KEPT = 10_000  # pages of a list that can be turned to


def responses(base: Database, query: Query) -> dict[str, Any]:
    """The list: what the filters leave, and the choices of each filter."""
    filters = filters_of(base, query)
    page, count = min(KEPT, max(1, number(query, "page", 1))), base.count(filters)
    return {
        **forms(base, query, filters),
        "rows": base.listed(filters, page),
        "count": count,
        "page": page,
        "pages": max(1, -(-count["responses"] // base.page)),
    }


def filters_of(base: Database, query: Query) -> Filters:
    """The filters of an address; without a scorer the semantic one, where the recipe has it."""
    scorers = list(dict.fromkeys(cell.spec.by for cell in base.files.results.recipe.evaluations)) or [""]
    return Filters.of(query, base.files.variables, "semantic" if "semantic" in scorers else scorers[0])


def forms(base: Database, query: Query, filters: Filters) -> dict[str, Any]:
    """What the form of the filters shows."""
    chosen = {name: (query.get(name) or [""])[-1] for name in ("right", "wrong", "q", "least", "most", "baseline")}
    options = {name: base.options[name] for name in (*EQUAL, *base.files.variables) if len(base.options[name]) > 1}
    return {
        "models": base.models,
        "options": options,
        "equal_values": filters.equal,
        "arms": filters.arms,
        "flags": {name: (title, name in filters.flags) for name, title in FLAGS.items()},
        "chosen": chosen,
        "waiting": base.waiting,
        "unsearched": len(base.parts) - base.indexed if filters.search else 0,
    }


def problem(base: Database, query: Query) -> dict[str, Any]:
    """One problem: its text, the models that answered it side by side, and the problems before and after it."""
    filters = filters_of(base, query)
    benchmark, key = ((query.get(name) or [""])[-1] for name in ("in", "key"))
    if benchmark not in base.options["benchmark"]:
        raise MicotaError(f"no response is there to a problem of {benchmark!r:.80}", where="the address of this page")
    shown = [name for name in query.get("show", ()) if name in base.models] or _shown(base, filters)
    shown = shown[: base.sides]
    rows = base.answers(benchmark, key, shown)
    sample = number(query, "sample", 0)
    sides = [side for name in shown if (side := _side(name, rows, filters.scorer, sample))]
    there = base.problem(benchmark, key)
    return {
        "benchmark": benchmark,
        "key": key,
        "problem": there,
        "sides": sides,
        "shown": shown,
        "models": base.models,
        "sample": sample,
        "samples": sorted({row["sample"] for row in rows}),
        "neighbours": base.neighbours(filters, benchmark, key),
    }


def _shown(base: Database, filters: Filters) -> list[str]:
    """The models that a problem is shown with by default: those of the filters, else the first arms."""
    wanted = [word for word in (filters.right, filters.wrong, *filters.arms) if word]
    found = [name for word in wanted for name in base.models if word in (name, base.arms[name])]
    arms = [name for name in base.models if base.files.results.recipe.is_arm(name)]
    return list(dict.fromkeys(found)) or (arms or base.models)


def _side(name: str, rows: list[dict[str, Any]], scorer: str, sample: int) -> dict[str, Any] | None:
    """One model's response: its pieces, and what each scorer says of it."""
    own = sorted(
        (row for row in rows if row["model"] == name), key=lambda row: (row["sample"] != sample, row["sample"])
    )
    if not own:
        return None
    graded = [row for row in own if row["sample"] == own[0]["sample"]]
    graded.sort(key=lambda row: row["scorer"] != scorer)
    text = graded[0]["response"] or ""
    rest = after_thought(text)
    end = len(text) if rest is None else len(text) - len(rest)
    answers = [row["answer"] for row in graded if row["answer"]]
    thought, spoken = text[:end], text[end:]
    return {
        **graded[0],
        "there": graded[0]["response"] is not None,
        "graded": graded,
        "thought": list(pieces(thought, [] if spoken.strip() else answers)),
        "spoken": list(pieces(spoken, answers)),
        "reflections": len(places(text)),
        "left_out": max(0, len(thought) - LONGEST) + max(0, len(spoken) - LONGEST),
    }


def pieces(text: str, answers: list[str]) -> Iterator[tuple[str, str]]:
    """Pieces of a text, each "", `reflection` for a word of reflection, or `answer` for the last place of an answer."""
    marks = [(*place, "reflection") for place in places(text)]
    for answer in answers:
        if (at := text.rfind(answer)) >= 0:
            marks.append((at, at + len(answer), "answer"))
    end, text = 0, text[:LONGEST]
    for start, stop, kind in sorted(marks):
        if start >= end and start < len(text):
            yield text[end:start], ""
            yield text[start:stop], kind
            end = stop
    yield text[end:], ""


COLUMNS = ("texts", "problems", "row")  # where a text lies: of no use outside


def lines(base: Database, query: Query) -> Iterator[str]:
    """The responses that the filters leave with their texts, as lines of JSON."""
    filters = filters_of(base, query)
    rows = base.texts(*filters.source(), filters.search)
    return (json.dumps({k: v for k, v in row.items() if k not in COLUMNS}, ensure_ascii=False) + "\n" for row in rows)


def flat(query: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """An address with some parts changed; those that become None go."""
    return {name: value for name, value in {**query, **changes}.items() if value not in (None, "", [], ())}
