"""Runs in jobs of a real SLURM: preempted, warned of their end, cancelled, with workers. `make test-slurm`."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raylets import Generation
from slurm_cluster import Slurm, micota, missing, slurm, until

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif("MICOTA_SLURM" not in os.environ, reason="a suite of its own: make test-slurm"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's nodes start jobs as root only"),
]
if "MICOTA_SLURM" in os.environ:
    assert not missing(), f"{missing()} is not installed: apt-get install slurm-wlm"

SPOT = {"partition": "spot", "cpus": 4}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM with two nodes of four cores."""
    with slurm(tmp_path_factory.mktemp("slurm")) as made:
        yield made


class Submitted(Generation):
    """A generation that `micota submit` hands to SLURM."""

    def __init__(self, cluster: Slurm, folder: Path, n: int, seconds: tuple[float, float], **slurm: Any) -> None:
        super().__init__(folder, n, seconds)
        self.cluster = cluster
        self.profile(None)
        self.slurm(**slurm)

    def slurm(self, **fields: Any) -> None:
        """Add the section to the profile."""
        path = self.folder / "machine.yaml"
        path.write_text(f"{path.read_text()}slurm: {json.dumps(SPOT | fields)}\n")

    def micota(self, *words: str) -> str:
        """What a command says; it must end well."""
        done = micota(self.cluster.environment, self.folder, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self) -> list[str]:
        """The ids of the jobs."""
        said = self.micota("submit", "fleet.yaml", "--machine", "machine.yaml", "--store", "store")
        assert "micota status shows it" in said
        return [line.partition(":")[0] for line in said.splitlines() if line.endswith(".sbatch")]

    def status(self) -> str:
        """What micota says of the jobs."""
        return self.micota("status", "--store", "store")

    def answers(self, n: int) -> None:
        """Wait for so many answers."""
        assert until(lambda: len(self.rows()) >= n), self.job_log()

    def is_in(self, job: str, *states: str) -> None:
        """Wait until a job has one of these states; "" is out of the queue."""
        assert until(lambda: self.cluster.state(job) in states), f"{self.cluster.state(job)}\n{self.job_log()}"

    def starts_again(self, job: str) -> None:
        """Wait until a job is back in the queue, and have it start at once: SLURM itself lets two minutes pass."""
        self.is_in(job, "PENDING")
        self.cluster.say("scontrol", "update", f"JobId={job}", "StartTime=now")

    def job_log(self) -> str:
        """What the jobs have printed."""
        return "\n".join(path.read_text() for path in self.folder.glob("store/jobs/*/*/*.txt")) + self.cluster.logs()

    def whole(self) -> None:
        """Each answer is there once, and the artifact is that of an undisturbed run here."""
        counts = self.counts()
        assert len(counts) == self.n and sum(counts.values()) <= self.n * 1.01, self.job_log()
        assert self.content() == self.expected()


def test_a_preempted_run_is_queued_again_and_ends_with_equal_contents(cluster: Slurm, tmp_path: Path) -> None:
    run = Submitted(cluster, tmp_path, 300, (0.2, 0.6))
    (job,) = run.submit()
    run.answers(30)
    urgent = ["--partition=urgent", "--nodes=2", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 5"]
    assert "Submitted" in cluster.say("sbatch", *urgent)
    run.is_in(job, "PENDING")
    kept = len(run.rows())
    assert 30 <= kept < 300 and "goes on from here" in run.job_log()
    assert "fleet" in (status := run.status()) and "PENDING" in status
    run.starts_again(job)
    run.is_in(job, "RUNNING")
    run.is_in(job, "")
    run.whole()
    assert "finished" in run.status()
    assert run.job_log().count("goes on from here") == 1


def test_a_warning_of_the_end_queues_again_and_a_cancel_does_not(cluster: Slurm, tmp_path: Path) -> None:
    run = Submitted(cluster, tmp_path / "with 'quotes' \"here\" & $(touch pwned) 100%", 400, (0.2, 0.6))
    (job,) = run.submit()
    run.answers(20)
    cluster.say("scancel", "--batch", "--signal=USR1", job)
    run.is_in(job, "PENDING")
    command = ["submit", "fleet.yaml", "--machine", "machine.yaml", "--store", "store"]
    said = micota(cluster.environment, run.folder, *command)
    assert said.returncode == 2 and f"is in the queue already, as job {job}" in said.stderr
    kept = len(run.rows())
    run.starts_again(job)
    run.answers(kept + 20)
    assert "stops at its next checkpoint" in run.micota("cancel", "fleet", "--store", "store")
    run.is_in(job, "")
    assert "stopped" in run.status() and kept + 20 <= len(run.rows()) < 400
    (again,) = run.submit()
    run.is_in(again, "")
    run.whole()
    assert not list(tmp_path.rglob("pwned"))


def test_what_sbatch_refuses_leaves_nothing_in_the_queue(cluster: Slurm, tmp_path: Path) -> None:
    run = Submitted(cluster, tmp_path, 4, (0, 0), partition="nowhere")
    said = micota(
        cluster.environment, run.folder, "submit", "fleet.yaml", "--machine", "machine.yaml", "--store", "store"
    )
    assert said.returncode == 2 and "sbatch refused" in said.stderr and "invalid partition" in said.stderr
    assert "jobs" not in run.status() and not cluster.say("squeue", "--noheader")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-slurm")
def test_workers_come_go_and_find_the_head_where_it_starts_again(cluster: Slurm, tmp_path: Path) -> None:
    run = Submitted(cluster, tmp_path, 700, (0.4, 1.2))
    run.profile("auto", resources={}, wait_s=600, cpus=1, replicas=3)
    run.slurm(cpus=2, nodes=2, head={"partition": "spot", "cpus": 1})
    head, workers = run.submit()
    run.answers(40)
    cluster.say("scontrol", "requeue", f"{workers}_0")  # an engine and its node are lost, and come again
    run.answers(160)
    cluster.say("scontrol", "requeue", head)
    run.is_in(head, "PENDING")
    kept = len(run.rows())
    assert kept < run.n and "RUNNING" in run.status()
    run.starts_again(head)
    run.is_in(head, "RUNNING")
    run.answers(kept + 20)
    run.is_in(head, "")
    run.is_in(workers, "")
    run.whole()
    assert "finished" in run.status()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-slurm")
def test_a_job_of_two_nodes_is_one_ray_cluster(cluster: Slurm, tmp_path: Path) -> None:
    run = Submitted(cluster, tmp_path, 300, (0.4, 1.2))
    run.profile("auto", resources={}, cpus=1, replicas=4)
    run.slurm(cpus=2, nodes=2)
    (job,) = run.submit()
    run.is_in(job, "RUNNING")
    run.is_in(job, "")
    run.whole()
    (log,) = tmp_path.glob("store/artifacts/generate-*/log.txt")
    assert log.read_text().count(" is ready on ") == 4, run.job_log()  # two on each node
