"""What the driver of a fleet can take: `python benchmarks/fleet.py [ENGINES] [ANSWERS]` in an environment with Ray.

Engines on raylets of this machine answer with 8 KB each; the fleet hands the answers to a pool on the disk. A line of
JSON for each: `flood`, where every answer is ready at once (answers a second, the driver's CPU for each), and `paced`,
where each engine has 128 answers under way of 2 to 6 seconds (from the end of an answer until it is on the disk).
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
from itertools import islice
from pathlib import Path
from statistics import quantiles
from threading import Event
from typing import Any

from micota.generation.collection import collect
from micota.generation.fleet import Fleet
from micota.machine import EngineConfig
from micota.machine.cluster import EnginesOnRay
from micota.specs import Generate, Problems, Prompt, Source
from micota.store.pool import Pool
from micota.store.records import Completion, Request, text_key

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
    fleet = Fleet(
        opened, SPEC, None, EngineConfig(engine="openai", url="http://h/v1", batch=batch, ray=ray), 1, Event()
    )
    late, times = list[float](), list[tuple[float, float, int]]()
    for step in collect(fleet, requests, Pool(folder / name), {}, folder / "plan.json"):
        now = time.time()
        late += [now - float(answer.engine) for answer in step.new]
        if step.new:
            times.append((time.monotonic(), time.process_time(), len(step.new)))
    fleet.close()
    first = next(i for i in range(len(times)) if sum(n for _, _, n in times[: i + 1]) >= len(requests) // 4)
    wall, cpu = times[-1][0] - times[first][0], times[-1][1] - times[first][1]
    count, cuts = sum(n for _, _, n in times[first + 1 :]), quantiles(late[len(late) // 4 :], n=100)
    row: dict[str, float | str] = {"what": name, "engines": engines, "answers": len(requests)}
    row |= {"answers_per_s": round(count / wall), "driver_us_per_answer": round(cpu / count * 1e6)}
    return row | {"late_p50_s": round(cuts[49], 3), "late_p99_s": round(cuts[98], 3), "late_max_s": round(max(late), 3)}


def main(engines: int = 16, answers: int = 20000) -> None:
    """Start a cluster of four raylets, measure, end it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import ray
    from raylets import raylets

    share, dice = -(-engines // 4), random.Random(0)
    with tempfile.TemporaryDirectory() as folder, raylets(share, share, share, share) as cluster:
        os.environ["RAY_ADDRESS"] = cluster.address
        paced = [dice.uniform(2, 6) for _ in range(engines * 128 * 3)]
        for name, batch, seconds in (("flood", 64, [0.0] * answers), ("paced", 128, paced)):
            print(json.dumps(measure(Path(folder), name, engines, batch, seconds)), flush=True)
        ray.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
