"""What holds, by whose numbers; and the paper's own figures that stand beside."""

from __future__ import annotations

import math
import shutil

import pytest
from by_hand import PLAIN, SEEDED, cell, grade, results, table, texts
from conftest import World

from micota.report import paper, verdicts
from micota.report.results import Results
from micota.report.verdicts import Evidence
from micota.specs import Source
from micota.stats import Estimate, interval


def test_a_claim_has_an_interval_over_problems_and_one_over_seeds(world: World) -> None:
    found = results(world, SEEDED)
    half = {f"half[seed={s}]": "c" * (20 + s) + "w" * (20 - s) for s in range(3)}
    strong = {f"strong[seed={s}]": "c" * 4 + "w" * 36 for s in range(3)}
    grade(found, {"instruct": "c" * 8 + "w" * 32, **half, **strong})
    shown = table(found, "claims")
    row = texts(shown, "Half-size CoT is better than Strong Teacher CoT")
    assert row[1] == "+42.5 points"  # 21 of 40 on average against 4
    seeds = interval([16 / 40, 17 / 40, 18 / 40])
    assert row[3] == f"[{100 * seeds.low:+.1f}, {100 * seeds.high:+.1f}]"
    assert row[4:] == ["3 of 3", "40", "1", "holds"]
    worse = texts(shown, "Strong Teacher CoT is worse than Instruct")
    assert worse[3:5] == ["–", "3 of 3"]  # each seed has exactly the same difference: no interval
    assert worse[-1] == "holds for these models"


def test_claims_take_exact_match_where_it_is_and_compare_only_what_both_answered(world: World) -> None:
    found = results(world, PLAIN.replace("data: [test-set]", "data: [test-set, more-set]"))
    grade(found, {"instruct": "c" * 20 + "w" * 20, "strong": "c" * 2 + "w" * 38})
    grade(found, {"strong": "c" * 40}, by="semantic")
    lost = [e.spec for e in found.recipe.evaluations if (e.model, e.data) == ("strong", "more-set")]
    for manifest in map(found.store.manifest, lost):
        assert manifest is not None
        shutil.rmtree(found.store.files(manifest))
    again = Results(found.recipe, world.fresh())
    row = texts(table(again, "claims"), "Strong Teacher CoT is worse than Instruct")
    assert row[1] == "+45.0 points"
    assert row[-3:] == ["40", "1 of 2", "holds in this run"]
    shown = table(again, "table2")
    assert cell(shown, "Instruct", "Average, exact match").value == pytest.approx(50)
    assert cell(shown, "Strong Teacher CoT", "test-set (n = 40), exact match").text == "5.0 ± 3.5"
    assert cell(shown, "Strong Teacher CoT", "Average, exact match").text == "–"  # an average of all sets or none
    assert texts(table(again, "table2_more-set"), "Strong Teacher CoT")[1] == "–"


def test_the_merged_assistant_is_judged_by_a_ratio_and_a_loss(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, {"ta-mid": "c" * 30 + "w" * 10, "ta-long": "c" * 32 + "w" * 8}, tokens={"ta-mid": 100, "ta-long": 201})
    length, loss = table(found, "claims").rows[-2:]
    assert (length[1].text, length[-1].text) == ("0.50 of the length", "holds in this run")
    assert (loss[1].text, loss[-1].text) == ("+5.0 points", "no loss shown")
    grade(found, {"ta-mid": "c" * 5 + "w" * 35}, tokens={"ta-mid": 190})
    again = Results(found.recipe, world.fresh())
    assert [row[-1].text for row in table(again, "claims").rows[-2:]] == ["outside", "loses"]


@pytest.mark.parametrize(
    ("over", "seeds", "expected"),
    [
        ((0.1, 0.05, 0.15), [0.1, 0.11, 0.09], "holds"),
        ((0.1, 0.05, 0.15), [0.1], "holds in this run"),
        ((0.1, 0.05, 0.15), [], "holds in this run"),
        ((0.1, 0.05, 0.15), [0.3, -0.1], "holds for these models"),
        ((0.1, 0.05, 0.15), [0.1, 0.1], "holds for these models"),  # no spread, no interval over seeds
        ((0.1, -0.01, 0.21), [0.1, 0.11, 0.09], "not shown"),
        ((0.1, 0.0, 0.2), [], "not shown"),  # an interval that ends at zero does not exclude it
        ((0.1, math.nan, math.nan), [0.1, 0.11], "not shown"),
        ((-0.1, -0.15, -0.05), [-0.1, -0.11], "reversed"),
        ((math.nan, math.nan, math.nan), [], "missing"),
    ],
)
def test_the_word_follows_from_the_numbers(over: tuple[float, ...], seeds: list[float], expected: str) -> None:
    value, low, high = over
    assert verdicts.word(Evidence(Estimate(value, 0.02, low, high, 40), seeds)) == expected


def test_the_words_for_a_range_and_for_a_loss() -> None:
    def within(low: float, high: float) -> str:
        return verdicts.word(Evidence(Estimate((low + high) / 2, 0.01, low, high, 40), [], 0.4, 0.6))

    assert [within(*ends) for ends in ((0.45, 0.55), (0.55, 0.65), (0.7, 0.8), (0.1, 0.3))] == [
        *("holds in this run", "not shown", "outside", "outside")
    ]
    lost = [(0.1, 0.05, 0.15), (0.1, -0.02, 0.22), (-0.1, -0.15, -0.05), (0.0, math.nan, math.nan)]
    words = [verdicts.loss_word(Evidence(Estimate(v, 0.02, a, b, 40), [], -math.inf, 0)) for v, a, b in lost]
    assert words == ["loses", "no loss shown", "no loss shown", "no loss shown"]


def test_the_papers_tables_agree_with_each_other() -> None:
    for (role, who), (*cells, average) in paper.TABLE2.items():
        assert sum(cells) / 5 == pytest.approx(average, abs=0.02), (role, who)  # some cells are cut, others rounded
    for (teacher, role, size), (average, delta) in paper.TABLE1.items():
        if size != "14B":
            assert average - delta == pytest.approx(paper.TABLE2["instruct", size][-1], abs=0.011)
            if teacher == paper.R1:
                assert average == paper.TABLE2[role, size][-1]


def test_which_figure_of_the_paper_stands_beside() -> None:
    student, other = Source(ref="Qwen/Qwen2.5-1.5B-Instruct"), Source(ref="somebody/else")
    assistant, qwq, five = Source(ref="Qwen/Qwen2.5-14B-Instruct"), Source(ref=paper.QWQ), paper.BENCHMARKS
    assert paper.accuracy("micota", student, five) == "33.0"
    assert paper.accuracy("micota", student, ["gsm8k"]) == "70.2"
    assert paper.accuracy("micota", student, ["gsm8k", "math500"]) == ""  # the average of others
    assert paper.accuracy("micota", student, [None]) == ""
    assert paper.accuracy("micota", other, ["gsm8k"]) == paper.accuracy("micota", other, five) == ""
    assert paper.accuracy("", student, ["gsm8k"]) == ""  # a model of the paper's in no role of its
    assert paper.accuracy("teacher", qwq, five) == ""
    assert paper.accuracy("ta_long", assistant, five) == "54.9"
    assert paper.change("half", "instruct", student, qwq, five) == "-5.1"
    assert paper.change("half", "instruct", student, qwq, five[1:]) == ""
    assert paper.change("ta_long", "ta", assistant, qwq, five) == "+3.7"
    assert paper.change("ta_long", "ta", other, qwq, five) == ""
    assert paper.gain("micota", "instruct", student, five) == "+9.1"
    assert paper.gain("micota", "instruct", other, five) == ""
    assert paper.bits("micota", [assistant, student]) == "0.11 / 0.14"
    assert paper.bits("micota", [assistant, other]) == paper.bits("", [assistant]) == ""
