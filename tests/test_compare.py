"""Comparisons: against scipy and statsmodels on fixed data, and from recipes, variants and files by one command."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from by_hand import EVALUATE, LET, NEUTRAL, grade, results
from conftest import World
from scipy import stats as scipy
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from test_recipe import command

from micota import stats
from micota.errors import MicotaError
from micota.report.answer_frame import right_and_wrong
from micota.report.comparison import compared, holm
from micota.report.graded_files import GradedFile
from micota.report.results import Results

PAIRS = [(40, 0, 0), (40, 9, 1), (40, 5, 5), (200, 30, 12), (30, 7, 0), (500, 120, 80), (12, 1, 0)]
"""Problems, those that only a gets right, those that only b does."""


def units(n: int, better: int, worse: int) -> list[float]:
    return [1.0] * better + [-1.0] * worse + [0.0] * (n - better - worse)


@pytest.mark.parametrize(("n", "better", "worse"), PAIRS)
def test_single_answers_have_mcnemars_exact_p(n: int, better: int, worse: int) -> None:
    expected = mcnemar([[0, better], [worse, n - better - worse]], exact=True).pvalue
    assert stats.exact_p(units(n, better, worse)) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(scipy.binomtest(better, better + worse).pvalue if better + worse else 1.0)


def test_several_samples_are_flipped_by_problem() -> None:
    small = [0.5, 0.25, -0.25, 0.75, 0.5, 0.0, 0.25]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T @ np.array([unit for unit in small if unit])
    exact = np.mean(np.abs(signs) >= sum(small) - 1e-12)
    assert stats.exact_p(small) == pytest.approx(exact)
    rng = np.random.default_rng(1)
    many = list(rng.normal(0.1, 0.5, 300))
    assert stats.exact_p(many) == pytest.approx(scipy.ttest_1samp(many, 0).pvalue, rel=0.3, abs=0.003)
    shares = [*[0.25, -0.5, 0.75, -0.5] * 1000, *[0.25] * 150]
    assert stats.exact_p(shares) == pytest.approx(scipy.ttest_1samp(shares, 0).pvalue, rel=0.1)
    heavy = [1.0, *[1e-6 * (-1) ** i for i in range(3000)]]  # one unit decides, and its sign is as good as the other
    assert stats.exact_p(heavy) > 0.4
    assert math.isnan(stats.exact_p()) and stats.exact_p([0.0, 0.0]) == 1.0
    assert stats.exact_p(units(40, 9, 1), units(40, 9, 1)) == pytest.approx(scipy.binomtest(18, 20).pvalue)


def test_holm() -> None:
    values = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]))
    assert holm([0.02, math.nan])[0] == 0.02 and math.isnan(holm([0.02, math.nan])[1])
    assert holm([]) == []


@pytest.mark.parametrize(("n", "better", "worse"), [(200, 30, 12), (500, 120, 80), (60, 20, 3)])
def test_the_bootstrap_is_scipys_but_for_its_wider_tails(n: int, better: int, worse: int) -> None:
    found = stats.bootstrap(units(n, better, worse))
    ours = scipy.bootstrap((units(n, better, worse),), np.mean, method="percentile", rng=3)
    assert found.error == pytest.approx(ours.standard_error, rel=0.03)
    widening = scipy.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1)) / scipy.norm.ppf(0.975)
    for end, expected in zip((found.low, found.high), ours.confidence_interval, strict=True):
        assert end - found.value == pytest.approx(widening * (expected - found.value), rel=0.08, abs=1 / n)
    assert stats.bootstrap(units(n, better, worse)) == found  # the same at every call


def test_the_error_is_clustered_by_problem() -> None:
    """Five samples of each problem, of two models: statsmodels' cluster-robust error of the difference."""
    rng = np.random.default_rng(5)
    hard = rng.uniform(size=60)
    a, b = ((rng.uniform(size=(60, 5)) < (hard + shift)[:, None]) * 1.0 for shift in (0.1, 0.0))
    flat, problems = (a - b).ravel(), np.repeat(np.arange(60), 5)
    fit = sm.OLS(flat, np.ones_like(flat)).fit(
        cov_type="cluster", cov_kwds={"groups": problems, "use_correction": False}
    )
    found = stats.bootstrap(list((a - b).mean(axis=1)))
    assert found.value == pytest.approx(fit.params[0])
    assert found.error == pytest.approx(fit.bse[0] * math.sqrt(60 / 59))


def test_what_n_can_show() -> None:
    wide = units(500, 60, 40)
    error = scipy.sem(wide)
    assert stats.detectable(wide) == pytest.approx((scipy.norm.ppf(0.975) + scipy.norm.ppf(0.8)) * error, rel=1e-4)
    assert stats.detectable(units(30, 0, 0)) == pytest.approx(6 / 30)  # six of 30, all on one side: p 0.031
    assert math.isnan(stats.detectable([1.0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "samples", "gap"),
    [((500,), 1, 0.05), ((200,), 1, 0.0), ((60,), 1, 0.1), ((60,), 5, 0.05), ((200,), 16, 0.05), ((30, 500), 1, 0.05)],
)
def test_the_interval_covers_the_truth(
    sizes: tuple[int, ...], samples: int, gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 draws: problems of their own difficulty, two models that share it; the truth is the gap.

    With 2,000 resamples in place of 10,000, since each draw has its own.
    """
    monkeypatch.setattr(stats, "RESAMPLES", 2000)
    rng, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        sets = []
        for n in sizes:
            hard = rng.beta(0.8, 0.8, n) * (1 - gap)
            a, b = ((rng.random((n, samples)) < (hard + shift)[:, None]).mean(axis=1) for shift in (gap, 0.0))
            sets.append((a - b).tolist())
        found = stats.bootstrap(*sets)
        covered += found.low <= gap <= found.high
    print(sizes, samples, gap, covered / 2000)
    assert 0.93 <= covered / 2000 <= 0.97


def rows(verdicts: str, tokens: int = 10, samples: int = 1, benchmark: str = "set") -> pd.DataFrame:
    cells = [
        {"benchmark": benchmark, "problem": f"p{i // samples:03d}", "sample": i % samples, "scorer": "s",
         "verdict": "correct" if letter == "c" else "wrong", "tokens": tokens + i, "fake": False}
        for i, letter in enumerate(verdicts)
    ]  # fmt: skip
    return pd.DataFrame(cells)


def test_a_comparison_has_levels_lengths_and_the_problems_that_changed_sides() -> None:
    levels = {("set", f"p{i:03d}"): "1" if i < 6 else "5" for i in range(12)}
    found = compared("a", rows("ccccccccwwcw", 100), "b", rows("ccccwwwwwwwc"), "s", levels)
    assert found.accuracy["set"].value == pytest.approx(4 / 12) and found.p["set"] == pytest.approx(14 / 64)
    assert found.by("level")[["level", "n", "accuracy_a", "accuracy_b"]].values.tolist() == [
        ["1", 6, 1.0, 4 / 6],
        ["5", 6, 0.5, 1 / 6],
    ]
    assert found.by("length").n.tolist() == [4, 4, 4] and found.groups == ["level", "length"]
    assert found.changed.problem.tolist() == ["p004", "p005", "p006", "p007", "p010", "p011"]
    assert found.changed.accuracy.tolist() == [1, 1, 1, 1, 1, -1]
    assert found.tokens["set"].value == 90
    whole = json.loads(json.dumps(found.json()))
    assert whole["benchmarks"][0]["difference"] == pytest.approx(4 / 12) and len(whole["changed"]) == 6
    several = compared("a", rows("ccwwccww", samples=4), "b", rows("cwwwcwww", samples=4), "s")
    assert several.differences.accuracy.tolist() == [0.25, 0.25]
    part = compared("a", rows("ccc"), "b", rows("cccww"), "s")
    assert part.left_out == 2 and part.frame.n.tolist() == [3]


def seeded(verdicts: dict[int, str], name: str = "seed", benchmark: str = "set") -> pd.DataFrame:
    """Rows of several values of a variable, which stands where the tidy table has it."""
    parts = []
    for seed, letters in verdicts.items():
        part = rows(letters, benchmark=benchmark)
        for i, (column, value) in enumerate({"arm": "m", "model": f"m[{name}={seed}]"}.items()):
            part.insert(i, column, value)
        part.insert(3, name, pd.array([seed] * len(part), dtype="Int64"))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def test_seeds_that_one_side_lacks_are_averaged_and_not_dropped() -> None:
    a = seeded({0: "cccc", 1: "cccw", 2: "wwww"})  # 2/3, 2/3, 2/3, 1/3
    found = compared("a", a, "b", seeded({2: "cwww", 3: "wwww", 4: "wwww"}), "s").differences
    assert found.accuracy.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1 / 3])  # of seed 2 alone: -1, 0, 0, 0
    found = compared("a", a, "b", seeded({5: "wwww"}), "s").differences
    assert found.accuracy.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1 / 3])
    found = compared("a", a, "b", seeded({0: "wwww", 1: "cwww", 2: "wwww"}), "s").differences
    assert found.accuracy.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1 / 3])
    a = pd.concat([a, seeded({0: "cc", 1: "ww"}, benchmark="more")], ignore_index=True)
    b = pd.concat([seeded({0: "wwww", 1: "wwww", 2: "wwww"}), seeded({1: "ww"}, benchmark="more")], ignore_index=True)
    found = compared("a", a, "b", b, "s")  # on `more` a has a seed more, which is no less an answer
    assert found.accuracy["more"].value == 0.5 and found.accuracy["set"].value == pytest.approx(7 / 12)


def test_a_benchmark_called_all_is_not_all_benchmarks() -> None:
    a = pd.concat([rows("cccc", benchmark="all"), rows("cwww", benchmark="set")])
    b = pd.concat([rows("wwww", benchmark="all"), rows("wwww", benchmark="set")])
    found = compared("a", a, "b", b, "s")
    assert {name: one.value for name, one in found.accuracy.items()} == {"all": 1, "set": 0.25, "(all)": 0.625}
    assert found.frame.benchmark.tolist() == list(found.p) == ["all", "set", "(all)"]
    assert found.p["all"] == 2 / 16 and list(compared("a", a[:4], "b", b[:4], "s").p) == ["all"]


def enumerated(*sets: list[float]) -> float:
    """The p by all flips of signs, in exact fractions."""
    units = [Fraction(unit).limit_denominator(1000) / len(part) for part in sets for unit in part]
    sums = [abs(sum(s * u for s, u in zip(signs, units, strict=True))) for signs in product((-1, 1), repeat=len(units))]
    return sum(one >= abs(sum(units)) for one in sums) / len(sums)


@pytest.mark.parametrize(
    "sets",
    [
        [[-0.2, 0.6, 0, 0.4, 0, 0.4, -1.0, -0.8, 0.6, 0]],
        [[0.1, 0.2, -0.3]],
        [[1 / 3, 1 / 3, -2 / 3, 0.25, -0.25]],
        [[0.1, 0.2, 0.3, 0.3, -0.1]],
        [[0.7, -0.1, -0.6], [0.3, -0.2, 0.1]],
        [[1.0, -1.0, 0.0], [0.5, 0.5]],
        [[1 / 3 - 0.1, 0.1, 0.3 - 0.1 * 3]],
    ],
)
def test_sums_that_tie_tie(sets: list[list[float]]) -> None:
    assert stats.exact_p(*sets) == pytest.approx(enumerated(*sets), abs=1e-12)


def test_nothing_above_one_is_detectable() -> None:
    assert math.isnan(stats.detectable(units(5, 1, 0))) and math.isnan(stats.detectable([1.0, -1.0, 0.0]))
    assert stats.detectable(units(6, 0, 0)) == 1


RATES = NEUTRAL.replace("name: small", "name: other").replace("micota: {train: {", "micota: {train: {lr: 1e-3, ")


def test_recipes_variants_and_models_are_compared_in_one_command(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two recipes with another learning rate: every model of both; two that are one model do not differ."""
    found = results(world, NEUTRAL)
    grade(found, {"instruct": "ccww" * 10, "strong": "cccw" * 10, "micota": "cwww" * 10})
    world.write("other.yaml", RATES)
    other = Results(world.load(name="other.yaml"), world.store)
    grade(other, {"micota": "cccc" * 10}, tokens={"micota": 50})
    given = [str(world.recipe_file), str(world.folder / "other.yaml"), "--store", str(world.folder / "store")]
    report, table = tmp_path / "all.json", tmp_path / "all.csv"
    assert command(monkeypatch, "compare", *given, "--json", str(report), "--csv", str(table)) == 0
    shown = {one["a"]: one for one in json.loads(report.read_text())}
    assert list(shown) == ["other/micota"]  # the others are the same model in both, and no comparison for Holm
    assert shown["other/micota"]["benchmarks"][0]["difference"] == 0.75
    assert shown["other/micota"]["p_holm"] == pytest.approx(shown["other/micota"]["benchmarks"][0]["p"])
    assert pd.read_csv(table).difference.tolist() == [0.75]
    assert "other/micota minus small/micota" in capsys.readouterr().out
    variant = [str(world.recipe_file) + "/micota", str(world.recipe_file) + "+micota.lr=1e-3/micota", *given[2:]]
    assert command(monkeypatch, "compare", *variant, "--scorer", "exact_match", "--json", str(report)) == 0
    [one] = json.loads(report.read_text())
    assert (one["b"], one["a"]) == ("small/micota", "small+micota.lr=1e-3/micota")
    assert (one["scorer"], one["benchmarks"][0]["difference"]) == ("exact_match", 0.75)
    two = [f"{world.recipe_file}/strong", "instruct", *given[2:], "--json", str(report)]
    assert command(monkeypatch, "compare", *two) == 0
    [one] = json.loads(report.read_text())
    assert (one["a"], one["b"], one["benchmarks"][0]["difference"]) == ("instruct", "strong", -0.25)
    assert len(one["changed"]) == 10 and "strong better: 10 problems" in capsys.readouterr().out
    assert command(monkeypatch, "compare", f"{world.recipe_file}/strong", "instrukt", *given[2:]) == 2
    assert "did you mean 'instruct'" in capsys.readouterr().err


def test_recipes_and_files_of_one_name_are_told_apart(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The name of a recipe says nothing of its contents; the same contents under another name are the same."""
    grade(results(world, NEUTRAL), {"instruct": "ccww", "micota": "cwww"})
    twin = world.folder / "twin.yaml"
    twin.write_text(RATES.replace("name: other", "name: small"))
    grade(Results(world.load(name="twin.yaml"), world.store), {"micota": "cccc"})
    out, store = tmp_path / "all.json", ["--store", str(world.folder / "store")]

    def found(a: str, b: str) -> dict[tuple[str, str], float]:
        assert command(monkeypatch, "compare", a, b, *store, "--json", str(out)) == 0
        return {(one["a"], one["b"]): one["benchmarks"][0]["difference"] for one in json.loads(out.read_text())}

    both = {(f"{twin}/micota", f"{world.recipe_file}/micota"): 0.75}
    assert found(str(world.recipe_file), str(twin)) == both
    [last] = [pair for pair in both if pair[0].endswith("micota")]
    assert found(f"{world.recipe_file}/micota", f"{twin}/micota") == {last: 0.75}
    assert found(f"{world.recipe_file}/instruct", f"{twin}/micota") == {(last[0], f"{world.recipe_file}/instruct"): 0.5}
    same = world.folder / "same.yaml"
    same.write_text(NEUTRAL.replace("name: small", "name: copy"))
    assert command(monkeypatch, "compare", f"{world.recipe_file}/micota", f"{same}/micota", *store) == 2
    assert "nothing to compare" in capsys.readouterr().err
    for folder, grades in (("x", "cc"), ("y", "cw")):
        (tmp_path / folder).mkdir()
        file(
            tmp_path / folder / "a.jsonl",
            *({"arm": "m", "index": i, "verdict": c == "c"} for i, c in enumerate(grades)),
        )
    monkeypatch.chdir(tmp_path / "x")
    assert found("a.jsonl", "../y/a.jsonl") == {("../y/a.jsonl/m", "a.jsonl/m"): -0.5}
    assert command(monkeypatch, "compare", "a.jsonl", "../x/a.jsonl") == 2


def test_files_of_graded_rows_are_compared(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What `micota grade` writes, what `to_parquet` writes, and a recipe beside either."""
    for name, letters in (("a", "ccccccww"), ("b", "ccwwwwwc")):
        graded = [{"index": i, "benchmark": "gsm8k", "response": "x", "semantic": "correct" if c == "c" else "wrong",
                   "exact_match": int(c == "c"), "level": i % 2} for i, c in enumerate(letters)]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in graded))
    out = tmp_path / "found.json"
    files = [str(tmp_path / "b.jsonl"), str(tmp_path / "a.jsonl")]
    assert command(monkeypatch, "compare", *files, "--json", str(out)) == 0
    [one] = json.loads(out.read_text())
    assert one["benchmarks"][0]["difference"] == pytest.approx(3 / 8) and one["benchmarks"][0]["tokens_a"] is None
    assert [row["level"] for row in one["level"]] == ["0", "1"]
    found = results(world, NEUTRAL)
    grade(found, {"strong": "cccw", "micota": "cccc"})
    file = Results(found.recipe, world.store).to_parquet(tmp_path / "answers.parquet")
    store = ["--store", str(world.folder / "store"), "--json", str(out)]
    assert command(monkeypatch, "compare", f"{file}/strong", f"{world.recipe_file}/micota", *store) == 0
    [one] = json.loads(out.read_text())
    assert one["benchmarks"][0]["difference"] == 0.25
    (tmp_path / "c.jsonl").write_text('{"index": 1, "response": "x"}\n')
    assert command(monkeypatch, "compare", files[0], str(tmp_path / "c.jsonl")) == 2
    assert "micota grade ROWS" in capsys.readouterr().err


def file(path: Path, *lines: object) -> GradedFile:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return GradedFile(path)


def test_levels_of_a_file_are_those_of_the_benchmark(tmp_path: Path) -> None:
    """Problem 0 of two benchmarks is two problems; a row without a benchmark is of one more."""
    names = {"x": ("1", "2", None), "y": ("5", "5", "4"), None: ("3", "2", "1")}
    cells = [
        {"benchmark": name, "index": i, "level": level, "arm": arm, "verdict": arm == "a" or i > 0}
        for name, levels in names.items()
        for i, level in enumerate(levels)
        for arm in "ab"
    ]
    for file_name in ("a.jsonl", "b.csv"):
        head = list(cells[0])
        lines = [",".join("" if row[name] is None else str(row[name]) for name in head) for row in cells]
        found = file(tmp_path / file_name, *(cells if file_name == "a.jsonl" else [",".join(head), *lines]))
        known = found.compare("a", "b", None, None, found).by("level")
        assert known[["level", "n", "accuracy_b"]].values.tolist() == [
            ["1", 2, 0.5], ["2", 2, 1.0], ["3", 1, 0.0], ["4", 1, 1.0], ["5", 2, 0.5],
        ]  # fmt: skip


def test_grades_of_a_file_are_read_as_they_are_meant(tmp_path: Path) -> None:
    said = ["True", "TRUE", "true", "Correct", " correct ", "1", "1.0", "False", "0", "0.0", "Wrong", "NO_ANSWER"]
    lines = [f"{i},{word},{fake}" for i, (word, fake) in enumerate(zip(said, ["False", "", "0"] * 4, strict=True))]
    found = file(tmp_path / "a.csv", "index,verdict,fake", *lines).frame
    assert found.verdict.tolist() == ["correct"] * 7 + ["wrong"] * 4 + ["no_answer"]
    assert not found.fake.any()
    values = [True, 1, 1.0, "correct", False, 0, 0.0, "unverifiable"]
    found = file(tmp_path / "a.jsonl", *({"index": i, "verdict": v, "fake": 1} for i, v in enumerate(values))).frame
    assert found.verdict.tolist() == ["correct"] * 4 + ["wrong"] * 3 + ["unverifiable"] and found.fake.all()
    graded = [
        {"choice": "correct", "judge": "wrong"},
        {"semantic": "wrong", "judge": "some-model"},
    ]  # as `grade` has them
    found = file(tmp_path / "b.jsonl", *({"index": i, **grades} for i, grades in enumerate(graded))).frame
    assert dict(zip(found.scorer, found.verdict, strict=True)) == {
        "choice": "correct", "judge": "wrong", "semantic": "wrong",
    }  # fmt: skip


@pytest.mark.parametrize(
    "cells",
    [
        {"verdict": ""}, {"verdict": "yes"}, {"verdict": [1]}, {"verdict": 0.7}, {"verdict": 2},
        {"fake": "maybe"}, {"sample": "x"}, {"sample": 0.5}, {"sample": -1}, {"sample": [0]}, {"sample": True},
        {"tokens": "n/a"}, {"tokens": -3}, {"tokens": "inf"}, {"tokens": {}}, {"semantic": "0.5"},
        {"exact_match": 0.5}, {"verdict": None}, {"scorer": "semantic", "semantic": False},
    ],
)  # fmt: skip
def test_what_a_file_cannot_mean_is_an_error_with_its_row(cells: dict[str, object], tmp_path: Path) -> None:
    right = {"index": 0, "verdict": "correct", "sample": 0, "tokens": 3}
    with pytest.raises(MicotaError) as caught:
        _ = file(tmp_path / "a.jsonl", right, {**right, **cells}).frame
    assert caught.value.where == f"{tmp_path / 'a.jsonl'}, row 2" and caught.value.fix


def test_empty_cells_of_a_file_are_none(tmp_path: Path) -> None:
    found = file(tmp_path / "a.csv", "index,verdict,sample,tokens,arm", "0,1,,,", "0,0,,,").frame
    assert found["sample"].tolist() == [0, 1] and found.tokens.isna().all() and len(found.arm.unique()) == 1


def test_the_scorer_of_lm_evals_samples_is_the_filter(tmp_path: Path) -> None:
    """Two filters are two scorers, not two samples; a share stays a share."""
    sides = []
    for name, strict, flexible in (("a", [1.0, 0.0, 0.25], [1.0, 1.0, 1.0]), ("b", [0.0, 0.0, 0.75], [1.0, 0.0, 1.0])):
        lines = [
            {"doc_id": i, "filter": by, "exact_match": share, "doc": {"question": f"q{i}"}}
            for by, shares in (("strict", strict), ("flexible", flexible))
            for i, share in enumerate(shares)
        ]
        sides.append(file(tmp_path / f"{name}.jsonl", *lines))  # fmt: skip
    a, b = sides
    assert a.frame["sample"].tolist() == [0] * 6
    found = a.compare(str(a.path), str(b.path), "strict", None, b)
    assert found.differences.accuracy.tolist() == [1.0, 0.0, -0.5]
    assert a.compare(str(a.path), str(b.path), "flexible", None, b).differences.accuracy.tolist() == [0.0, 1.0, 0.0]
    with pytest.raises(MicotaError, match="grade of a row"):
        _ = file(tmp_path / "c.jsonl", {"doc_id": 0, "filter": "strict", "exact_match": 1.5}).frame


def test_rows_of_one_number_and_two_texts_are_refused(tmp_path: Path) -> None:
    def side(name: str, **texts: str) -> GradedFile:
        rows = [{"index": i, "verdict": 1, **{column: f"{t} {i}" for column, t in texts.items()}} for i in range(3)]
        return file(tmp_path / name, *rows)

    def both(a: GradedFile, b: GradedFile) -> int:
        return len(a.compare(str(a.path), str(b.path), None, None, b).differences)

    one = side("a.jsonl", prompt="add")
    with pytest.raises(MicotaError, match=r"'0' of 'rows' has two texts in `prompt`, and so have 3 of 3"):
        both(one, side("b.jsonl", prompt="subtract"))
    assert both(one, side("b.jsonl", prompt="add ")) == 3  # white space is no difference
    assert both(one, side("b.jsonl")) == both(one, side("b.jsonl", question="subtract")) == 3  # nothing to hold it to
    named = side("a.jsonl", problem_text="add", prompt="Add:")
    assert both(named, side("b.jsonl", problem_text="add", prompt="Please add:")) == 3
    mixed = [{"index": 0, "verdict": 1, "prompt": text} for text in ("add", "subtract")]  # two sets in one file
    with pytest.raises(MicotaError, match="two texts in `prompt`"):
        both(file(tmp_path / "a.jsonl", *mixed), side("b.jsonl"))
    lines = [{"doc_id": 0, "filter": "none", "exact_match": 1.0, "doc": {"question": text}} for text in "xy"]
    with pytest.raises(MicotaError, match="two texts in `doc`"):
        both(file(tmp_path / "a.jsonl", lines[0]), file(tmp_path / "b.jsonl", lines[1]))


def test_responses_are_those_of_the_frame(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = results(
        world, "name: small\n" + LET + NEUTRAL[NEUTRAL.index("\narms:") : NEUTRAL.index("\nevaluate:")] + EVALUATE
    )
    grade(found, {"strong": "ccww", "micota": "cwcw"})
    again = Results(found.recipe, world.fresh())
    given = [str(world.recipe_file), "--store", str(world.folder / "store")]
    rows_file = tmp_path / "rows.jsonl"
    assert (
        command(monkeypatch, "responses", *given, "--right", "micota", "--wrong", "strong", "--out", str(rows_file))
        == 0
    )
    written = [json.loads(line) for line in rows_file.read_text().splitlines()]
    frame = again.frame[again.frame.scorer == "semantic"]
    share = frame.assign(right=frame.verdict == "correct").pivot(index="problem", columns="arm", values="right")
    expected = share[share.micota & ~share.strong].index.tolist()
    assert {row["problem"] for row in written} == set(expected) and len(written) == 2
    parquet = tmp_path / "rows.parquet"
    assert command(monkeypatch, "responses", *given, "--out", str(parquet)) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), again.with_texts(again.frame), check_categorical=False)
    where = ["--arm", "strong", "--verdict", "wrong", "--scorer", "exact_match", "--where", "tokens > 10"]
    assert command(monkeypatch, "responses", *given, *where) == 0
    shown = capsys.readouterr().out
    assert shown.count("strong · test-set · wrong (exact_match) · 11 tokens") == 1
    assert command(monkeypatch, "responses", *given, "--where", "token > 10") == 2
    assert "compare columns" in capsys.readouterr().err
    monkeypatch.chdir(world.folder)  # where a recipe is found by its name
    name = world.recipe_file.stem
    assert command(monkeypatch, "responses", f"{name}/strong", *given[1:], "--n", "0") == 0
    assert "micota · " not in (shown := capsys.readouterr().out) and "strong · " in shown
    assert command(monkeypatch, "compare", f"{name}/strong", f"{name}/micota", *given[1:]) == 0
    with pytest.raises(MicotaError, match="no answer has the arm 'mikota'"):
        again.selected(right="mikota", wrong="strong")


@pytest.mark.parametrize(
    ("a", "b", "problems"),
    [
        (["cc", "cw", "ww"], ["ww", "ww", "ww"], [0]),  # half is not more than half
        (["cccw", "cccc"], ["wwwc", "cwcw"], [0]),
        (["ccc", "ccw", "cww"], ["cww", "cww", "www"], [0, 1]),
        (["cc", "cc"], ["cc", "cw"], []),
        (["ccw", "ccc"], ["wwc", "nwt"], [0, 1]),  # no answer and a cut one are not right
    ],
)
def test_right_and_wrong_are_problems_over_all_samples_and_seeds(
    a: list[str], b: list[str], problems: list[int]
) -> None:
    """The letters of a problem are its responses: of the seeds 0 and 1 in turn, and so of several samples each."""
    words = {"c": "correct", "w": "wrong", "n": "no_answer", "t": "wrong"}
    rows = [
        {"arm": arm, "model": f"{arm}[seed={i % 2}]", "benchmark": "set", "seed": i % 2, "problem": str(problem)}
        | {"sample": i // 2, "scorer": "semantic", "verdict": words[letter]}
        for arm, letters in (("a", a), ("b", b))
        for problem, each in enumerate(letters)
        for i, letter in enumerate(each)
    ]
    frame = pd.DataFrame(rows)
    found = right_and_wrong(frame, "a", "b")
    assert sorted(set(found.problem)) == [str(problem) for problem in problems]
    assert found.index.tolist() == frame.index[frame.problem.isin([str(problem) for problem in problems])].tolist()
    share = frame.assign(right=frame.verdict == "correct").groupby(["arm", "problem"]).right.mean().unstack(0)
    assert sorted(set(right_and_wrong(frame, "a", None).problem)) == share.index[share.a > 0.5].tolist()
    assert sorted(set(right_and_wrong(frame, None, "b").problem)) == share.index[share.b < 0.5].tolist()
