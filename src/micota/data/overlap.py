"""What two problem sets share: the same text after normalising, or a run of thirteen words.

Training on a benchmark's problems makes its score worthless, so a problem set can be compared with others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

N = 13  # words in a row, as is usual for contamination checks
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Shared:
    """One pair of problems: the key here, the other set and its key, and how: `exact`, or `13-gram` with the words."""

    key: str
    other_set: str
    other_key: str
    how: str
    words: str


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case; layout, LaTeX commands' backslashes and punctuation are gone."""
    return _WORD.findall(text.lower())


def shared(mine: Mapping[str, str], others: Mapping[str, Mapping[str, str]]) -> Iterator[Shared]:
    """Every pair that shares text, each once; arguments are key -> text, and set -> key -> text."""
    whole: defaultdict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    grams: defaultdict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for name, problems in others.items():
        for key, text in problems.items():
            split = words(text)
            whole[tuple(split)].append((name, key))
            for gram in set(_grams(split)):
                grams[gram].append((name, key))
    for key, text in mine.items():
        yield from _pairs(key, words(text), whole, grams)


def _pairs(
    key: str,
    split: list[str],
    whole: Mapping[tuple[str, ...], list[tuple[str, str]]],
    grams: Mapping[tuple[str, ...], list[tuple[str, str]]],
) -> Iterator[Shared]:
    seen = set()
    for name, other in whole.get(tuple(split), ()):
        seen.add((name, other))
        yield Shared(key, name, other, "exact", " ".join(split[:N]))
    for gram in _grams(split):
        for name, other in grams.get(gram, ()):
            if (name, other) not in seen:
                seen.add((name, other))
                yield Shared(key, name, other, f"{N}-gram", " ".join(gram))


def _grams(split: list[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(split[i : i + N]) for i in range(len(split) - N + 1))
