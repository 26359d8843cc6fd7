"""Generation by many engines on a Ray cluster: each an actor with devices of its own, fed by key as it has room.

All that must last is in the process that holds the `Fleet` and writes the pool; an engine holds only what is under way.
Whatever ends one (a lost node, kill -9, a crash) costs the answers that it had not handed over. Others get its
requests, and another engine is asked for, which starts when and where the cluster has room.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import micota
from micota.errors import MicotaError, Stopped
from micota.generation.member import Hello, Member, Opener
from micota.generation.model_copy import Home
from micota.generation.prompt_encoder import PromptEncoder
from micota.generation.suspects import Suspects
from micota.machine import EngineConfig, cluster
from micota.machine.cluster import say
from micota.specs import Generate
from micota.store.records import Completion, Request

POLL_S = 0.1  # how long the driver listens before it looks at all else
GRACE_S = 30.0  # how long the others may hand over what is under way, after an error of one
LEAST_S, GROUPS_A_S = 0.1, 256  # engines hand over no more often; groups from all in a second: each costs about 1 ms
LONGEST_PAUSE_S = 60.0  # between engines that do not start
SPREAD = 8  # an engine is asked for where there are requests for this part of its batch
Key = tuple[str, int]


@dataclass(eq=False)
class Hired:
    """An engine as the driver knows it: what it owes, what it has said, and whether it tries suspects alone."""

    actor: Any
    name: str
    owed: dict[Key, Request] = field(default_factory=dict)
    hello: Hello | None = None
    alone: bool = False


class Fleet:
    """The engines of a stage as Ray actors: an engine itself, which answers in any order."""

    def __init__(
        self, open_here: Opener, spec: Generate, model: Path | None, place: EngineConfig, threads: int, stop: Event
    ) -> None:
        assert place.ray is not None
        self._ray, self._config, self._stop, self._spec = cluster.join(), place.ray, stop, spec
        self._head, self._member = cluster.Head(self._ray), self._ray.remote(Member)  # once: Ray takes 0.1 s for it
        self._gpus = place.gpus
        self._encoder = PromptEncoder.of_folder(spec, model) if model else None
        self._place = place.changed(ray=None)
        every_s = max(LEAST_S, self._config.replicas / GROUPS_A_S)
        home = Home.here(self._ray)
        secrets = {name: os.environ[name] for name in (place.key_env or "",) if name in os.environ}
        self._arguments = (open_here, spec, model, self._place, threads, every_s, secrets, home)
        self._hired: dict[Any, Hired] = {}
        self._waiting: deque[Request] = deque()
        self._suspects = Suspects()
        self._failure: MicotaError | None = None
        self._room, self._fits = cluster.Room(self._ray, "an engine", self._config, self._gpus), True
        self._unused = cluster.Unused(self._ray)
        self._failed_at = self._not_before = 0.0
        self._longest = self._count = self._fruitless = self._unstarted = 0
        self.batch: int | None = None

    @property
    def note(self) -> str:
        """How many engines there are, for the progress."""
        there = sum(one.hello is not None for one in self._hired.values())
        unused = self._unused.check(bool(self._gpus and self._waiting))
        note = f" from {there} engines" if self._fits else "; waiting for a node that is large enough"
        return f"{note}; {unused}" if unused else note

    def render(self, request: Request) -> str:
        """The whole text that the model reads for a request; of an endpoint the message."""
        return self._encoder.render(request) if self._encoder else request.prompt

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """The completions as engines hand them over. What crashes engines is named once all else is answered."""
        self._waiting.extend(requests)
        if self._encoder and self._place.engine == "vllm":
            self._longest = max(map(self._encoder.most_tokens, requests))
        self._check_room()
        while self._waiting or self._suspects.groups or any(one.owed for one in self._hired.values()):
            if self._stop.is_set():
                raise Stopped("stopped")
            self._head.check()
            self._check_room()
            self._hire()
            yield self._listen()
            self._check_failure()
            self._feed()
            self._dismiss()
        self._suspects.check()

    def close(self) -> None:
        """End the engines that are left."""
        for one in self._hired.values():
            self._kill(one)
        self._hired.clear()

    def _kill(self, one: Hired) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(one.actor)

    def _check_room(self) -> None:
        """As long as no engine is there: whether the cluster has a node that can hold one."""
        self._fits = any(one.hello for one in self._hired.values()) or self._room.check()

    def _hire(self) -> None:
        """Ask for engines: as many as have something to do. Those for which there is no room start when there is."""
        busy = sum(bool(one.owed) for one in self._hired.values())
        more = math.ceil(len(self._waiting) / max(1, self._place.batch // SPREAD)) + len(self._suspects.groups)
        wanted = min(self._config.replicas, busy + more)
        if self._failure or time.monotonic() < self._not_before:
            return
        for _ in range(wanted - len(self._hired)):
            self._count += 1
            name = f"{self._place.engine}-{self._count}"
            options = self._config.options(self._gpus) | {"name": name, "max_concurrency": 2}
            actor = self._member.options(**options).remote(*self._arguments, self._longest)
            self._hired[actor.run.options(num_returns="streaming").remote()] = Hired(actor, name)

    def _listen(self) -> list[Completion]:
        """What all engines have handed over until now."""
        streams = list(self._hired)
        if not streams:
            time.sleep(POLL_S)
        ready = self._ray.wait(streams, num_returns=len(streams), timeout=POLL_S)[0] if streams else []
        return [answer for stream in ready for answer in self._heard(stream)]

    def _heard(self, stream: Any) -> list[Completion]:
        one = self._hired[stream]
        try:
            said = self._ray.get(next(stream))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            del self._hired[stream]
            self._kill(one)
            self._ended(one, error)
            return []
        if isinstance(said, Hello):
            self._greet(one, said)
            return []
        fresh = [answer for answer in said if one.owed.pop((answer.key, answer.sample), None)]
        self._fruitless = 0 if fresh else self._fruitless
        return fresh

    def _greet(self, one: Hired, hello: Hello) -> None:
        one.hello, self._unstarted = hello, 0
        say(f"{one.name} is ready on {hello.node}, process {hello.process}")
        if hello.version != micota.__version__:
            why = f"here is micota {micota.__version__}, there {hello.version}"
            fix = "install the same micota in all environments of the cluster"
            self._fail(MicotaError(f"{one.name} on {hello.node} is of another micota", why=why, fix=fix))

    def _ended(self, one: Hired, error: BaseException) -> None:
        """An engine is gone: others get what it owes. Its own error ends the stage, unless others have started well."""
        owed, cause = list(one.owed.values()), getattr(error, "cause", None)
        where = f" on {one.hello.node}, process {one.hello.process}" if one.hello else ""
        what = " ".join(str(cause or error).split())[-400:]
        say(f"{one.name}{where} ended, {len(owed)} requests are given to others: {what}")
        if isinstance(cause, MicotaError) and (one.hello or not any(other.hello for other in self._hired.values())):
            self._fail(cause)
        if _of_node(error) and not one.alone:
            self._waiting.extendleft(reversed(owed))
        elif owed:
            self._suspects.add(owed, one.alone and not _of_node(error))
        self._fruitless += 1
        self._unstarted += one.hello is None
        pause = min(2.0**self._unstarted, LONGEST_PAUSE_S) if self._unstarted else 0
        self._not_before = time.monotonic() + pause
        if self._fruitless > self._config.replicas + self._config.retries:
            what = f"{self._fruitless} engines have ended one after the other without an answer"
            self._fail(MicotaError(what, why=str(error)[-400:], fix="see the log; lower `batch`, or give more memory"))

    def _fail(self, error: MicotaError) -> None:
        if self._failure is None:
            self._failure, self._failed_at = error, time.monotonic()

    def _check_failure(self) -> None:
        """Raise an engine's error once the others have handed over what is under way, or have had the time for it."""
        late = time.monotonic() - self._failed_at > GRACE_S
        if self._failure and (late or not any(one.owed for one in self._hired.values())):
            raise self._failure

    def _feed(self) -> None:
        """Give requests to engines with room. What is left at the end is shared equally; suspects go to idle ones."""
        there = [one for one in self._hired.values() if one.hello]
        for one in there if not self._failure else ():
            assert one.hello is not None
            if not one.owed:
                one.alone = bool(self._suspects.groups)
                if one.alone:
                    self._give(one, self._suspects.groups.popleft())
            room = one.hello.window - len(one.owed)
            if not one.alone and (room >= one.hello.window // SPREAD or not one.owed):
                count = min(room, math.ceil(len(self._waiting) / len(there)))
                self._give(one, [self._waiting.popleft() for _ in range(count)])

    def _give(self, one: Hired, requests: list[Request]) -> None:
        if requests:
            one.owed.update({(request.key, request.sample): request for request in requests})
            one.actor.feed.remote(requests)

    def _dismiss(self) -> None:
        """Once nothing waits, engines that owe nothing free their devices for other stages."""
        if not (self._waiting or self._suspects.groups):
            for stream, one in list(self._hired.items()):
                if not one.owed:
                    self._kill(one)
                    del self._hired[stream]


def _of_node(error: BaseException) -> bool:
    """Whether an engine was lost with its node, and not by a crash of its own."""
    return "node has died" in str(error)
