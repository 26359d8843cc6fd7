"""What fits on a cluster's nodes, how long is waited for one, GPUs that stand unused: asked of a made-up cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from micota.errors import MicotaError
from micota.machine.cluster import RayConfig, Room, TrainingOnRay, Unused, misfit


@dataclass
class Cluster:
    """The two questions that are asked of Ray, as it answers them."""

    gpus: list[float]
    free: float = 0
    labels: dict[str, str] = field(default_factory=dict)

    def nodes(self) -> list[dict[str, Any]]:
        """A live node for each number of GPUs, and a dead one with many."""
        alive = [{"Alive": True, "Resources": {"CPU": 16.0, "GPU": n}, "Labels": self.labels} for n in self.gpus]
        return [*alive, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}, "Labels": {}}]

    def available_resources(self) -> dict[str, float]:
        """What nobody uses."""
        return {"GPU": self.free} if self.free else {}


def test_processes_fit_where_all_nodes_together_have_room_for_them() -> None:
    each = TrainingOnRay(workers=12, cpus=4)  # of 16 cores: four on a node at most
    assert misfit(Cluster([8, 8, 8]), each, 1, 12) == ""
    assert misfit(Cluster([8, 8, 3]), each, 1, 12).startswith(
        "4 CPU, 1 GPU are asked of one node, 12 times in all; the 3 nodes have 16 CPU, 8 GPU or 16 CPU, 3 GPU"
    )
    assert misfit(Cluster([8]), RayConfig(gpus=8)) == "" != misfit(Cluster([4, 4]), RayConfig(gpus=8))
    assert misfit(Cluster([8]), RayConfig(cpus=0)) == ""  # nothing is asked
    labelled = RayConfig(select={"kind": "H100"})
    assert misfit(Cluster([8], labels={"kind": "H100"}), labelled) == "" != misfit(Cluster([8]), labelled)


def test_a_node_that_was_never_there_is_not_waited_for_and_a_lost_one_is() -> None:
    with pytest.raises(MicotaError, match="no node of the Ray cluster can hold train"):
        Room(Cluster([4]), "train", RayConfig(gpus=8)).check()
    assert not Room(Cluster([4]), "train", RayConfig(gpus=8, wait_s=9)).check()
    cluster = Cluster([8])
    room = Room(cluster, "train", RayConfig(gpus=8))
    assert room.check() and "waits for 1 CPU, 8 GPU" in room.note()
    cluster.gpus = [4]
    assert not room.check(every_s=-1)


def test_gpus_that_stand_unused_while_work_waits_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    unused = Unused(cluster := Cluster([8], free=3), after_s=0)
    assert not unused.check(work=False, every_s=-1)
    for _ in range(2):
        assert "3 GPUs of the cluster have stood unused" in unused.check(work=True, every_s=-1)
    assert capsys.readouterr().err.count("raise `replicas`") == 1
    cluster.free = 0
    assert not unused.check(work=True, every_s=-1)
    assert not Unused(Cluster([8], free=3)).check(work=True)  # not for ten minutes yet
