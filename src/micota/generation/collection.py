"""Ask an engine for answers and keep each one in its pool as soon as it is finished.

Greedy text can depend on the batch that it is computed in. So the batches are written down before the first of them is
asked, and an interrupted collection continues with the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.atomic import NoFile, files_only, write_json
from micota.generation.engine import Engine
from micota.store.checked import say
from micota.store.pool import Pool, Writer
from micota.store.records import Completion, Request


@dataclass(frozen=True)
class Step:
    """What an engine has just finished: the answers that are new in the pool, and how far the collection is."""

    new: Sequence[Completion]
    done: int
    total: int
    """In answers, those of batches that were finished before an interruption included."""


def by_length(request: Request) -> tuple[int, str, int]:
    """The order of requests in batches: prompts of similar length together."""
    return len(request.prompt), request.key, request.sample


def missing(requests: Sequence[Request], pool: Pool) -> list[Request]:
    """The requests that a pool has no answer to."""
    return [request for request in requests if (request.key, request.sample) not in pool]


def collect(
    engine: Engine,
    requests: Sequence[Request],
    pool: Pool,
    about: dict[str, Any],
    plan: Path,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Step]:
    """Ask for `requests`, batch by batch, and write what `pool` lacks into it; each step's answers are on the disk.

    `about` describes a new pool; the batches are kept in the file `plan`; `check` is called before each write. Call
    `pool.refresh()` to read the answers.
    """
    batches = _batches(plan, requests, engine.batch) if engine.batch else [requests]
    done, total = 0, sum(map(len, batches))
    with Writer(pool.folder, about, check) as writer:
        for batch in batches:
            wanted = {(request.key, request.sample) for request in missing(batch, pool)}
            done += 0 if wanted else len(batch)
            for answers in engine.answer(batch) if wanted else ():
                new = [answer for answer in answers if (answer.key, answer.sample) in wanted]
                if new:
                    writer.write(new)
                done += len(answers)
                yield Step(new, done, total)


def _batches(plan: Path, requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Batches of prompts of similar length: the planned ones, unless a request is in none of them."""
    planned = {(key, sample) for batch in _read(plan) for key, sample, _ in batch}
    if not all((request.key, request.sample) in planned for request in requests):
        ordered = sorted(requests, key=by_length)
        batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        write_json(plan, [[(r.key, r.sample, r.prompt) for r in batch] for batch in batches])
    return [[Request(*row) for row in batch] for batch in _read(plan)]


def _read(plan: Path) -> list[list[tuple[str, int, str]]]:
    try:
        with open(plan, encoding="utf-8", opener=files_only) as file:
            batches = json.load(file)
        return [[(str(key), int(sample), str(prompt)) for key, sample, prompt in batch] for batch in batches]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, NoFile):
        say(f"{plan} cannot be read: the batches are planned anew, and greedy texts can differ from those of before")
        return []
