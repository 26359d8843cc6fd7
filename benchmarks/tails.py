"""How long a fleet takes for answers of very different lengths, simulated: `python benchmarks/tails.py [ROWS.jsonl]`.

256 engines, each with 64 answers at a time, which come at one rate whatever runs beside them. `static` gives engine i
every 256th problem at the start, as ranks of a job do; `fleet` feeds engines as they have room, by the rules of
`generation/fleet.py`; `ideal` is all work spread evenly, or the longest answer. Times are in those of a mean answer.
Lengths: those of ROWS (the file of a `generate` stage), and log-normal ones as reasoning
models have, cut at four times the mean. `uneven` engines are up to 1.25 times slower than the fastest.
"""

from __future__ import annotations

import heapq
import json
import math
import random
import sys
from collections import deque
from pathlib import Path
from statistics import mean

from micota.generation.fleet import SPREAD

ENGINES, BATCH = 256, 64
WINDOW = BATCH + BATCH // 4
"""How many requests an engine may owe, as `generation/member.py` says it."""


class Engine:
    """What runs, by its end; and what waits in the engine itself."""

    def __init__(self, pace: float) -> None:
        self.pace, self.running, self.waiting = pace, list[float](), deque[float]()

    def owed(self) -> int:
        """Requests that it was given and has not answered."""
        return len(self.running) + len(self.waiting)

    def fill(self, now: float) -> None:
        """Begin what there is room for."""
        while self.waiting and len(self.running) < BATCH:
            heapq.heappush(self.running, now + self.waiting.popleft() * self.pace)


def makespan(engines: list[Engine], waiting: deque[float]) -> float:
    """When the last answer ends; `waiting` are requests that no engine has yet."""
    now, ends = 0.0, list[tuple[float, int]]()

    def feed(number: int) -> None:
        one, room = engines[number], WINDOW - engines[number].owed()
        if waiting and (room >= WINDOW // SPREAD or not one.owed()):
            count = min(room, math.ceil(len(waiting) / len(engines)))
            one.waiting.extend(waiting.popleft() for _ in range(count))
        one.fill(now)
        if one.running:
            heapq.heappush(ends, (one.running[0], number))

    for number in range(len(engines)):
        feed(number)
    while ends:
        end, number = heapq.heappop(ends)
        if engines[number].running and engines[number].running[0] == end:
            now = heapq.heappop(engines[number].running)
            feed(number)
    return now


def compare(name: str, lengths: list[float], paces: list[float]) -> dict[str, float | str]:
    """A line: both ways against the ideal."""
    static, fleet = [Engine(pace) for pace in paces], [Engine(pace) for pace in paces]
    for number, one in enumerate(static):
        one.waiting.extend(lengths[number::ENGINES])
    ideal = max(sum(lengths) / sum(BATCH / pace for pace in paces), max(lengths) * min(paces))
    found = {"static": makespan(static, deque()), "fleet": makespan(fleet, deque(lengths))}
    row: dict[str, float | str] = {"what": name, "answers": len(lengths), "ideal": round(ideal, 2)}
    row |= {way: round(seconds, 2) for way, seconds in found.items()}
    return row | {
        "static_to_fleet": round(found["static"] / found["fleet"], 3),
        "fleet_to_ideal": round(found["fleet"] / ideal, 3),
    }


def main() -> None:
    dice, drawn = random.Random(0), dict[str, list[float]]()
    if len(sys.argv) > 1:
        rows = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
        drawn["lab"] = [float(row["tokens"]) for row in rows]
    drawn["reasoning"] = [min(4 * math.exp(0.5), dice.lognormvariate(0, 1)) for _ in range(100_000)]
    even, uneven = [1.0] * ENGINES, [dice.uniform(1, 1.25) for _ in range(ENGINES)]
    for name, lengths in drawn.items():
        middle = mean(lengths)
        for waves in (2, 8, 32):
            chosen = [one / middle for one in dice.choices(lengths, k=ENGINES * BATCH * waves)]
            for engines, paces in (("even", even), ("uneven", uneven)):
                print(json.dumps(compare(f"{name}, {engines}, {waves} waves", chosen, paces)), flush=True)


if __name__ == "__main__":
    main()
