"""A task: all that a stage needs. Saved as WORK/task.json, another process can run it, on any machine that sees the
store."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from micota import pretrained
from micota.atomic import read_json, write_json
from micota.errors import MicotaError, Stopped
from micota.machine import MachineProfile, StageConfig
from micota.specs import Source, Spec, from_json, to_json
from micota.store import resolution as sources
from micota.store.artifacts import Store
from micota.store.checked import record
from micota.store.inputs import Input, begun_with
from micota.store.locks import Claim

PROGRESS_EVERY_S = 0.25
PROGRESS = "progress.json"
STOP = "stop"  # the file in a work folder that requests a stop
ERROR = "error.txt"  # the file with the error of a failed stage


@dataclass(frozen=True)
class Reached:
    """How far a stage is, in its unit, and when; `began` is how far it was at its first report, and when that was."""

    done: float
    total: float
    unit: str
    note: str
    at: float
    began: dict[str, float]

    @property
    def rate(self) -> float | None:
        """Units a second since the first report."""
        seconds, units = self.at - self.began.get("at", self.at), self.done - self.began.get("done", self.done)
        return units / seconds if seconds > 0 and units > 0 else None


def reached(work: Path) -> Reached | None:
    """How far the stage of a work folder is; None as long as nothing is reported."""
    return record(work / PROGRESS, Reached, {})[0]


class Stop(threading.Event):
    """A request to stop: set in this process, or by a file that reaches a stage on any machine and behind any launcher.

    A signal would end some launchers before their stage has written its checkpoint, and never reach another machine.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def is_set(self) -> bool:
        """Whether a stop was requested in either way."""
        return super().is_set() or self._file.exists()


class Progress:
    """The progress of a stage in a small file, for whoever displays it; also the point where a stage can be stopped."""

    def __init__(self, path: Path, claims: Sequence[Claim] = ()) -> None:
        self._path, self.claims = path, claims
        self._written = 0.0
        self._began: tuple[float, float] | None = None
        self.stop = Stop(path.with_name(STOP))

    def check(self) -> None:
        """Raises ClaimLost if another run has taken the stage over: call it before anything is written."""
        for claim in self.claims:
            claim.check()

    def report(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Write how far the stage is, and how far it was at the first report: both give the rate."""
        now = time.monotonic()
        self._began = self._began or (time.time(), done)
        if now - self._written > PROGRESS_EVERY_S or done >= total:
            self.check()
            self._written = now
            began, at = dict(zip(("at", "done"), self._began, strict=True)), time.time()
            write_json(self._path, asdict(Reached(done, total, unit, note, at, began)))

    def __call__(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Report. Raises Stopped after a request to stop, so call it where all work is on the disk; or ClaimLost."""
        self.report(done, total, unit, note)
        if self.stop.is_set():
            raise Stopped("stopped")


@dataclass(frozen=True)
class Task:
    """A stage to run in the folder `work`: the artifact's files go to `out`, what only a resume needs to `scratch`.

    `name` is RECIPE/NAME, for people.
    """

    spec: Spec
    work: Path
    inputs: Mapping[str, Input]
    store: Store
    machine: MachineProfile
    progress: Progress = field(compare=False)
    name: str = field(default="", compare=False)
    fake: bool = False
    """Whether what generates invents the answers: they have pools of their own."""

    @property
    def out(self) -> Path:
        """The folder for the artifact's files."""
        return self.work / "out"

    @property
    def scratch(self) -> Path:
        """The folder for what only a resume needs."""
        return self.work / "scratch"

    @property
    def place(self) -> StageConfig:
        """The machine profile's configuration of this stage."""
        return self.machine.place(self.spec)

    def input(self, spec: Spec) -> Input:
        """An input by its spec."""
        return self.inputs[spec.digest]

    def rows(self, spec: Spec) -> Path:
        """The rows file of an input."""
        return self._files(spec) / "rows.jsonl"

    def model(self, spec: Spec) -> Path:
        """The folder of an input model, whose weights are those of its architecture; one of the Hub is downloaded."""
        folder = sources.fetch(spec, "model") if isinstance(spec, Source) else self._files(spec)
        pretrained.inspect(folder, getattr(self.spec, "trust_remote_code", False)).refuse()
        return folder

    def tokenizer(self, spec: Spec) -> Path | None:
        """A folder that has the tokenizer of an input model; the weights may be missing there. Of an endpoint None."""
        return sources.fetch_tokenizer(spec) if isinstance(spec, Source) else self._files(spec)

    def _files(self, spec: Spec) -> Path:
        files = self.input(spec).files
        assert files is not None, f"{spec.kind} {spec.digest} is no input with files"
        return files

    def error(self) -> str:
        """The message of a process that has failed; "" if there is none, or no room for it."""
        file = self.work / ERROR
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def save(self) -> Path:
        """Write task.json, for a stage in a process of its own; returns the work folder."""
        inputs = {
            digest: {"content": i.content, "files": str(i.files) if i.files else None, "pools": list(i.pools)}
            for digest, i in self.inputs.items()
        }
        data = {
            "spec": to_json(self.spec),
            "name": self.name,
            "inputs": inputs,
            "store": str(self.store.root),
            "machine": self.machine.as_json(),
            "claims": [[str(claim.path), claim.token] for claim in self.progress.claims],
            "fake": self.fake,
        }
        write_json(self.work / "task.json", data)
        return self.work


def load(work: Path) -> Task:
    """The task of a work folder. Raises MicotaError for one that is not as `save` wrote it."""
    data, inputs = read_json(work / "task.json"), begun_with(work)
    try:
        claims = [Claim(Path(path), token) for path, token in data["claims"]]
        store, machine = Store(Path(data["store"])), MachineProfile.of_json(data["machine"])
        progress, fake = Progress(work / "progress.json", claims), bool(data.get("fake"))
        return Task(from_json(data["spec"]), work, inputs, store, machine, progress, fake=fake)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        where, fix = str(work / "task.json"), "run the recipe again: it writes the task anew"
        raise MicotaError("the task cannot be read", where=where, why=why, fix=fix) from None
