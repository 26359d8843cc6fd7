"""Several samples: drawn again until one is verified, avg@n and pass@k, and responses that run away."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from typing import Any

import pytest
from conftest import World, kinds, problem

from micota.errors import MicotaError
from micota.generation.repetition import loops
from micota.report.files import write
from micota.report.page import Table
from micota.report.page_sections import sections
from micota.report.results import Results
from micota.report.samples import majority, pass_at, samples
from micota.specs import Generate, RejectionSampling, Select
from micota.stats import mean, proportion

AGAIN = "let.long-cot.distil={from: teacher, data: train-set, until: verified, at_most: 3}"
WARM = "defaults.distil.sampling={max_tokens: 12, temperature: 1.0}"


def answered(world: World, right: dict[int, int]) -> None:
    """Problem i is answered rightly from sample right[i] on, wrongly before; others always rightly."""
    rows = []
    for i, sample in itertools.product(range(60), range(5)):
        one = problem(i)
        answer = one["answer"] if sample >= right.get(i, 0) else "999"
        rows.append({"problem": one["problem"], "sample": sample, "text": f"try {sample}: \\boxed{{{answer}}}"})
    (world.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def pooled(world: World) -> Counter[int]:
    """How many answers the pools have, by sample."""
    lines = (line for path in world.store.root.glob("pools/*/*.jsonl") for line in path.read_text().splitlines())
    return Counter(json.loads(line)["sample"] for line in lines)


def test_only_unverified_problems_are_asked_again_and_as_long_as_it_needs(world: World) -> None:
    answered(world, {0: 1, 1: 2, 2: 2, 3: 9})  # of 8 problems 4 at once, 1 at the second, 2 at the third try, 1 never
    made = world.run(WARM, AGAIN, only="long-cot")
    assert kinds(made) == ["generate"] * 3 + ["problems"] + ["select"] + ["verify"] * 3
    assert pooled(world) == {0: 8, 1: 4, 2: 3}
    manifest = world.store.manifest(world.load(WARM, AGAIN).named("long-cot"))
    assert manifest is not None
    assert manifest.facts["left"] == [4, 3, 1]
    assert (manifest.facts["kept"], manifest.facts["answers"]) == (7, 15)
    assert manifest.provenance["linked"] == "3 rounds, 1 problems without a verified answer"
    again = world.run(WARM, AGAIN, only="long-cot")
    assert (again.executed, again.linked) == ([], [])


def test_it_ends_as_soon_as_nothing_is_left_and_a_student_learns_from_it(world: World) -> None:
    answered(world, {0: 1})
    world.run(WARM, AGAIN, only="strong")
    assert pooled(world) == {0: 8, 1: 1}
    facts = world.store.manifest(world.load(WARM, AGAIN).named("strong"))
    assert facts is not None
    assert facts.facts["examples"] == 8


def test_the_report_counts_all_rounds_of_it(world: World) -> None:
    answered(world, {0: 1, 1: 9})
    world.run(WARM, AGAIN)
    path = write(world.load(WARM, AGAIN), world.store)
    (row,) = [line for line in (path.parent / "tables" / "funnel.csv").read_text().splitlines() if "long-cot" in line]
    assert row.startswith("long-cot,teacher,8,11,")  # problems, answers
    assert "strong" in path.read_text()


def test_more_tries_ask_only_for_what_is_still_owed(world: World) -> None:
    answered(world, {3: 4})
    world.run(WARM, AGAIN, only="long-cot")
    world.run(WARM, AGAIN.replace("3}", "5}"), only="long-cot")
    assert pooled(world) == {0: 8, 1: 1, 2: 1, 3: 1, 4: 1}


def test_the_first_round_is_the_plain_generation(world: World) -> None:
    redraw = world.load(WARM, AGAIN).named("long-cot")
    plain = world.load(WARM).named("long-cot")
    assert isinstance(redraw, RejectionSampling) and isinstance(plain, Select)
    assert redraw.completions.digest == plain.completions.digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("until: verified, at_most: 3", "set a temperature"),
        ("until: verified, at_most: 1, sampling: {temperature: 1.0}", "greater than or equal to 2"),
        ("until: verified, sampling: {temperature: 1.0}", "rejection sampling needs both fields"),
        ("until: verified, at_most: 3, n: 2, sampling: {temperature: 1.0}", "'n' does not go with"),
    ],
)
def test_what_cannot_be_drawn_again_is_refused(world: World, fields: str, message: str) -> None:
    with pytest.raises(MicotaError, match=message):
        world.load(f"let.long-cot.distil={{from: teacher, data: train-set, {fields}}}")


def test_pass_at_k_is_the_chance_over_all_choices_of_k_samples() -> None:
    for n in range(1, 7):
        for correct, k in itertools.product(range(n + 1), range(1, n + 1)):
            tries = [True] * correct + [False] * (n - correct)
            chosen = list(itertools.combinations(tries, k))
            assert pass_at(k, n, correct) == pytest.approx(mean([any(some) for some in chosen]))


def test_avg_and_pass_stand_in_a_table(world: World) -> None:
    answered(world, {50: 2, 51: 9, 52: 1})  # of four problems the correct of four samples are 2, 0, 3, 4
    warm = ["evaluate.n=4", "evaluate.sampling={max_tokens: 12, temperature: 1.0}", "evaluate.models=[instruct]"]
    world.run(*warm, only="instruct@test-set")
    (shown,) = samples(Results(world.load(*warm), world.store))
    assert shown.head == ("Model", "Problems", "k", "avg@k", "pass@k", "pass^k", "maj@k", "Truncated", "Repetitive")
    avg, rights = [0.5, 0, 0.75, 1], (2, 0, 3, 4)
    one_of = [1 - math.comb(4 - c, 2) / math.comb(4, 2) for c in rights]
    both = [math.comb(c, 2) / math.comb(4, 2) for c in rights]
    figures = [[avg, one_of, both, avg], [avg, [1, 0, 1, 1], [0, 0, 0, 1], [0.5, 0, 1, 1]]]  # all wrong ones are 999
    for k, row, expected in zip((2, 4), shown.rows, figures, strict=True):
        assert [cell.value for cell in row][2:] == [k, *(pytest.approx(100 * mean(one)) for one in expected), 0, 0]
    ends = proportion(both)
    assert shown.rows[0][5].text == f"{100 * mean(both):.1f} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"
    frame = Results(world.load(*warm), world.store).samples().set_index(["k", "measure"])
    assert frame.loc[(4, "maj@k"), "value"] == pytest.approx(2.5 / 4) and len(frame) == 8


@pytest.mark.parametrize(
    ("votes", "k", "expected"),
    [
        ([0, 0, 1, 2], 4, 1), ([0, 1, 1], 3, 0), ([0, 1], 2, 0.5), ([-1, -1, 0], 3, 1), ([-1], 1, 0),
        ([0, 0, 1, 1], 3, 0.5), ([0, 0, 1, 1], 2, 0.5), ([0, 1, 2], 3, 1 / 3), ([0, 0, 0, 1], 1, 0.75), ([1, 1], 2, 0),
        ([0] * 30 + [1] * 34, 64, 0),
    ],
)  # fmt: skip
def test_a_majority_shares_ties_and_counts_no_empty_votes(votes: list[int], k: int, expected: float) -> None:
    assert majority(k, votes) == pytest.approx(expected)


def test_the_majority_of_many_samples_is_drawn() -> None:
    votes = [0] * 40 + [1] * 24
    chance = sum(math.comb(40, c) * math.comb(24, 7 - c) for c in range(4, 8)) / math.comb(64, 7)
    assert majority(7, votes) == pytest.approx(chance, abs=0.03) and majority(7, votes) == majority(7, votes)


LOOPING = ["Wait, let me check. " * 40, "x" * 500, "So 2.\n" + "Is it 3? No.\n" * 30 + "Is it", "ab " * 2000]
CALM = ["", "ok", "x" * 50, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, " * 3, " " * 500 + "4"]
CALM += ["Wait. " * 100 + "Now the answer follows: it is \\boxed{4}, since two and two make four."]
CALM += ["".join(f"Step {i}: we add {i} to {i * i}.\n" for i in range(200))]


@pytest.mark.parametrize("text", LOOPING)
def test_a_text_that_ends_in_a_loop_is_found(text: str) -> None:
    assert loops(text)


@pytest.mark.parametrize("text", CALM)
def test_a_text_that_only_repeats_is_no_loop(text: str) -> None:
    assert not loops(text)


def piece_by_failures(text: str) -> bool:
    """The same by Knuth, Morris and Pratt: the shortest piece of each prefix of the text read backwards."""
    backwards = text[-6000:][::-1]
    reach, matched = [0] * len(backwards), 0
    for i in range(1, len(backwards)):
        while matched and backwards[i] != backwards[matched]:
            matched = reach[matched - 1]
        matched += backwards[i] == backwards[matched]
        reach[i] = matched
        if i + 1 >= 120 and (i + 1) >= 4 * (i + 1 - matched):
            return bool(backwards[: i + 1].strip())
    return False


def test_loops_are_those_that_another_algorithm_finds() -> None:
    dice, found = random.Random(0), 0
    for _ in range(3000):
        letters = "ab \n"[: dice.randint(1, 4)]
        piece = "".join(dice.choices(letters, k=dice.choice([1, 2, 7, 29, 30, 31, 100, 1499, 1500, 1501])))
        text = "".join(dice.choices(letters, k=dice.randint(0, 200))) + piece * dice.randint(0, 6)
        text += piece[: dice.randint(0, len(piece))] + dice.choice(["", "c"])
        assert loops(text) == piece_by_failures(text), text
        found += loops(text)
    assert 300 < found < 2700


def test_loops_are_counted_beside_what_is_truncated_and_stand_beside_every_score(world: World) -> None:
    rows: list[dict[str, Any]] = [{"problem": "*", "text": "Hm, wait. " * 99, "finish_reason": "length"}]
    rows += [{"problem": problem(50)["problem"], "text": r"\boxed{150}"}]
    (world.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    only = "evaluate.models=[instruct]"
    world.run(only, only="instruct@test-set")
    verdict = world.load(only).named("instruct@test-set")
    answers = next(child for child in verdict.children if isinstance(child, Generate))
    manifest = world.store.manifest(answers)
    assert manifest is not None
    assert (manifest.facts["truncated"], manifest.facts["looped"]) == (3, 3)
    tables = [item for one in sections(Results(world.load(only), world.store)) for item in one.items]
    shown = next(item for item in tables if isinstance(item, Table) and item.key == "accuracies")
    places = [shown.head.index(name) for name in ("Truncated", "Repetitive")]
    assert [shown.rows[0][i].text for i in places] == ["75.0", "75.0"]
