"""Two models compared on the problems that both answered: differences, intervals, tests, and where they differ."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.report.answer_frame import text_column, variables_of
from micota.stats import Estimate, bootstrap, detectable, exact_p

if TYPE_CHECKING:
    from pandas import DataFrame, Series

POOLED = "all"
Levels = Mapping[tuple[str, str], str]
THIRDS = ("shortest third", "middle third", "longest third")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Model `a` minus model `b`, paired by problem: the mean over a problem's samples, and over seeds, is one unit.

    `differences` has a row for each problem: `benchmark`, `problem`, `accuracy_a`, `accuracy_b`, `tokens_a`,
    `tokens_b`, the differences `accuracy` and `tokens`, and `level` where it is known. `left_out`: problems that only
    one of the two answered. `fake`: some of the answers are invented. `holm` is the p of all benchmarks together,
    corrected for the comparisons that were made with this one.
    """

    a: str
    b: str
    scorer: str
    differences: DataFrame
    fake: bool = False
    left_out: int = 0
    holm: float | None = None

    @property
    def accuracy(self) -> dict[str, Estimate]:
        """The difference of accuracy, in [-1, 1], on each benchmark and, of several, on `all`: their plain mean."""
        return {name: bootstrap(*sets) for name, sets in self._sets("accuracy").items()}

    @property
    def tokens(self) -> dict[str, Estimate]:
        """The difference of response length in tokens, in the same way."""
        return {name: bootstrap(*sets) for name, sets in self._sets("tokens").items()}

    @property
    def p(self) -> dict[str, float]:
        """The exact p of no difference in accuracy, in the same way: McNemar's, or its like for several samples."""
        return {name: exact_p(*sets) for name, sets in self._sets("accuracy").items()}

    @cached_property
    def frame(self) -> DataFrame:
        """A row for each benchmark and, of several, for all: see `by`."""
        import pandas as pd

        parts = [(str(name), [part]) for name, part in self._parts("benchmark")]
        parts += [(_pooled(parts), [part for _, (part,) in parts])] if len(parts) > 1 else []
        return pd.DataFrame([_summary("benchmark", name, part) for name, part in parts])

    def by(self, column: str) -> DataFrame:
        """A row for each value of `benchmark`, `level` or `length`, the problems of all benchmarks together.

        Columns: that value, `n`, `accuracy_a`, `accuracy_b`, their `difference` with its `error` and the ends `low` and
        `high` of its 95 % interval, the exact `p`, what this n could show (`detectable`), mean `tokens_a` and
        `tokens_b`, and the difference of tokens with its ends. `length` parts the problems by the lengths of b's
        responses.
        """
        import pandas as pd

        return pd.DataFrame([_summary(column, str(name), [part]) for name, part in self._parts(column)])

    @property
    def groups(self) -> list[str]:
        """What `by` can part the problems by."""
        known = {"level": "level" in self.differences, "length": bool(self.differences["tokens_b"].notna().all())}
        return [name for name in known if known[name]]

    @property
    def changed(self) -> DataFrame:
        """The problems on which the two differ, those that `a` does better first; a row as of `differences`."""
        moved = self.differences[self.differences["accuracy"] != 0]
        return moved.sort_values(["accuracy", "benchmark", "problem"], ascending=[False, True, True], ignore_index=True)

    @property
    def sides(self) -> tuple[tuple[str, DataFrame], ...]:
        """`changed` in two: what `a` does better and what `b` does, by their names, the largest differences first."""
        moved = self.changed
        return (self.a, moved[moved["accuracy"] > 0]), (self.b, moved[moved["accuracy"] < 0][::-1])

    @property
    def title(self) -> str:
        """What is compared, in words."""
        fake = ", of FAKE answers" if self.fake else ""
        return f"{self.a} minus {self.b}, {self.scorer}, paired by problem{fake}"

    def json(self) -> dict[str, Any]:
        """All of it as plain values; what is not known is None."""
        import json

        tables = {"benchmarks": self.frame, **{name: self.by(name) for name in self.groups}, "changed": self.changed}
        records = {
            name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in tables.items()
        }
        about = {"a": self.a, "b": self.b, "scorer": self.scorer, "fake": self.fake, "left_out": self.left_out}
        return {**about, "p_holm": self.holm, **records}

    def _parts(self, column: str) -> list[tuple[Any, DataFrame]]:
        if column == "length":
            ranks = self.differences["tokens_b"].rank(method="average", pct=True)
            thirds = ranks.map(lambda rank: THIRDS[min(2, int(3 * rank - 1e-9))])
            return [(name, self.differences[thirds == name]) for name in THIRDS if (thirds == name).any()]
        sort = column != "benchmark"
        return list(self.differences.groupby(column, observed=True, sort=sort))

    def _sets(self, measure: str) -> dict[str, list[list[float]]]:
        sets = {str(name): [part[measure].tolist()] for name, part in self._parts("benchmark")}
        return sets | ({_pooled(sets.items()): [units for (units,) in sets.values()]} if len(sets) > 1 else {})

    def __str__(self) -> str:
        return f"{self.title}\n{self.frame.to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.title)}</p>{self.frame.to_html(index=False)}"


def compared(
    a: str, rows_a: DataFrame, b: str, rows_b: DataFrame, scorer: str, levels: Levels | None = None
) -> Comparison:
    """Compare the rows of two models under one scorer, tidy as in `Results.frame`; `levels` by benchmark and problem.

    Raises MicotaError where no problem is common to both.
    """
    shared = _shared(rows_a, rows_b)
    means = [_means(rows, ["benchmark", *shared, "problem"]) for rows in (rows_a, rows_b)]
    both = means[0].merge(means[1], on=["benchmark", *shared, "problem"], suffixes=("_a", "_b"))
    if both.empty:
        fix = "evaluate both on the same benchmark; Results.missing lists what is not there yet"
        raise MicotaError(f"'{a}' and '{b}' have no answered problem in common", where="Results.compare", fix=fix)
    columns = [f"{measure}_{side}" for measure in ("accuracy", "tokens") for side in "ab"]
    units = both.groupby(["benchmark", "problem"], observed=True, sort=False)[columns].mean().reset_index()
    for measure in ("accuracy", "tokens"):
        units[measure] = units[f"{measure}_a"] - units[f"{measure}_b"]
    known = [(levels or {}).get(pair) for pair in _problems(units)]
    units = units.assign(level=text_column(known)) if any(known) else units
    answered = {pair for frame in means for pair in _problems(frame)}
    fake = bool(rows_a["fake"].any() or rows_b["fake"].any())
    return Comparison(a, b, scorer, units, fake, len(answered) - len(units))


def _problems(frame: DataFrame) -> Iterable[tuple[str, str]]:
    """Benchmark and problem of each row; columns of pyarrow's texts are ten times as slow to walk."""
    return zip(*(frame[name].astype(object) for name in ("benchmark", "problem")), strict=True)


def _shared(rows_a: DataFrame, rows_b: DataFrame) -> list[str]:
    """The variables that have the same values on both sides, on every common benchmark: none is lost by pairing."""
    sides = [rows.assign(benchmark=rows["benchmark"].astype(str)) for rows in (rows_a, rows_b)]
    common = set(sides[0]["benchmark"]) & set(sides[1]["benchmark"])

    def same(names: list[str]) -> bool:
        known = [side.loc[side["benchmark"].isin(common), ["benchmark", *names]].drop_duplicates() for side in sides]
        if any(one.isna().to_numpy().any() for one in known):
            return False
        a, b = (set(one.itertuples(index=False, name=None)) for one in known)
        return a == b

    both = [name for name in variables_of(rows_a) if name in variables_of(rows_b) and same([name])]
    return both if same(both) else []


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Several comparisons, each with Holm's correction of the p of all its benchmarks together."""
    values = holm([list(one.p.values())[-1] for one in comparisons])
    return [replace(one, holm=p) for one, p in zip(comparisons, values, strict=True)]


def holm(values: Sequence[float]) -> list[float]:
    """The p values of several tests, corrected so that any false one has probability 0.05 at most (Holm, 1979).

    Those that are nan stay so and count as no test.
    """
    order = sorted((i for i, p in enumerate(values) if not math.isnan(p)), key=lambda i: values[i])
    corrected, highest = list(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[i]))
        corrected[i] = highest
    return corrected


def _pooled(named: Iterable[tuple[str, Any]]) -> str:
    """What all benchmarks together are called: `all`, in brackets where a benchmark is called so."""
    names, word = [name for name, _ in named], POOLED
    while word in names:
        word = f"({word})"
    return word


def _means(frame: DataFrame, keys: list[str]) -> DataFrame:
    """Accuracy and tokens of each problem: the mean over samples, then over the values of variables."""
    right = [v if isinstance(v, float) else float(v == "correct") for v in frame["verdict"]]  # a float is a share
    frame = frame.assign(benchmark=frame["benchmark"].astype(str), accuracy=right)
    inner = list(dict.fromkeys([*keys, *variables_of(frame)]))
    means = frame.groupby(inner, observed=True, dropna=False, sort=False)[["accuracy", "tokens"]].mean().reset_index()
    return means.groupby(keys, observed=True, dropna=False, sort=False)[["accuracy", "tokens"]].mean().reset_index()


def _summary(column: str, name: str, parts: Sequence[DataFrame]) -> dict[str, Any]:
    """What some problems come to: those of each benchmark are one set, and sets count equally."""
    units, lengths = ([part[measure].tolist() for part in parts] for measure in ("accuracy", "tokens"))
    known, tokens = bootstrap(*units), bootstrap(*lengths)
    means = {head: _mean([part[head] for part in parts]) for head in ("accuracy_a", "accuracy_b")}
    accuracy = {"difference": known.value, "error": known.error, "low": known.low, "high": known.high}
    return {
        column: name,
        "n": known.n,
        **means,
        **accuracy,
        "p": exact_p(*units),
        "detectable": detectable(*units),
        **{head: _mean([part[head] for part in parts]) for head in ("tokens_a", "tokens_b")},
        "tokens": tokens.value,
        "tokens_low": tokens.low,
        "tokens_high": tokens.high,
    }


def _mean(columns: Sequence[Series]) -> float:
    return float(sum(column.mean() for column in columns) / len(columns))
