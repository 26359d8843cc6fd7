"""Every statistic that the report shows, against scipy or statsmodels on the same data."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats as scipy

from micota import stats
from micota.stats import Observed

CLOSE = 1e-9


def drawn(n: int, seed: int, seeds: int = 1) -> Observed:
    """A length for each (seed, problem): problems differ, and so do repetitions."""
    rng = random.Random(seed)
    of_problem = {f"p{i}": rng.lognormvariate(5, 0.6) for i in range(n)}
    return {(s, key): value * rng.uniform(0.5, 1.5) for s in range(seeds) for key, value in of_problem.items()}


def column(observed: Observed) -> np.ndarray:
    """The figures by problem, the mean over seeds, in the order of the problems."""
    keys = sorted({key for _, key in observed})
    return np.array([np.mean([value for (_, one), value in observed.items() if one == key]) for key in keys])


@pytest.mark.parametrize("freedom", [1, 1.4, 2, 3, 5.5, 29, 674, 12_000])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.975, 0.9995])
def test_t_quantile(p: float, freedom: float) -> None:
    assert stats.t_quantile(p, freedom) == pytest.approx(scipy.t.ppf(p, freedom), rel=CLOSE, abs=CLOSE)


def test_mean_and_standard_deviation() -> None:
    values = list(drawn(50, 1).values())
    assert stats.mean(values) == pytest.approx(np.mean(values), rel=CLOSE)
    assert stats.sd(values) == pytest.approx(scipy.tstd(values), rel=CLOSE)
    assert math.isnan(stats.mean([]))
    assert math.isnan(stats.sd([3.0]))


@pytest.mark.parametrize(("correct", "n"), [(7, 30), (1, 40), (250, 500), (29, 30)])
def test_accuracy_of_single_answers(correct: int, n: int) -> None:
    verdicts = [True] * correct + [False] * (n - correct)
    share, error = stats.accuracy(correct, n)
    assert (share, error) == pytest.approx((correct / n, scipy.sem(np.array(verdicts, float))), rel=CLOSE)
    found = stats.interval([float(one) for one in verdicts])
    assert (found.value, found.error) == pytest.approx((share, error), rel=CLOSE)


def test_accuracy_is_clustered_by_problem() -> None:
    rng = random.Random(2)
    hard = [rng.random() for _ in range(40)]
    verdicts = [[rng.random() < p for _ in range(6)] for p in hard]  # three seeds of two samples
    flat = np.array(verdicts, float).ravel()
    problems = np.repeat(np.arange(40), 6)
    fit = sm.OLS(flat, np.ones_like(flat)).fit(cov_type="cluster", cov_kwds={"groups": problems})
    found = stats.interval([stats.mean(of_problem) for of_problem in verdicts])
    assert (found.value, found.error) == pytest.approx((fit.params[0], fit.bse[0]), rel=CLOSE)
    assert found.error > 1.5 * scipy.sem(flat)  # samples of one problem are not as many problems


@pytest.mark.parametrize("k", [2, 3, 5])
def test_interval_over_seeds(k: int) -> None:
    values = [0.4 + 0.01 * (7 * i % 5) for i in range(k)]
    low, high = scipy.t.interval(0.95, k - 1, np.mean(values), scipy.sem(values))
    found = stats.interval(values)
    assert (found.value, found.error) == pytest.approx((np.mean(values), scipy.sem(values)), rel=CLOSE)
    assert (found.low, found.high, found.n) == pytest.approx((low, high, k), rel=CLOSE)


@pytest.mark.parametrize("seeds", [1, 3])
def test_paired_difference_of_accuracies_and_of_lengths(seeds: int) -> None:
    a, b = drawn(60, 3, seeds), drawn(60, 4, seeds)
    test = scipy.ttest_rel(column(a), column(b))
    found, of_units = stats.paired((a, b)), stats.bootstrap(list(column(a) - column(b)))
    assert found.value == pytest.approx(np.mean(column(a) - column(b)), rel=CLOSE)
    assert found.value / found.error == pytest.approx(test.statistic, rel=CLOSE)
    assert (found.low, found.high, found.n) == pytest.approx((of_units.low, of_units.high, 60), rel=CLOSE)


def test_only_common_pairs_of_seed_and_problem_are_compared() -> None:
    a = {(0, "p"): 1.0, (1, "p"): 0.0, (0, "q"): 1.0, (2, "r"): 1.0}
    b = {(0, "p"): 0.0, (1, "p"): 0.0, (1, "q"): 1.0, (2, "r"): 0.5}
    assert stats.differences(a, b) == [0.5, 0.5]


def test_mean_over_two_sets_has_the_degrees_of_freedom_of_welch() -> None:
    """The mean of two means is half the difference between the one and the other's negative."""
    a, b = column(drawn(30, 5)), column(drawn(200, 6)) / 3
    test = scipy.ttest_ind(a, -b, equal_var=False)
    limits = test.confidence_interval(0.95)
    found = stats.interval(list(a), list(b))
    assert found.value == pytest.approx((a.mean() + b.mean()) / 2, rel=CLOSE)
    assert found.value / found.error == pytest.approx(test.statistic, rel=CLOSE)
    assert (found.low, found.high) == pytest.approx((limits.low / 2, limits.high / 2), rel=CLOSE)
    assert found.n == 230


def test_ratio_of_mean_lengths() -> None:
    """A ratio of sums is the slope of a on b through the origin, weighted by 1 / b; its robust error is ours."""
    a, b = drawn(300, 7), drawn(300, 14)
    x, y = column(b), column(a)
    fit = sm.WLS(y, x, weights=1 / x).fit(cov_type="HC1")
    found = stats.ratio((a, b))
    assert (found.value, found.error) == pytest.approx((y.mean() / x.mean(), fit.bse[0]), rel=1e-7)
    half = scipy.t.ppf(0.975, 299) * fit.bse[0]
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), rel=1e-7)
    gain = stats.relative_gain((a, b))
    assert (gain.value, gain.low, gain.high) == pytest.approx((found.value - 1, found.low - 1, found.high - 1))
    assert gain.error == found.error


def quotient(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    return x.mean(axis) / y.mean(axis)


def test_ratio_agrees_with_a_bootstrap() -> None:
    a, b = drawn(300, 8), {pair: value * (1 + i % 7 / 10) for i, (pair, value) in enumerate(drawn(300, 8).items())}
    again = scipy.bootstrap((column(a), column(b)), quotient, paired=True, vectorized=True, n_resamples=4000, rng=0)
    found = stats.ratio((a, b))
    limits = again.confidence_interval
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=0.1 * (found.high - found.low))


def test_many_units_have_the_ends_that_resamples_would_give() -> None:
    lengths = np.rint(500 * np.random.default_rng(5).lognormal(0, 1, stats.MANY)).tolist()
    found = stats.bootstrap(lengths)
    again = scipy.bootstrap((lengths,), np.mean, method="percentile", n_resamples=2000, batch=100, rng=0)
    limits = again.confidence_interval
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=0.1 * found.error)
    assert found == stats.interval(lengths) != stats.bootstrap(lengths[1:])


def test_ratio_over_several_sets_is_that_of_the_means() -> None:
    one, two = (drawn(30, 9), drawn(30, 10)), (drawn(50, 11), drawn(50, 12))
    top = (column(one[0]).mean() + column(two[0]).mean()) / 2
    below = (column(one[1]).mean() + column(two[1]).mean()) / 2
    found = stats.ratio(one, two)
    units = [(column(a) - found.value * column(b)) / below for a, b in (one, two)]
    assert found.value == pytest.approx(top / below, rel=CLOSE)
    assert found.error == pytest.approx(math.hypot(*map(scipy.sem, units)) / 2, rel=CLOSE)


def test_difference_of_pooled_values_is_paired_where_problems_are_common() -> None:
    """Bits per character of two data sets: two slopes through the origin, with errors clustered by problem."""
    rng = random.Random(13)
    sizes = {f"p{i}": rng.lognormvariate(6, 0.5) for i in range(200)}
    a = {key: (size * rng.uniform(0.1, 0.3), size) for key, size in list(sizes.items())[:150]}
    b = {key: (size * rng.uniform(0.1, 0.2), size / 2) for key, size in list(sizes.items())[50:]}
    keys = sorted(sizes)
    rows = [(up, down, 0.0, keys.index(k)) for k, (up, down) in a.items()]
    rows += [(up, 0.0, down, keys.index(k)) for k, (up, down) in b.items()]
    up, one, two, problem = np.array(rows).T
    fit = sm.WLS(up, np.column_stack([one, two]), weights=1 / (one + two)).fit(
        cov_type="cluster", cov_kwds={"groups": problem.astype(int), "use_correction": False}
    )
    contrast = np.array([1.0, -1.0])
    error = math.sqrt(contrast @ fit.cov_params() @ contrast * 200 / 199)
    found = stats.pooled_difference(a, b)
    assert (stats.pooled(a), stats.pooled(b)) == pytest.approx(tuple(fit.params), rel=1e-7)
    assert (found.value, found.error) == pytest.approx((fit.params[0] - fit.params[1], error), rel=1e-7)
    half = scipy.t.ppf(0.975, 199) * error
    assert (found.low, found.high, found.n) == pytest.approx((found.value - half, found.value + half, 200), rel=1e-7)


def test_equal_units_have_no_interval() -> None:
    """Nothing varies, so nothing is known of the spread: as in scipy, the interval is nan, not a point."""
    with np.errstate(invalid="ignore"):
        assert np.isnan(scipy.t.interval(0.95, 3, 0.5, 0.0)).all()
    found = stats.interval([0.5] * 4)
    assert (found.value, found.error) == (0.5, 0.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    same = {("", f"p{i}"): (0.3 * size, float(size)) for i, size in enumerate((3, 7, 11))}
    problems = {key: sums for (_, key), sums in same.items()}
    assert math.isnan(stats.pooled_difference(problems, problems).low)


def test_too_little_gives_nan() -> None:
    assert math.isnan(stats.interval().value)
    assert math.isnan(stats.interval([1.0]).error)
    assert math.isnan(stats.interval([], [1.0, 2.0]).value)
    assert math.isnan(stats.paired(({}, {})).value)
    zero = {(0, "p"): 0.0, (0, "q"): 0.0}
    assert math.isnan(stats.ratio((zero, zero)).value)
    assert math.isnan(stats.pooled_difference({}, {}).value)
    assert math.isnan(stats.pooled({}))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"), [(0, 30, 0.0, 0.1135), (30, 30, 0.8865, 1.0), (0, 3, 0.0, 0.5615)]
)
def test_none_and_all_have_wilsons_interval_not_a_width_of_zero(correct: int, n: int, low: float, high: float) -> None:
    found = stats.proportion([float(correct > 0)] * n)
    assert (found.value, found.error) == (correct / n, pytest.approx(1 / (n + 1)))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert stats.accuracy(correct, n) == (correct / n, pytest.approx(1 / (n + 1)))
    both = stats.proportion([0.0] * n, [0.0] * n)
    assert 0 < both.error < 1 / (n + 1)


def test_no_share_reaches_beyond_none_or_all() -> None:
    """The t interval of 59 of 60 ends at 1.017; of two units that differ it is wider than all shares."""
    wide, found = stats.interval([1.0] * 59 + [0.0]), stats.proportion([1.0] * 59 + [0.0])
    assert wide.high > 1 and (found.low, found.high, found.error) == (wide.low, 1.0, wide.error)
    assert (stats.proportion([0.0, 1.0]).low, stats.proportion([0.0, 1.0]).high) == (0.0, 1.0)
    inside = [1.0, 0.0] * 30
    assert stats.proportion(inside) == stats.interval(inside)
    assert math.isnan(stats.proportion([1.0]).high)
