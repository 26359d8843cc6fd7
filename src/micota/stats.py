"""The statistics that the report shows. The unit is the problem: what several samples or several seeds say of one
problem is one observation. Intervals are two-sided, 95 %, by Student's t.

An interval needs at least two units that differ: from units that are all equal no spread can be read, and the
interval is (nan, nan) rather than a point.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

RESAMPLES = 10_000
MANY = 10_000  # units from which on a mean is as good as normal, whatever it is of
FLIPPED = 13  # units whose flips of signs, 8,192, are all counted
Observed = Mapping[tuple[Hashable, str], float]
"""A figure for each (seed, problem)."""


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, the ends of its 95 % interval, all in one unit, from `n` problems (or seeds)."""

    value: float = math.nan
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; nan of nothing."""
    return sum(values) / len(values) if values else math.nan


def sd(values: Sequence[float]) -> float:
    """The sample standard deviation, sqrt(sum (x - mean)^2 / (n - 1)); nan of fewer than two values."""
    if len(values) < 2:
        return math.nan
    if min(values) == max(values):
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def accuracy(correct: int, n: int) -> tuple[float, float]:
    """A proportion p of n problems with one answer each, and its standard error sqrt(p (1 - p) / (n - 1)).

    Of none or all it is how far Wilson's interval of one standard error reaches, 1 / (n + 1), not zero.
    """
    if n == 0:
        return math.nan, math.nan
    share = correct / n
    if share in (0, 1):
        return share, 1 / (n + 1)
    return share, math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else math.nan


@dataclass(frozen=True)
class Moments:
    """How many units a set has, their mean and their sample standard deviation."""

    n: int
    mean: float
    sd: float

    @classmethod
    def of(cls, counts: Mapping[float, int]) -> Moments:
        """From how often each value occurs."""
        n = sum(counts.values())
        centre = math.fsum(value * count for value, count in counts.items()) / n
        squares = math.fsum(count * (value - centre) ** 2 for value, count in counts.items())
        return cls(n, centre, math.sqrt(squares / (n - 1)) if n > 1 else math.nan)


def interval(*sets: Sequence[float]) -> Estimate:
    """The unweighted mean over problem sets of the mean of each set's units; t interval.

    value = mean_j m_j and error = sqrt(sum_j s_j^2 / n_j) / J, for J sets of n_j units with mean m_j and standard
    deviation s_j. The degrees of freedom are Satterthwaite's, (sum v_j)^2 / sum (v_j^2 / (n_j - 1)) with
    v_j = s_j^2 / n_j: for one set n - 1.

    With the shares of correct answers by problem it is accuracy, its error clustered by problem (cluster-robust for
    equally many answers of each). With the differences of two models by problem it is the paired t interval,
    of accuracies as of lengths; with one value a seed it is the t interval over k seeds with k - 1 degrees of freedom.
    """
    return interval_of(*map(_moments, sets))


def _moments(units: Sequence[float]) -> Moments:
    return Moments(len(units), mean(units), sd(units))


def interval_of(*sets: Moments) -> Estimate:
    """`interval` of sets of which the moments are known."""
    n, value = sum(one.n for one in sets), mean([one.mean for one in sets])
    if any(one.n < 2 for one in sets) or not sets:
        return Estimate(value, n=n)
    variances = [one.sd**2 / one.n for one in sets]
    error = math.sqrt(sum(variances)) / len(sets)
    if error < 1e-12 * (1 + max(abs(one.mean) + one.sd for one in sets)):  # equal, but for rounding
        return Estimate(value, 0.0, n=n)
    freedom = sum(variances) ** 2 / sum(v**2 / (one.n - 1) for v, one in zip(variances, sets, strict=True))
    half = t_quantile(0.975, freedom) * error
    return Estimate(value, error, value - half, value + half, n)


def proportion(*sets: Sequence[float]) -> Estimate:
    """`interval` of shares, its ends in [0, 1]; where all are 0 or all are 1, error and ends are Wilson's, not zero."""
    return proportion_of(*map(_moments, sets))


def proportion_of(*sets: Moments) -> Estimate:
    """`proportion` of sets of which the moments are known."""
    found = interval_of(*sets)
    if found.error != 0 or found.value not in (0, 1):
        return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
    error, reach = (math.hypot(*(z**2 / (one.n + z**2) for one in sets)) / len(sets) for z in (1, 1.96))
    low, high = (0.0, reach) if found.value == 0 else (1 - reach, 1.0)
    return Estimate(found.value, error, low, high, found.n)


def differences(a: Observed, b: Observed, times: float = 1.0) -> list[float]:
    """a - times * b on the common (seed, problem) pairs, one for each problem: the mean over its seeds."""
    of_problem: defaultdict[str, list[float]] = defaultdict(list)
    for pair in sorted(a.keys() & b.keys(), key=lambda pair: (pair[1], str(pair[0]))):
        of_problem[pair[1]].append(a[pair] - times * b[pair])
    return [mean(values) for values in of_problem.values()]


def paired(*sets: tuple[Observed, Observed]) -> Estimate:
    """The difference a - b of two models on what both answered: `bootstrap` of `differences`, in the unit of a."""
    return bootstrap(*(differences(a, b) for a, b in sets))


def ratio(*sets: tuple[Observed, Observed]) -> Estimate:
    """The ratio r of two models' means, each the unweighted mean over sets, paired by problem; a pure number.

    The interval is the delta method's: that of the units (a - r b) / mean(b), around r.
    """
    below = mean([mean(differences(b, a, 0.0)) for a, b in sets])
    if not below > 0:
        return Estimate(n=sum(len(differences(a, b)) for a, b in sets))
    value = mean([mean(differences(a, b, 0.0)) for a, b in sets]) / below
    return _around(value, [[u / below for u in differences(a, b, value)] for a, b in sets])


def relative_gain(*sets: tuple[Observed, Observed]) -> Estimate:
    """By how much a exceeds b, as a share of b: `ratio` minus 1; 0.1 is ten percent more."""
    found = ratio(*sets)
    return Estimate(found.value - 1, found.error, found.low - 1, found.high - 1, found.n)


Sums = Mapping[str, tuple[float, float]]
"""For each problem the sum above and the sum below the line of a pooled ratio, such as (bits, characters)."""


def pooled(sums: Sums) -> float:
    """The sum of all above the line over the sum of all below it; nan of nothing."""
    below = sum(down for _, down in sums.values())
    return sum(up for up, _ in sums.values()) / below if below else math.nan


def pooled_difference(a: Sums, b: Sums) -> Estimate:
    """The difference of two pooled ratios R over the n problems of either, with an interval by the delta method.

    Each problem's unit is u = (up_a - R_a down_a) / mean(down_a) - (up_b - R_b down_b) / mean(down_b), means over
    all n problems; a problem that one of the two lacks has zeros there. So problems common to both are paired.
    """
    problems = sorted(a.keys() | b.keys())
    if not (a and b):
        return Estimate()
    one, two = _influence(a, problems), _influence(b, problems)
    return _around(pooled(a) - pooled(b), [[x - y for x, y in zip(one, two, strict=True)]])


def _influence(sums: Sums, problems: Sequence[str]) -> list[float]:
    """How far each problem pulls the pooled ratio; their mean is zero."""
    centre = pooled(sums)
    below = sum(down for _, down in sums.values()) / len(problems)
    found = (sums.get(problem, (0.0, 0.0)) for problem in problems)
    return [(up - centre * down) / below for up, down in found]


def _around(value: float, sets: Sequence[Sequence[float]]) -> Estimate:
    """A value with the error and interval of units whose mean is zero."""
    found = interval(*sets)
    centre = 0.0 if math.isnan(found.value) else found.value
    return Estimate(value, found.error, value + found.low - centre, value + found.high - centre, found.n)


def t_quantile(p: float, freedom: float) -> float:
    """The point below which Student's t with `freedom` degrees of freedom lies with probability p."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


def bootstrap(*sets: Sequence[float]) -> Estimate:
    """`interval`, its ends from 10,000 resamples of the units of each set, with replacement.

    The quantiles lie as far out as Student's t and n / (n - 1) ask for (Hesterberg, 2015, expanded percentiles), so
    that few units give no short interval. The resamples are the same at every call. Units that agree have no interval.
    From 10,000 units in each set on the ends are those of `interval`, a thirtieth of an error off at most for lengths.
    """
    import numpy as np

    counted = [np.unique(np.asarray(units, float), return_counts=True) for units in sets]
    return _resampled(interval(*sets), *counted)


def bootstrap_of(counts: Mapping[float, int]) -> Estimate:
    """`bootstrap` of one set, from how often each value occurs."""
    import numpy as np

    values = sorted(counts)
    return _resampled(interval_of(Moments.of(counts)), (np.array(values), np.array([counts[one] for one in values])))


def _resampled(known: Estimate, *counted: tuple[Any, Any]) -> Estimate:
    """An estimate with the ends that resamples of the counted units of each set give."""
    import numpy as np
    from scipy.special import ndtr, stdtrit

    fewest = min((int(counts.sum()) for _, counts in counted), default=0)
    if not known.error > 0 or fewest >= MANY:
        return known
    dice, draws = np.random.default_rng(0), np.zeros(RESAMPLES)
    for values, counts in counted:
        n = int(counts.sum())
        for part in np.array_split(draws, 1 + RESAMPLES * len(values) // 2**22):  # of at most 32 MiB each
            part += dice.multinomial(n, counts / n, len(part)) @ values / n / len(counted)
    tail = ndtr(stdtrit(fewest - 1, 0.025) * math.sqrt(fewest / (fewest - 1)))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(known.value, known.error, float(low), float(high), known.n)


def exact_p(*sets: Sequence[float]) -> float:
    """The two-sided p of no difference, from the differences of paired units whose signs are flipped.

    Where every difference is as large as another or zero, as with one answer of each model to each problem, it is
    McNemar's exact test (the binomial over the discordant problems); else all flips of up to 13 units are counted, of
    more 9,999 are drawn, whole units with all of their samples. Sets count equally. nan of nothing, 1 of equal units.
    """
    import numpy as np

    weighted = [unit for unit in _whole([(unit, len(units)) for units in sets for unit in units]) if unit]
    if not any(map(len, sets)) or not weighted:
        return 1.0 if any(map(len, sets)) else math.nan
    sizes = [abs(unit) for unit in weighted]
    if max(sizes) - min(sizes) <= 1e-12 * max(sizes):
        better = sum(unit > 0 for unit in weighted)
        return mcnemar(better, len(weighted) - better)
    n, total, least = len(weighted), sum(sizes), abs(sum(weighted)) - 1e-12 * sum(sizes)
    if n <= FLIPPED:
        ups = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return float((np.abs(2 * (ups @ sizes) - total) >= least).mean())
    dice, extreme = np.random.default_rng(0), 0
    for _ in range(99):  # 101 draws each, which the processor's cache holds
        bits = np.frombuffer(dice.bytes(101 * -(-n // 8)), np.uint8).reshape(101, -1)
        flips = np.unpackbits(bits, axis=1, count=n)
        extreme += int((np.abs(2 * (flips @ sizes) - total) >= least).sum())
    return (1 + extreme) / RESAMPLES


def mcnemar(better: int, worse: int) -> float:
    """McNemar's exact two-sided p: the binomial over the discordant problems; 1 without any."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5))) if better + worse else 1.0


def _whole(units: Sequence[tuple[float, int]]) -> list[float]:
    """Units, each over the number of its set, times one number that makes whole numbers of them, so that sums tie.

    The shares of up to 10,000 samples have one; of other units it is 1.
    """
    shares = {unit: Fraction(unit).limit_denominator(10_000) for unit in {unit for unit, _ in units}}
    whole = math.lcm(*(share.denominator for share in shares.values())) * math.lcm(*{n for _, n in units})
    exact = all(abs(unit - share) < 1e-12 for unit, share in shares.items())
    if not exact or whole * len(units) > 2**53:
        return [unit / n for unit, n in units]
    wholes = {(unit, n): float(shares[unit] * whole / n) for unit, n in set(units)}
    return [wholes[pair] for pair in units]


def detectable(*sets: Sequence[float]) -> float:
    """The smallest difference that paired units like these would show at 5 % in 80 of 100 repetitions.

    It is (1.96 + 0.84) standard errors of the difference, and no less than six units of n: McNemar's exact test needs
    six discordant problems on one side to come below 0.05. nan of fewer than two units, and where it is more than 1.
    """
    error, fewest = interval(*sets).error, min(map(len, sets), default=0)
    smallest = min((abs(unit) for units in sets for unit in units if unit), default=1.0)
    found = max(2.8016 * error, 6 * smallest / fewest) if fewest > 1 else math.nan
    return found if found <= 1 else math.nan
