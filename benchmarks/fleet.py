"""What the driver of a fleet can take: `python benchmarks/fleet.py [ENGINES] [ANSWERS]` in an environment with Ray.

Engines on raylets of this machine answer with 8 KB each; the fleet hands the answers to a pool on the disk. A line of
JSON for each: `flood`, where every answer is ready at once (answers a second, the driver's CPU for each), and `paced`,
where each engine has 128 answers under way of 2 to 6 seconds (from the end of an answer until it is on the disk).

`python benchmarks/fleet.py vllm [PAIRS] [ANSWERS]` (or `transformers`) is what a fleet costs an engine: the lab's
teacher in this process and in a fleet of one, in turn; answers a second without the start, and the ratio of each pair.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import quantiles
from threading import Event
from typing import Any

from micota.generation.collection import collect
from micota.generation.engine import Engine, open_engine
from micota.generation.fleet import Fleet
from micota.machine import EngineConfig
from micota.machine.cluster import EnginesOnRay
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.store.pool import Pool
from micota.store.records import Completion, Request, text_key
from micota.store.resolution import LAB_MODELS

SOURCE = Source(ref="lab:teacher", revision="1")
SPEC = Generate(model=SOURCE, problems=Problems(source=SOURCE), prompt=Prompt(template="{problem}"))


class Timed:
    """An engine whose answers take the seconds that their prompt says, `room` at a time; each says when it ended."""

    batch = None

    def __init__(self, room: int) -> None:
        self._room = room

    def answer(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """The answers in the order in which they end."""
        due: list[tuple[float, str, Request]] = []
        text, source = "so " * 2700, iter(requests)
        while True:
            for request in islice(source, self._room - len(due)):
                heapq.heappush(due, (time.time() + float(request.prompt), request.key, request))
            if not due:
                return
            time.sleep(min(0.02, max(0.0, due[0][0] - time.time())))
            group = []
            while due and due[0][0] <= time.time():
                end, _, request = heapq.heappop(due)
                group.append(Completion(request.key, 0, request.prompt, text, "stop", 1, 2700, str(end)))
            yield group


def opened(spec: Any, folder: Any, place: EngineConfig, *_: Any) -> Timed:
    """What an actor opens."""
    return Timed(place.batch)


def measure(folder: Path, name: str, engines: int, batch: int, seconds: list[float]) -> dict[str, float | str]:
    """One collection into a pool. The first quarter, in which engines start, is not counted."""
    requests = [Request(text_key(str(i)), 0, str(wait)) for i, wait in enumerate(seconds)]
    ray = EnginesOnRay(replicas=engines, cpus=0.01, resources={"engine": 1})
    place = EngineConfig(engine="openai", url="http://h/v1", batch=batch, ray=ray)
    began = time.monotonic()
    late, times = collected(Fleet(opened, SPEC, None, place, 1, Event()), requests, folder / name)
    first, cuts = quarter(times), quantiles(late[len(late) // 4 :], n=100)
    count, wall, cpu = times[-1][2] - first[2], times[-1][0] - first[0], times[-1][1] - first[1]
    row: dict[str, float | str] = {"what": name, "engines": engines, "answers": len(requests)}
    row |= {"first_answer_s": round(times[0][0] - began, 1)}
    row |= {"answers_per_s": round(count / wall), "driver_us_per_answer": round(cpu / count * 1e6)}
    return row | {"late_p50_s": round(cuts[49], 3), "late_p99_s": round(cuts[98], 3), "late_max_s": round(max(late), 3)}


Seen = tuple[float, float, int]
"""The clock, the driver's CPU seconds, and how many answers are on the disk."""


def collected(engine: Engine, requests: list[Request], folder: Path) -> tuple[list[float], list[Seen]]:
    """Collect answers into a new pool: how late each is, where its engine says when it ended, and how it went."""
    late, times, count = list[float](), list[Seen](), 0
    with closing(engine), tempfile.TemporaryDirectory() as plan:
        for step in collect(engine, requests, Pool(folder), {}, Path(plan) / "plan.json"):
            late += [time.time() - float(answer.engine) for answer in step.new if answer.engine[:1].isdigit()]
            count += len(step.new)
            if step.new:
                times.append((time.monotonic(), time.process_time(), count))
    return late, times


def quarter(times: list[Seen]) -> Seen:
    """When a quarter of the answers was there."""
    return next(one for one in times if one[2] >= times[-1][2] // 4)


def overhead(name: str, pairs: int, answers: int, folder: Path) -> None:
    """A line for each pair: the same answers by an engine in this process and by a fleet of one such engine."""
    requests, model = [Request(text_key(str(i)), 0, f"{i} + 4 = ?") for i in range(answers)], LAB_MODELS / "teacher"
    plain = EngineConfig(engine=name, batch=16)  # type: ignore[arg-type]
    fleet = plain.changed(ray=EnginesOnRay(cpus=0.01, gpus=0, resources={"engine": 1}))
    spec = SPEC.changed(sampling=Sampling(max_tokens=200))
    for pair in range(pairs):
        rates = dict[bool, float]()
        for on_ray in (pair % 2 > 0, pair % 2 == 0):
            place = fleet if on_ray else plain
            _, times = collected(open_engine(spec, model, place, 1), requests, folder / f"{pair}-{on_ray}")
            first, last = quarter(times), times[-1]
            rates[on_ray] = (last[2] - first[2]) / (last[0] - first[0])
        row: dict[str, float | str] = {"what": name, "answers": answers, "plain_per_s": round(rates[False], 1)}
        print(json.dumps(row | {"fleet_per_s": round(rates[True], 1), "ratio": round(rates[True] / rates[False], 3)}))


def main(what: str = "16", *numbers: str) -> None:
    """Start a cluster of four raylets (of one for a fleet of one), measure, end it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import ray
    from raylets import raylets

    engines, dice = int(what) if what.isdigit() else 1, random.Random(0)
    share = -(-engines // 4)
    places = [share] * 4 if what.isdigit() else [1]
    with tempfile.TemporaryDirectory() as folder, raylets(*places) as cluster:
        os.environ["RAY_ADDRESS"] = cluster.address
        if what.isdigit():
            paced = [dice.uniform(2, 6) for _ in range(engines * 128 * 3)]
            flood = [0.0] * int(numbers[0] if numbers else 20_000)
            for name, batch, seconds in (("flood", 64, flood), ("paced", 128, paced)):
                print(json.dumps(measure(Path(folder), name, engines, batch, seconds)), flush=True)
        else:
            pairs, answers = (*map(int, numbers), *(5, 400)[len(numbers) :])
            overhead(what, pairs, answers, Path(folder))
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
