"""The lab's world of dates: right answers, right workings, and a tokenizer of byte-level BPE."""

import random
import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from micota.lab.documents import held_out
from micota.lab.tokenizer import SPECIAL, build, digits, learn_merges, read_merges
from micota.specs import Phase, Shape
from micota.training import pretraining as lab
from micota.worlds.dates import MONTHS, MovedDate
from micota.worlds.levels import CHECKED, EXPANDED, TERSE
from micota.worlds.workings import WORLDS, Style, compose, problems, split_of

NAMES = [name for name, _ in MONTHS]
FIRST = [
    "23 July, 33 days earlier, 32 days later, 4 months earlier, 12 days earlier",
    "2 April, 26 days earlier, 26 days earlier, 8 months later, 12 days later",
]
STYLES: list[Style] = ["basics", "mixed", "instruct", "terse", "long", "expanded", "checked", "slips"]


def drawn(n: int, seed: int = 0) -> list[MovedDate]:
    rng = random.Random(seed)
    found = [WORLDS["dates"].draw(rng, 1) for _ in range(n)]
    return [one for one in found if isinstance(one, MovedDate)]


def by_calendar(text: str) -> str:
    """The answer by the calendar of Python, in years of 365 days."""
    start, *moves = text.split(", ")
    day, month = int(start.split()[0]), NAMES.index(start.split()[1]) + 1
    for move in moves:
        number, unit, way = move.split()
        count = int(number) if way == "later" else -int(number)
        if unit == "days":
            moved = date(2021, 1, 1) + timedelta((date(2021, month, day).timetuple().tm_yday - 1 + count) % 365)
            day, month = moved.day, moved.month
        else:
            month = (month - 1 + count) % 12 + 1
            following = date(2021 + month // 12, month % 12 + 1, 1)
            day = min(day, (following - timedelta(1)).day)
    return f"{day} {NAMES[month - 1]}"


def test_answers_are_right() -> None:
    rows = problems(3000, seed=3, world="dates")
    assert [row["answer"] for row in rows] == [by_calendar(row["problem"]) for row in rows]
    assert all(re.fullmatch(r"\d+ \w+(, \d+ (days|months) (later|earlier)){3,4}", row["problem"]) for row in rows)
    assert {split_of(row["problem"]) for row in rows} == {"train"}


def test_the_problems_of_a_seed_never_change() -> None:
    rows = problems(2, seed=1, split="test", world="dates")
    assert [row["problem"] for row in rows] == FIRST


def test_every_written_equation_and_every_months_length_is_right() -> None:
    for one in drawn(500):
        for level in (EXPANDED, CHECKED):
            text = one.write([level] * len(one.moves))
            for left, right in re.findall(r"(-?\d+[-+]\d+)=(-?\d+)", text):
                assert eval(left) == int(right)
            for name, length in re.findall(r"(\w+) has (\d+)", text):
                assert dict(MONTHS)[name] == int(length)


def test_a_move_at_its_three_lengths() -> None:
    one = MovedDate((14, 2), ((25, "days"), (2, "months"), (-41, "days")))
    assert one.text == "14 March, 25 days later, 2 months later, 41 days earlier"
    assert one.write([TERSE] * 3) == (
        r"25 days later: 8 April. 2 months later: 8 June. 41 days earlier: 28 April. \boxed{28 April}"
    )
    assert one.write([EXPANDED, CHECKED, EXPANDED]) == (
        "25 days later: 14+25=39, March has 31, 39-31=8, April has 30: 8 April. "
        "2 months later: May, June has 30: 8 June. Check: 4+2=6: June, right. "
        "41 days earlier: 8-41=-33, May has 31, -33+31=-2, April has 30, -2+30=28: 28 April. "
        r"\boxed{28 April}"
    )


def test_a_slip_is_found_and_done_again() -> None:
    one = MovedDate((14, 2), ((25, "days"),))
    assert one.write([CHECKED], [1]) == (
        "25 days later: 14+25=39, March has 32, 39-32=7, April has 30: 7 April. "
        "Check: 7-25=-18, March has 31, -18+31=13: 13 March, wrong. "
        "Again, 25 days later: 14+25=39, March has 31, 39-31=8, April has 30: 8 April. "
        "Check: 8-25=-17, March has 31, -17+31=14: 14 March, right. "
        r"\boxed{8 April}"
    )
    inside = MovedDate((3, 2), ((25, "days"), (2, "months")))
    assert "wrong" not in inside.write([CHECKED, CHECKED], [2, 2]), "a slip that changes nothing is none"


@pytest.mark.parametrize("style", STYLES)
def test_a_style_ends_with_the_answer(style: Style) -> None:
    for one in drawn(100):
        assert compose(style, one, random.Random(1)).endswith(rf"\boxed{{{one.answer}}}")


def test_the_tokenizer_is_byte_level_bpe_learnt_from_workings(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    rng = random.Random(0)
    texts = [text for _ in range(4000) for text in _texts(rng)]
    assert learn_merges(texts, 160) == read_merges()
    lab.save(lab.create(Shape(width=16, layers=1, heads=1, feedforward=32), 0, "dates"), tmp_path, "dates")
    tokenizer, again = build("dates"), AutoTokenizer.from_pretrained(tmp_path)
    others = [r"What is $\frac{1}{2}$ of 漢字?", "a\n\n  b\t", "naïve 😀"]
    rows = tokenizer(texts[:400] + others)["input_ids"]
    assert again(texts[:400] + others)["input_ids"] == rows
    assert again.batch_decode(rows) == texts[:400] + others, "every text comes back, also of other worlds"
    assert len(again) == len(SPECIAL) + 256 + len(read_merges()) and type(again) is type(tokenizer)
    assert [again.decode([token]) for token in sorted(digits("dates"))] == list("0123456789")
    assert all(len(tokenizer(f" {name}")["input_ids"]) == 1 for name in NAMES)


def _texts(rng: random.Random) -> tuple[str, str]:
    one = WORLDS["dates"].draw(rng)
    return one.text, compose("mixed", one, rng)


def test_documents_are_held_out_of_its_own_problems() -> None:
    phase = Phase(style="terse", steps=1, lr=1e-3, shortest=3)
    tokens, labels = held_out(phase, "dates", 128, seed=5)[0]
    tokenizer = build("dates")
    begin = int((labels[0] >= 0).nonzero()[0]) + 1
    problem = tokenizer.decode(tokens[0, 2:begin]).removesuffix("<assistant>")
    assert split_of(problem) == "dev" and by_calendar(problem) in tokenizer.decode(labels[0][labels[0] >= 0])
