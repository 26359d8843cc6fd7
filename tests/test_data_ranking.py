"""How a map of students, data and measures is analysed: against scipy, constructed maps, and a published one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as known

from micota.report import data_ranking as analysis
from micota.stats import bootstrap

PUBLISHED = Path(__file__).parent / "data" / "rsr_published.csv"
PAPER = {"Qwen-3-14B": 0.855, "LLaMA-3.1-8B": 0.845, "Qwen-2.5-7B": 0.918, "Qwen-3-4B": 0.818, "Qwen-2.5-3B": 0.845}
"""Spearman's correlations of Table 13, from accuracies with more digits than are printed."""


def tidy(accuracy: Any, **measures: Any) -> pd.DataFrame:
    """A map out of arrays (student, seed, data set)."""
    shape = np.shape(accuracy)
    index = pd.MultiIndex.from_product([range(n) for n in shape], names=["student", "seed", "data"])
    columns = {name: np.broadcast_to(values, shape).ravel() for name, values in measures.items()}
    return pd.DataFrame({"accuracy": np.ravel(accuracy), **columns}, index).reset_index()


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    frame = pd.read_csv(PUBLISHED, comment="#").rename(columns={"surprisal": "bpc"})
    return frame.assign(seed=0, accuracy=frame["accuracy"] / 100)


def test_correlations_are_scipy_s_with_its_sign_for_the_preferred_end() -> None:
    dice = np.random.default_rng(1)
    accuracy, rsr, local = dice.random((2, 5, 9)), dice.random((2, 5, 9)).round(1), dice.random((2, 5, 9))
    found = analysis.correlations(tidy(accuracy, rsr=rsr, local=local)).set_index(["student", "measure"])
    for student in range(2):
        for name, values, sign in (("rsr", rsr, -1), ("local", local, 1)):
            each = [known.spearmanr(sign * values[student, i], accuracy[student, i])[0] for i in range(5)]
            expected, row = bootstrap(each), found.loc[(student, name)]
            assert row["value"] == pytest.approx(np.mean(each))
            assert (row["low"], row["high"], row["n"]) == pytest.approx((expected.low, expected.high, 5))


def test_with_one_seed_the_data_sets_are_resampled_as_scipy_does(published: pd.DataFrame) -> None:
    one = published[published["student"] == "Qwen-2.5-7B"]
    row = analysis.correlations(one, ["rsr"]).iloc[0]
    data = (-one["rsr"].to_numpy(), one["accuracy"].to_numpy())
    expected = known.bootstrap(
        data, lambda x, y: known.spearmanr(x, y)[0], paired=True, vectorized=False, n_resamples=999,
        method="percentile", random_state=np.random.default_rng(5),
    )  # fmt: skip
    assert row["value"] == pytest.approx(known.spearmanr(*data)[0])
    assert row["low"] == pytest.approx(expected.confidence_interval.low, abs=0.1)
    assert row["high"] == pytest.approx(expected.confidence_interval.high, abs=0.02)
    assert row["n"] == 11


def test_the_published_table_says_what_its_paper_says(published: pd.DataFrame) -> None:
    assert (published["rank"] / published["bpc"]).to_numpy() == pytest.approx(published["rsr"], abs=0.006)
    found = analysis.correlations(published, ["rsr", "bpc", "tokens"])
    by_rsr = found[found["measure"] == "rsr"].set_index("student")["value"]
    assert dict(by_rsr) == pytest.approx(PAPER, abs=0.031), "equal accuracies of the printed digits are ties here"
    means = found.groupby("measure")["value"].mean()
    assert means["rsr"] == pytest.approx(0.856, abs=0.011)
    assert means["bpc"] == pytest.approx(0.49, abs=0.03), "Table 4, average surprisal"
    assert -means["tokens"] == pytest.approx(0.53, abs=0.01), "Table 4, the longer the better"
    cost = analysis.regrets(published, ("rsr",)).set_index("student")["regret"] * 100
    assert dict(cost.round(6)) == pytest.approx(
        {"Qwen-3-14B": 0, "LLaMA-3.1-8B": 1.1, "Qwen-2.5-7B": 0, "Qwen-3-4B": 0.7, "Qwen-2.5-3B": 1.2}
    )
    best = published.loc[published.groupby("student")["rsr"].idxmin(), "data"]
    assert set(best) == {"QwQ-32B"}, "one teacher for all: the table does not show that students are told apart"


def test_regret_and_gain_of_a_constructed_map() -> None:
    accuracy = np.array([[[0.2, 0.5, 0.8], [0.3, 0.4, 0.7]]])  # one student, two seeds, three data sets
    frame = tidy(accuracy, rsr=[[[3.0, 1.0, 2.0], [2.0, 3.0, 1.0]]], tokens=[[[1.0, 1.0, 2.0]]])
    by_rsr = analysis.regrets(frame, ("rsr",))
    assert list(by_rsr["regret"]) == pytest.approx([0.3, 0.0])
    assert list(by_rsr["gain"]) == pytest.approx([0.0, 0.7 - 1.4 / 3])
    assert list(analysis.regrets(frame, ("tokens",))["regret"]) == pytest.approx([0.45, 0.35]), "a tie is its mean"
    both = analysis.ranks(frame, ("rsr", "tokens"))
    assert both.loc[(0, 0)].tolist() == [4.5, 2.5, 5.0]
    gone = frame.assign(rsr=frame["rsr"].where(frame["data"] != 1))
    assert list(analysis.regrets(gone, ("rsr",))["regret"]) == pytest.approx([0.0, 0.0]), "without a rank, not chosen"


def test_the_choice_on_one_half_is_tested_on_the_other() -> None:
    """A measure that is right on the first seeds and wrong on the last is chosen; its regret is that of the last."""
    seeds = np.arange(6)[None, :, None]
    accuracy = np.broadcast_to(np.array([0.1, 0.4, 0.6]), (2, 6, 3)) + 0.001 * seeds
    right, wrong = np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])
    frame = tidy(accuracy, rsr=np.where(seeds < 3, right, wrong), bpc=[2.0, 1.0, 3.0], tokens=[1.0, 3.0, 2.0])
    found = analysis.tested(frame)
    assert found.names == ("rsr",)
    assert found.regret.value == pytest.approx(0.5)
    assert found.gain.value == pytest.approx(0.1 - 1.1 / 3)
    assert found.constant.value == pytest.approx(0.0), "what was best before still is"
    assert found.regret.n == 3
    by_student = analysis.tested(frame, unit="student")
    assert by_student.regret.n == 1


def test_two_measures_together_can_name_what_neither_names() -> None:
    accuracy = np.broadcast_to(np.array([0.2, 0.9, 0.2]), (1, 4, 3))
    frame = tidy(accuracy, rsr=[1.0, 1.5, 5.0], bpc=[5.0, 1.5, 1.0])
    alone = [analysis.regrets(frame, (name,))["regret"].mean() for name in ("rsr", "bpc")]
    assert alone == pytest.approx([0.7, 0.7])
    assert analysis.regrets(frame, ("rsr", "bpc"))["regret"].mean() == pytest.approx(0.7 * 2 / 3), "ranks 4, 4, 4 tie"
    frame = tidy(np.broadcast_to(np.array([0.2, 0.9, 0.2, 0.2]), (1, 4, 4)), rsr=[1.0, 2, 3, 4], bpc=[4.0, 2, 3, 1])
    assert analysis.regrets(frame, ("rsr", "bpc"))["regret"].tolist() == pytest.approx([0] * 4), "ranks 5, 4, 6, 5"


def test_what_has_no_order_or_no_measure_has_no_correlation() -> None:
    accuracy = np.array([[[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]])
    same = analysis.correlations(tidy(accuracy[:, :1], rsr=1.0)).iloc[0]
    assert np.isnan([same["value"], same["low"]]).all()
    missing = tidy(accuracy, rsr=[[[1.0, 2.0, np.nan], [np.nan] * 3]])
    assert analysis.measures(missing.assign(bpc=np.nan)) == ["rsr"]
    row = analysis.correlations(missing).iloc[0]
    assert (row["value"], row["n"]) == (-1.0, 1), "the one seed with measures, over the data sets that have one"


def test_what_each_measure_was_worth_beside_what_following_it_costs() -> None:
    """Two students of two seeds, three data sets: `bpc` names the best, `tokens` the worst."""
    accuracy = [[[0.2, 0.5, 0.8], [0.3, 0.5, 0.9]], [[0.1, 0.2, 0.3], [0.1, 0.2, 0.4]]]
    found = analysis.worth(tidy(accuracy, tokens=np.array([1.0, 2.0, 3.0]), bpc=np.array([3.0, 2.0, 1.0])))
    assert list(found["measure"]) == ["bpc", "tokens"]
    best, worst = found.to_dict("records")
    assert (best["correlation"], best["lowest"], best["highest"], best["regret"]) == (1, 1, 1, 0)
    assert (worst["correlation"], worst["regret"]) == (-1, pytest.approx(np.mean([0.6, 0.6, 0.2, 0.3])))
    assert best["gain"] == pytest.approx(np.mean([0.3, 1 / 3, 0.1, 1 / 6]))
    half = known.t.ppf(0.975, 1) * np.std([0.4, 0.45], ddof=1) / np.sqrt(2)
    assert worst["regret_high"] == pytest.approx(0.425 + half)
