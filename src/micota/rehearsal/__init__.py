"""A rehearsal: the user's own recipe from end to end on a few problems with tiny models, in a store of its own.

It runs the real stages on the real tokenizers, templates and data wherever they can be had, and so finds in a minute
what a cluster would find after a day. What a model says there is worth nothing.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from micota.checks import recipes as check
from micota.errors import MicotaError, StageFailed
from micota.grading.semantic import gold_text
from micota.machine import BpcConfig, EngineConfig, GenerateConfig, MachineProfile, TrainConfig
from micota.recipe.labels import labels
from micota.recipe.recipe import Recipe
from micota.rehearsal import data
from micota.rehearsal import stand_in_templates as templates
from micota.rehearsal import stand_ins as models
from micota.rehearsal.smaller import BATCH, Smaller, stacks, trained
from micota.rehearsal.smaller import models as wanted
from micota.rehearsal.stand_in_templates import Finding
from micota.report import files
from micota.specs import FineTuned, Generate, Problems, SftData, Spec, walk
from micota.store.artifacts import Store
from micota.workspace import Workspace
from micota.workspace.progress import Bars


@dataclass
class Rehearsal:
    """What a rehearsal did: who played which model, which data it had, time by kind of stage, and what it found."""

    stand_ins: dict[str, models.StandIn] = field(default_factory=dict)
    data: dict[str, tuple[str, data.Few]] = field(default_factory=dict)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    findings: list[Finding] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """The findings that would make the recipe fail."""
        return [one.text for one in self.findings if one.fault]


def rehearse(made: Recipe, folder: Path, here: Console) -> Rehearsal:
    """Rehearse a recipe in a folder: stand-ins below `models` and `data`, the artifacts in `store`."""
    done, online = Rehearsal(), _online()
    folder.mkdir(parents=True, exist_ok=True)
    _check(made, done)
    trust = any(getattr(spec, "trust_remote_code", False) for spec in walk(*made.targets))
    _find_stand_ins(made, folder, online, trust, done)
    _lint(made, done)
    _gather(made, folder, online, done)
    small = Smaller(done.stand_ins, {digest: few for digest, (_, few) in done.data.items()}).recipe(made)
    _run(small, Store(folder / "store"), _machine(done, folder), here, done)
    return done


def _online() -> bool:
    """Whether the Hub answers; asked once, so that a rehearsal without a network does not wait for each model."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().repo_info("Qwen/Qwen2.5-1.5B-Instruct", timeout=5)
    except HfHubHTTPError:  # it answers, be it that it does not have that one
        return True
    except Exception:  # no network, whatever form that takes
        return False
    return True


def _check(made: Recipe, done: Rehearsal) -> None:
    try:
        check.inspect(made.targets)
    except MicotaError as error:
        done.findings.append(Finding(True, str(error)))


def _find_stand_ins(made: Recipe, folder: Path, online: bool, trust: bool, done: Rehearsal) -> None:
    """Find a stand-in for each model, and look at what its template does to a thought."""
    learn, deep = trained(made.targets), stacks(made.targets)
    for i, source in enumerate(wanted(made.targets)):
        stand_in = models.stand_in_for(source, folder / "models" / str(i), online, trust, deep)
        done.stand_ins[source.digest] = stand_in
        if stand_in.tokenizer == "real":
            done.findings += _looked_at(source.ref, stand_in.folder, source.digest in learn, trust)


def _looked_at(name: str, folder: Path, learns: bool, trust: bool) -> list[Finding]:
    try:
        return templates.look(name, folder, learns, trust)
    except Exception:  # a template is a program of somebody else's; the checks say what is wrong with it
        return []


def _lint(made: Recipe, done: Rehearsal) -> None:
    """The findings of the checks, now that every tokenizer is here that can be had."""
    asked = [spec for spec in walk(*made.targets) if isinstance(spec, Generate | FineTuned)]
    for one in check.inspect_models(asked)[1]:
        done.findings.append(Finding(one.severity == "error", str(one.error())))


def _gather(made: Recipe, folder: Path, online: bool, done: Rehearsal) -> None:
    for spec in walk(*made.targets):
        if not isinstance(spec, Problems | SftData):
            continue
        try:
            few = _few(spec, folder, online)
        except MicotaError as error:
            done.findings.append(Finding(True, str(error)))
            few = _few(spec, folder, online=False)
        name = spec.benchmark if isinstance(spec, Problems) else None
        done.data[spec.digest] = (name or spec.source.ref, few)


def _few(spec: Problems | SftData, folder: Path, online: bool) -> data.Few:
    read = data.few_rows if isinstance(spec, SftData) else data.few
    return read(spec, folder / "data", online)  # type: ignore[arg-type]


def _machine(done: Rehearsal, folder: Path) -> MachineProfile:
    """Everything in this process, where the heavy imports are paid for once; the answers for the engine in a file."""
    script = folder / "answers.jsonl"
    every = [row for _, few in done.data.values() for row in few.rows]
    rows = {row["problem"]: row["answer"] for row in every if row.keys() >= {"problem", "answer"}}
    golds = {problem: _boxed(answer) for problem, answer in rows.items()}
    script.write_text("".join(json.dumps({"problem": p, "text": a}) + "\n" for p, a in golds.items()), encoding="utf-8")
    return MachineProfile(
        name="rehearsal",
        generate=GenerateConfig(engine="rehearsed", script=str(script)),
        search=EngineConfig(engine="transformers"),
        train=TrainConfig(micro_batch=BATCH),
        bpc=BpcConfig(batch=BATCH),  # the logits of a real vocabulary are large, however small the model is
    )


def _boxed(gold: Any) -> str:
    """What an answer that a scorer takes for a gold has in its box."""
    first = gold[0] if isinstance(gold, list) and gold else gold
    return gold_text(first, "gsm8k" if "####" in str(first) else None).strip("$")


class _Watching(Bars):
    """Bars that also note how long each kind of stage took, and what failed, by the recipe's names."""

    def __init__(self, console: Console, names: Mapping[str, str], done: Rehearsal) -> None:
        super().__init__(console, names)
        self._done, self._names = done, names

    def started(self, spec: Spec, work: Path) -> None:
        if self.live:  # into a file, a line for each stage that is done says enough
            super().started(spec, work)

    def finished(self, spec: Spec, seconds: float, facts: Mapping[str, Any]) -> None:
        super().finished(spec, seconds, {})
        self._done.seconds[spec.kind].append(seconds)

    def failed(self, spec: Spec, message: str) -> None:
        super().failed(spec, message)
        self._done.failed[spec.kind] += 1
        said = message.partition(" failed: ")[2].partition("\n  log: ")[0]
        if not any(said in fault for fault in self._done.faults):
            self._done.findings.append(Finding(True, f"{spec.kind} {self._names.get(spec.digest, '')}: {said}"))


def _run(small: Recipe, store: Store, machine: MachineProfile, here: Console, done: Rehearsal) -> None:
    bars = _Watching(here, labels(small), done)
    try:
        Workspace(store.root, machine, here).execute(small, small.targets, bars=bars)
    except StageFailed as error:
        if not done.faults:
            done.findings.append(Finding(True, str(error)))
    started = time.monotonic()
    try:
        files.write(small, store)
    except Exception as error:  # whatever a report stumbles over, it is what a rehearsal is for
        done.failed["report"] += 1
        done.findings.append(Finding(True, f"report: {type(error).__name__}: {error}"))
    done.seconds["report"].append(time.monotonic() - started)
