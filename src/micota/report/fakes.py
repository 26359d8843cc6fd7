"""The marks on a page of what is made of invented answers: those of a scripted engine, a fake server, and the like."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from micota.recipe.labels import everything, labels
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import models
from micota.report.page import Case, Page, Table
from micota.report.texts import text


def note(results: GradedAnswers) -> str:
    """What is said at the top of each page that shows fakes; "" without any."""
    engines, titles, named = _fakes(results)
    listed = ", ".join(sorted({one for each in engines.values() for one in each}))
    return text("fakes", names=", ".join(titles or named), engines=listed) if engines else ""


def marked(page: Page, results: GradedAnswers) -> Page:
    """The page with a mark on each title, on each row of a fake, and at its top; one without fakes as it is."""
    engines, titles, named = _fakes(results)
    if not engines:
        return page
    words, names = dict.fromkeys([*titles, *named]), ", ".join(titles or named)
    sections = tuple(
        replace(section, items=tuple(_item(item, words, names) for item in section.items)) for section in page.sections
    )
    return replace(page, notes=(note(results), *page.notes), sections=sections)


def _fakes(results: GradedAnswers) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """The engines that invented, by the digests of what is made of that; the titles of such models; all names of it."""
    engines = {spec.digest: results.facts(spec)["fake"] for spec in everything(results.recipe) if results.fake(spec)}
    every = models(results) if engines else ()  # which reads all rows
    titles = [model.title for model in every if any(one.spec.digest in engines for one, _ in model.cells)]
    return engines, titles, [label for digest, label in labels(results.recipe).items() if digest in engines]


def _item(item: Any, words: Collection[str], names: str) -> Any:
    item = replace(item, title=text("fakes", "title", title=item.title, names=names))
    if isinstance(item, Table):
        rows = tuple(tuple(_word(cell, "text", words) for cell in row) for row in item.rows)
        head = (
            item.head
            if rows != item.rows
            else (text("fakes", "title", title=item.head[0], names=names), *item.head[1:])
        )
        return replace(item, rows=rows, head=head)
    if isinstance(item, Case):
        return replace(item, responses=tuple(_word(response, "title", words) for response in item.responses))
    return item


def _word(part: Any, name: str, words: Collection[str]) -> Any:
    word = getattr(part, name)
    return replace(part, **{name: f"{word} (fake)"}) if word in words else part
