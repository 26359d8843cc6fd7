"""A SLURM of this machine: munge, a controller and two nodes that are processes here, in a folder of their own.

Two partitions over both nodes: what waits in `urgent` preempts what runs in `spot`, which is queued again.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
SBIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
LONG_S = 240
CONFIG = """
ClusterName=micota
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=30
SchedulerParameters=sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 State=UNKNOWN
PartitionName=spot Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


class Slurm:
    """The processes of a cluster, and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": SBIN, "SLURM_CONF": str(folder / "slurm.conf")}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all of it, and wait until both nodes take jobs."""
        for name in ("state", "spool-one", "spool-two"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        os.chmod(self.folder / "munge.key", 0o400)
        host = socket.gethostname().partition(".")[0]
        (self.folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=self.folder, ports=free_ports(3)))
        names = {
            "key": "munge.key",
            "socket": "munge.socket",
            "pid": "munge.pid",
            "log": "munge.log",
            "seed": "munge.seed",
        }
        munge = [f"--{name}-file={self.folder / file}" for name, file in names.items() if name not in ("socket",)]
        self._run("munged", "--foreground", "--force", f"--socket={self.folder / 'munge.socket'}", *munge)
        assert until(lambda: (self.folder / "munge.socket").exists(), 20), self.logs()
        self._run("slurmctld", "-D", "-c")
        for node in ("one", "two"):
            self._run("slurmd", "-D", "-N", node)
        assert until(lambda: self.say("sinfo", "-h", "-N", "-p", "spot", "-o", "%T").split() == ["idle"] * 2, 60), (
            self.logs()
        )

    def _run(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}-{len(self._processes)}.out", "wb") as out:
            self._processes.append(subprocess.Popen(command, env=self.environment, stdout=out, stderr=out))

    def say(self, *command: str) -> str:
        """What a command of SLURM prints; "" if it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def state(self, job: str) -> str:
        """The state of a job that is in the queue; else ""."""
        return self.say("squeue", "--noheader", "--format=%T", f"--jobs={job}").strip()

    def logs(self) -> str:
        """The ends of what the daemons have said."""
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in files)

    def close(self) -> None:
        """Take every job out of the queue, then end the processes that were started here, and theirs."""
        self.say("scancel", "--user=root")
        until(lambda: not self.say("squeue", "--noheader"), 60)
        below = [child for one in self._processes for child in _children(one.pid)]
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for child in below:
            if child.is_running():
                child.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(holds: Callable[[], bool], seconds: float = LONG_S) -> bool:
    """Wait until something holds; whether it did in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.2)
    return False


def missing() -> str:
    """The program of SLURM that is not on this machine; "" if all are."""
    return next((name for name in NEEDED if not shutil.which(name, path=SBIN)), "")


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A cluster that lives inside the block."""
    made = Slurm(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()


def micota(environment: Mapping[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of micota in a folder."""
    import sys

    command = [sys.executable, "-m", "micota", *words]
    return subprocess.run(command, env=dict(environment), cwd=folder, capture_output=True, text=True, timeout=LONG_S)
