"""How fast the scorers are, as ratios to plain math-verify, interleaved in one run.

    python benchmarks/grading.py real_outputs.jsonl [--rounds 20]

The rows need `response` and `gold`. In each round every scorer grades all rows once, in turn, so that a busy
machine slows all of them alike; the ratio is that of the rounds' medians. `semantic` includes the hand-over
to its worker process. math-verify runs as its documentation says: `verify(parse(gold), parse(response))`.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from micota.grading import Grader, Item, Verdict, exact_match
from micota.grading.extract import final_answer
from micota.grading.semantic import decide, judge

Pass = Callable[[], object]


def plain_math_verify(items: Sequence[Item]) -> Pass:
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return lambda: [verify(parse(f"${item.gold}$"), parse(item.response)) for item in items]


def seconds(run: Pass) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def changed_verdicts(items: Sequence[Item]) -> int:
    """How many verdicts of the fast rules the slow path does not share."""
    changed = 0
    for item in items:
        answer = final_answer(item.response).answer
        fast = decide(answer, str(item.gold)) if answer is not None else None
        if answer is not None and fast is not None:
            slow = judge(answer, str(item.gold), identical=False).verdict
            changed += slow != (Verdict.correct if fast else Verdict.wrong)
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    lines = chosen.rows.read_text(encoding="utf-8").splitlines()
    items = [Item(row["response"], row["gold"]) for row in map(json.loads, lines)]
    with Grader() as grader:
        passes: dict[str, Pass] = {
            "math-verify": plain_math_verify(items),
            "semantic": lambda: grader.grade(items),
            "exact_match": lambda: [exact_match(item.response, item.gold) for item in items],
        }
        for run in passes.values():
            run()  # imports and the start of the worker belong to no round
        times: dict[str, list[float]] = {name: [] for name in passes}
        for _ in range(chosen.rounds):
            for name, run in passes.items():
                times[name].append(seconds(run))
    base = statistics.median(times["math-verify"])
    for name, measured in times.items():
        middle = statistics.median(measured)
        print(f"{name:12} {middle / len(items) * 1e3:8.3f} ms per row   {base / middle:8.1f} x math-verify")
    print(f"verdicts that the fast rules change: {changed_verdicts(items)} of {len(items)}")


if __name__ == "__main__":
    main()
