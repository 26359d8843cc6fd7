"""Generation by engines on a Ray cluster of real raylets: what a death costs. `make test-ray`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from raylets import Generation, Raylets, gone, members, raylets, until

from micota.store.resolution import LAB_MODELS, content_hash

VLLM = os.environ.get("MICOTA_VLLM")

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-ray"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]


@pytest.fixture(scope="module")
def three() -> Iterator[Raylets]:
    """Three nodes with two places for engines each."""
    with raylets(2, 2, 2) as cluster:
        yield cluster


def test_many_engines_answer_what_one_process_does(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 200, (0.05, 0.2))
    run.profile(three.address)
    said = run.finish()
    assert set(run.counts().values()) == {1} and len(run.rows()) == 200
    assert run.content() == run.expected(), said
    assert gone(10)


def test_ctrl_c_stops_soon_and_the_same_command_continues(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 300, (0.1, 0.4))
    run.profile(three.address)
    process = run.start()
    run.reach(40, process)
    process.send_signal(signal.SIGINT)
    said = run.finish(process, code=None)
    assert process.returncode != 0 and "goes on from here" in said
    assert gone(5)
    kept = len(run.rows())
    run.finish()
    assert set(run.counts().values()) == {1} and len(run.rows()) == 300 > kept


def test_the_run_is_killed(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 300, (0.1, 0.4))
    run.profile(three.address)
    process = run.start()
    run.reach(120, process)
    process.kill()
    process.wait()
    assert gone(10)
    kept = len(run.rows())
    run.finish()
    assert kept >= 120 and len(run.counts()) == 300
    assert sum(run.counts().values()) <= 303  # at most one in a hundred is paid twice
    assert run.content() == run.expected()


def test_an_engine_is_killed(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 300, (0.1, 0.4))
    run.profile(three.address)
    process = run.start()
    run.reach(100, process)
    members()[0].kill()
    run.finish(process)
    assert len(run.counts()) == 300 and sum(run.counts().values()) <= 303
    assert run.content() == run.expected()


def test_a_problem_that_crashes_engines_is_named_and_all_others_are_answered(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 100, (0.02, 0.1), p7={"crash": True})
    run.profile(three.address)
    said = run.finish(code=1)
    assert len(run.rows()) == 99 and set(run.counts().values()) == {1}
    (key,) = {row["key"] for row in rows(tmp_path) if row["problem"] == "problem 7"}
    assert f"engines crash over problem {key} (sample 0); everything else is answered" in said
    assert said.count("engines crash over problem") == 1
    assert run.log().count("ended,") == 2


def rows(folder: Path) -> list[dict[str, str]]:
    """The problems with their keys."""
    (file,) = folder.glob("store/artifacts/problems-*/files/rows.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_engine_that_cannot_start_says_why_once(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 100)
    run.profile(three.address)
    (tmp_path / "script.jsonl").write_text('{"problem": "another", "text": "x"}\n')
    said = run.finish(code=1)
    assert said.count("the script has no answer to 'problem") == 1 and "fix: add" in said


def test_what_fits_nowhere_is_said_at_once(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 10)
    run.profile(three.address, cpus=64, resources={"engine": 3})
    said = run.finish(code=2)
    assert "no node of the Ray cluster can hold generate" in said and "stages" not in said.lower()
    run.profile(three.address, cpus=64, wait_s=1)
    assert "no node of the Ray cluster can hold an engine" in run.finish(code=1)
    assert "64 CPU, 3 engine are asked of one node; the 4 nodes have 4 CPU, 2 engine or 0 CPU, 0 engine" in said


def test_without_a_cluster_its_address_is_said(tmp_path: Path) -> None:
    run = Generation(tmp_path, 10)
    run.profile("127.0.0.1:9")
    said = run.finish(code=2)
    assert "no Ray cluster can be joined at 127.0.0.1:9" in said and "ray start --head" in said


def test_a_lost_node_costs_what_was_under_way(three: Raylets, tmp_path: Path) -> None:
    run = Generation(tmp_path, 600, (0.1, 0.6))
    run.profile(three.address)
    process = run.start()
    run.reach(240, process)
    three.kill(three.nodes.pop())
    run.finish(process)
    three.nodes.append(three.join(engine=2))
    assert len(run.counts()) == 600 and sum(run.counts().values()) <= 606
    assert run.content() == run.expected()
    assert "engines crash" not in run.log()


def test_a_node_joins_and_gets_engines(three: Raylets, tmp_path: Path) -> None:
    three.join(late=1)
    run = Generation(tmp_path, 200, (2, 4))
    run.profile(three.address, resources={"late": 1})
    process = run.start()
    run.reach(10, process)
    assert len(members()) == 1
    three.join(late=2)
    assert until(lambda: len(members()) == 3)
    run.finish(process)
    assert run.log().count("is ready on") == 3
    assert len(run.rows()) == 200 and set(run.counts().values()) == {1}


def test_models_travel_once_to_each_node_that_does_not_see_them(three: Raylets, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"]).returncode:
        pytest.skip("no mount namespace can be made here")
    run = Generation(tmp_path, 60)
    shutil.copytree(LAB_MODELS / "teacher", tmp_path / "models" / "teacher")
    recipe = (tmp_path / "fleet.yaml").read_text().replace("lab:teacher", "./models/teacher")
    (tmp_path / "fleet.yaml").write_text(recipe.replace("max_tokens: 300", "max_tokens: 30"))
    blind = tmp_path / "blind-python"  # an interpreter that finds the folder of models empty
    inside = f'mount -t tmpfs none {tmp_path}/models && exec {sys.executable} "$@"'
    blind.write_text(f"#!/bin/sh\nexec unshare --map-root-user --mount sh -c '{inside}' sh \"$@\"\n")
    blind.chmod(0o755)
    for cache in ("one", "two"):
        three.join(tmp_path / cache, blind=2)
    run.profile(three.address, "transformers", resources={"blind": 1}, replicas=4, gpus=0, python=str(blind))
    run.finish()
    assert len(run.rows()) == 60 and set(run.counts().values()) == {1}
    copies = [folder for cache in ("one", "two") for folder in (tmp_path / cache).glob("micota/models/*/")]
    assert (
        [content_hash(one) for one in copies]
        == [one.name for one in copies]
        == 2 * [content_hash(LAB_MODELS / "teacher")]
    )
    logs = Path("/tmp/ray/session_latest/logs").resolve().glob("worker-*.err")
    said = "".join(path.read_text(errors="replace") for path in logs)
    assert said.count(f"is not visible here: it is copied to {tmp_path}") == 2 <= run.log().count("is ready on")


def test_vllm_of_another_environment_loses_its_core(three: Raylets, tmp_path: Path) -> None:
    if not VLLM or subprocess.run([VLLM, "-c", "import ray, vllm"], capture_output=True).returncode:
        pytest.skip("MICOTA_VLLM names no interpreter with vLLM and Ray, as make test-vllm makes one")
    run = Generation(tmp_path, 300)
    run.profile(three.address, "vllm", python=VLLM, gpus=0, replicas=2)
    process = run.start()
    run.reach(60, process)
    core = cores()[0]
    core.kill()
    run.finish(process)
    assert len(run.counts()) == 300 and sum(run.counts().values()) <= 303
    assert {row["engine"].split()[0] for row in run.rows()} == {"vllm"}
    assert "requests are given to others" in run.log()
    assert until(lambda: not cores(), 10)


def cores() -> list[psutil.Process]:
    """The processes in which vLLM computes."""
    every = psutil.process_iter(["cmdline"])
    return [one for one in every if "VLLM::EngineCor" in " ".join(one.info["cmdline"] or ())]


def test_ray_is_joined_by_a_variable_of_its_own(
    three: Raylets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RAY_ADDRESS", three.address)
    run = Generation(tmp_path, 20)
    run.profile("auto")
    run.finish()
    assert len(run.rows()) == 20


def test_the_head_is_lost_and_another_cluster_continues(three: Raylets, tmp_path: Path) -> None:
    """The last one: the cluster is gone."""
    run = Generation(tmp_path, 1000, (1, 2))
    run.profile(three.address)
    process = run.start()
    run.reach(20, process)
    three.kill_head()
    said = run.finish(process, code=1)
    assert "the head of the Ray cluster at" in said and "does not answer" in said
    three.close()
    kept = len(run.rows())
    script = (tmp_path / "script.jsonl").read_text()
    (tmp_path / "script.jsonl").write_text(script.replace('"seconds": ', '"was": '))
    with raylets(2) as cluster:
        run.profile(cluster.address)
        run.finish()
    assert len(run.rows()) == 1000 > kept and set(run.counts().values()) == {1}
