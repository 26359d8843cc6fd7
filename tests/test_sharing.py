"""Generation whose problems several processes share out, each behind one launcher: every answer once, none lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import Quiet, World, problem

from micota.errors import MicotaError, StageFailed
from micota.machine import GenerateConfig, MachineProfile
from micota.run.child import run_alone
from micota.run.execution import Run
from micota.specs import Generate, Spec

LAUNCHER = Path(__file__).parent / "ranks.py"
SLOW = """
import time
from micota.generation.scripted import Scripted
def answer(self, requests):
    for request in requests:
        time.sleep(0.2)
        yield [self._completion(request)]
Scripted.answer = answer
"""


def script(world: World, problems: Iterable[int], name: str = "answers.jsonl") -> Path:
    rows = [{"problem": problem(i)["problem"], "text": rf"\boxed{{{i}}}"} for i in problems]
    return world.write(name, "\n".join(json.dumps(row) for row in rows) + "\n")


def shared(path: Path, number: int, batch: int = 2) -> MachineProfile:
    prefix = f"{sys.executable} {LAUNCHER} {number}"
    place = GenerateConfig(engine="scripted", script=str(path), processes=number, batch=batch, prefix=prefix)
    return MachineProfile(name="shared", generate=place)


def generation(world: World) -> Generate:
    world.problems("train.jsonl", range(20))
    (found,) = (one for one in world.load().named("long-cot").children if isinstance(one, Generate))
    return found


def rows(world: World) -> list[tuple[str, int]]:
    lines = [line for path in world.folder.glob("store/pools/*/*.jsonl") for line in path.read_text().splitlines()]
    return [(row["key"], row["sample"]) for row in map(json.loads, lines)]


def run(world: World, spec: Spec, machine: MachineProfile) -> Run:
    made = Run(world.fresh(), machine, Quiet())
    made.go([spec])
    return made


def test_three_processes_answer_each_problem_once(world: World) -> None:
    spec = generation(world)
    machine = shared(script(world, range(20)), 3)
    run(world, spec, machine)
    manifest = world.store.manifest(spec)
    assert manifest is not None
    assert (manifest.facts["rows"], manifest.facts["generated"], manifest.facts["reused"]) == (20, 20, 0)
    assert set(Counter(rows(world)).values()) == {1}
    written = [path.read_text().count("\n") for path in world.folder.glob("store/pools/*/*.jsonl")]
    assert sorted(written) == [6, 7, 7]
    alone = MachineProfile(generate=GenerateConfig(engine="scripted", script=machine.generate.script))
    other = Run(world.fresh("alone"), alone, Quiet())
    other.go([spec])
    same = world.store.manifest(spec)
    assert same is not None
    assert same.content == manifest.content


def test_what_one_has_failed_with_is_said_and_what_all_have_answered_is_kept(world: World) -> None:
    spec = generation(world)
    lacking = script(world, [i for i in range(20) if i != 7])
    with pytest.raises(StageFailed, match=r"the script has no answer to '107\+7'"):
        run(world, spec, shared(lacking, 2, batch=1))
    kept = rows(world)
    assert kept
    run(world, spec, shared(script(world, range(20)), 2))
    assert Counter(rows(world)) == Counter(set(rows(world)))
    assert set(kept) < set(rows(world))
    assert len(rows(world)) == 20


@pytest.mark.slow
def test_killed_and_ended_by_another_number_of_processes(world: World) -> None:
    spec = generation(world)
    path = script(world, range(20))
    world.write("recipe-run.py", "import sys, test_sharing as t\nt.in_a_process(sys.argv[1], sys.argv[2])\n")
    (world.folder / "slow").mkdir()
    world.write("slow/sitecustomize.py", SLOW)
    paths = [str(world.folder / "slow"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "recipe-run.py", str(world.folder), str(path)]
    process = subprocess.Popen(command, cwd=world.folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    while len(rows(world)) < 5:
        assert process.poll() is None, "no answers came"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)  # its processes find that it is gone
    before = len(rows(world))
    assert before < 20
    run(world, spec, shared(path, 2))
    assert len(rows(world)) == 20
    assert set(Counter(rows(world)).values()) == {1}


def in_a_process(folder: str, path: str) -> None:
    world = World(Path(folder), MachineProfile())
    run(world, generation(world), shared(Path(path), 3, batch=1))


def test_a_stage_without_a_launcher_that_numbers_its_processes_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = generation(world)
    machine = shared(script(world, range(20)), 3)
    with pytest.raises(StageFailed, match="the launcher has started an unknown number of processes, not 3"):
        run(
            world,
            spec,
            MachineProfile(generate=machine.generate.model_copy(update={"prefix": "env"})),
        )
    work = next(world.folder.glob("store/making/generate-*"))
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert run_alone(work) == 2
    assert "started 2 processes, not 3" in (work / "error.txt").read_text()


def test_profiles_that_cannot_be_are_refused_before_anything_is_made(world: World) -> None:
    spec = generation(world)
    with pytest.raises(MicotaError, match="nothing starts the 4 processes"):
        MachineProfile(generate=GenerateConfig(processes=4)).check([spec])
    MachineProfile(generate=GenerateConfig(processes=4, prefix="srun --ntasks 4")).check([spec])
