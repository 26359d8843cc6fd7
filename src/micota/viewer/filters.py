"""What a page is asked for: filters of responses that combine, read from an address and turned into SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from micota.errors import MicotaError

Query = Mapping[str, Sequence[str]]
EQUAL = ("benchmark", "scorer", "verdict", "level", "subject")
FLAGS = {"disagree": "the scorers disagree", "truncated": "truncated", "repetitive": "repetitive"}
LARGEST = 10**12
RIGHT = "avg(CASE WHEN {0} THEN (verdict = 'correct')::INT END)"
IS = "(arm = TRY_CAST(? AS arm_word) OR model = TRY_CAST(? AS model_word))"
WORDS = ("benchmark", "scorer", "verdict")  # columns with types of their own


@dataclass(frozen=True)
class Filters:
    """Conditions on responses, all of which must hold: words of columns, flags, a range of tokens, words to find.

    `right` and `wrong` are two models: the first is right about the problem in more than half of its responses under
    the scorer, the second in less than half.
    """

    equal: dict[str, Sequence[str]]
    arms: Sequence[str]
    flags: Sequence[str]
    least: int
    most: int
    right: str
    wrong: str
    search: str

    @classmethod
    def of(cls, query: Query, variables: Sequence[str], scorer: str) -> Filters:
        """The filters of an address; without a scorer the given one is meant. Raises MicotaError for a bad number."""
        equal = {name: query[name] for name in (*EQUAL, *variables) if query.get(name)}
        one = {name: (query.get(name) or [""])[-1] for name in ("right", "wrong", "q")}
        return cls(
            {"scorer": [scorer], **equal},
            query.get("arm", ()),
            [name for name in FLAGS if query.get(name)],
            number(query, "least", 0),
            number(query, "most", LARGEST),
            one["right"],
            one["wrong"],
            one["q"].strip(),
        )

    @property
    def scorer(self) -> str:
        """The scorer whose verdicts are shown."""
        return self.equal["scorer"][-1]

    def source(self) -> tuple[str, list[Any]]:
        """What is left of `answers`, as SELECT reads it, with its values; `found` is what the search has found."""
        where, values = self.where()
        found = "SEMI JOIN found f ON a.texts = f.texts AND a.row = f.row" if self.search else ""
        return f"(SELECT a.* FROM answers a {found} WHERE {where})", values

    def where(self) -> tuple[str, list[Any]]:
        """The condition of all but the search, in SQL, with its values."""
        parts = ["tokens BETWEEN ? AND ?"]
        values: list[Any] = [self.least, self.most]
        for name, words in self.equal.items():
            mark = f"TRY_CAST(? AS {name}_word)" if name in WORDS else "?"
            parts.append(f"{identifier(name)} IN ({', '.join([mark] * len(words))})")
            values += words
        parts += self.flags
        if self.arms:
            parts.append(f"({' OR '.join([IS] * len(self.arms))})")
            values += [word for arm in self.arms for word in (arm, arm)]
        if self.right and self.wrong:
            right, wrong = RIGHT.format(IS), RIGHT.format(IS)
            parts.append(
                f"number IN (SELECT number FROM answers WHERE scorer = TRY_CAST(? AS scorer_word) AND ({IS} OR {IS}) "
                f"GROUP BY number HAVING {right} > .5 AND {wrong} < .5)"
            )
            values += [self.scorer, *[self.right] * 2, *[self.wrong] * 2, *[self.right] * 2, *[self.wrong] * 2]
        return " AND ".join(parts), values


def identifier(name: str) -> str:
    """The name of a column as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def number(query: Query, name: str, default: int) -> int:
    """A whole number of an address."""
    text = (query.get(name) or [""])[-1].strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 13):
        raise MicotaError(f"{name} is a whole number, not {text!r:.40}", where="the address of this page")
    return int(text)
