"""A Ray cluster of real raylets on this machine, and a generation by scripted engines that runs on it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

RECIPE = """
name: fleet
let:
  set: {problems: {source: ./problems.jsonl}}
  answers: {generate: {model: "lab:teacher", problems: set, prompt: "{problem}", sampling: {max_tokens: 300}}}
"""
LONG_S = 400


class Raylets:
    """A head that computes nothing, and nodes with places for engines, each a raylet with its workers."""

    def __init__(self, *places: int) -> None:
        slow = {
            "raylet_start_wait_time_s": 600,
            "worker_register_timeout_seconds": 600,
            "agent_register_timeout_ms": 10**6,
        }
        os.environ |= {f"RAY_{name}": str(number) for name, number in slow.items()}  # a busy machine
        os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
        from ray.cluster_utils import Cluster

        quiet = {"object_store_memory": 100 * 2**20, "include_dashboard": False, "include_log_monitor": False}
        self._cluster = again(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet}))
        self.address = str(self._cluster.address)
        self.nodes = [self.join(engine=number) for number in places]

    def join(self, cache: Path | None = None, **places: float) -> Any:
        """A node more, with these places by name, and a cache of its own."""
        size, own = 100 * 2**20, {"env_vars": {"XDG_CACHE_HOME": str(cache)}} if cache else {}
        return again(lambda: self._cluster.add_node(num_cpus=4, resources=places, object_store_memory=size, **own))

    @staticmethod
    def kill(node: Any) -> None:
        """`kill -9` of a raylet and of all that it has started."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()

    @staticmethod
    def of(node: Any, process: psutil.Process) -> bool:
        """Whether a raylet has started a process."""
        raylet = node.all_processes["raylet"][0].process.pid
        return raylet in [one.pid for one in process.parents()]

    def kill_head(self) -> None:
        """`kill -9` of the process that knows the cluster."""
        psutil.Process(self._cluster.head_node.all_processes["gcs_server"][0].process.pid).kill()

    def close(self) -> None:
        """End all of it."""
        self._cluster.shutdown()


@contextmanager
def raylets(*places: int) -> Iterator[Raylets]:
    """A cluster with a node for each number of engines."""
    made = Raylets(*places)
    try:
        yield made
    finally:
        made.close()


def again(start: Callable[[], Any], times: int = 4) -> Any:
    """What `start` returns; Ray gives up on a raylet that takes longer than 30 s, as on a busy machine."""
    for _ in range(times - 1):
        try:
            return start()
        except Exception as error:
            print(f"a raylet has not started: {error}")
    return start()


def members() -> list[psutil.Process]:
    """The processes of engines that live on this machine."""
    return [one for one in psutil.process_iter(["cmdline"]) if "ray::" in " ".join(one.info["cmdline"] or ())
            and "Member" in " ".join(one.info["cmdline"] or ())]  # fmt: skip


def gone(seconds: float) -> bool:
    """Whether no engine lives on after so many seconds."""
    return until(lambda: not members(), seconds)


def until(holds: Callable[[], bool], seconds: float = LONG_S) -> bool:
    """Wait until something holds; whether it did in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


class Generation:
    """A folder with a recipe whose answers take a while; runs of it are processes of their own."""

    def __init__(self, folder: Path, n: int, seconds: tuple[float, float] = (0, 0), **lines: dict[str, Any]) -> None:
        self.folder, self.n = folder, n
        dice, names = random.Random(0), [f"problem {i}" for i in range(n)]
        script = [
            {"problem": name, "text": f"{name} " + "so " * 50 + rf"\boxed{{{i}}}",
             "seconds": round(dice.uniform(*seconds), 2), **lines.get(f"p{i}", {})}
            for i, name in enumerate(names)
        ]  # fmt: skip
        problems = [{"problem": name, "answer": str(i)} for i, name in enumerate(names)]
        folder.mkdir(parents=True, exist_ok=True)
        for file, rows in (("script.jsonl", script), ("problems.jsonl", problems)):
            (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "fleet.yaml").write_text(RECIPE)

    def profile(self, address: str | None, engine: str = "scripted, script: ./script.jsonl", **ray: Any) -> None:
        """Write the machine profile: on a cluster, or (None) in one process."""
        lines = [f"generate: {{batch: 4, engine: {engine}"]
        config = {"resources": {"engine": 1}, "replicas": 6, "cpus": 0.1, **ray}
        lines[0] += f", ray: {json.dumps(config)}}}" if address else "}"
        if address:
            lines.append(f"ray: {address}")
        (self.folder / "machine.yaml").write_text("\n".join(lines) + "\n")

    def start(self, store: str = "store") -> subprocess.Popen[str]:
        """`micota run` in a process of its own."""
        command = [sys.executable, "-m", "micota", "run", "fleet.yaml", "--machine", "machine.yaml", "--store", store]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def finish(self, process: subprocess.Popen[str] | None = None, code: int | None = 0, store: str = "store") -> str:
        """What a run says until its end, which must come with this exit code."""
        process = process or self.start(store)
        said, _ = process.communicate(timeout=LONG_S)
        assert code is None or process.returncode == code, f"exit code {process.returncode}\n{said}\n{self.log()}"
        return said

    def log(self) -> str:
        """The logs of the stages."""
        return "\n".join(path.read_text()[-4000:] for path in self.folder.glob("store/**/log.txt"))

    def rows(self) -> list[dict[str, Any]]:
        """The whole lines of the pool."""
        files = self.folder.glob("store/pools/*/*.jsonl")
        return [json.loads(line) for path in files for line in path.read_text().split("\n") if line.endswith("}")]

    def reach(self, n: int, process: subprocess.Popen[str]) -> None:
        """Wait for so many answers."""
        assert until(lambda: len(self.rows()) >= n or process.poll() is not None)
        assert process.poll() is None, f"{process.communicate()[0]}\n{self.log()}"

    def counts(self) -> Counter[tuple[str, int]]:
        """How often each key was answered."""
        return Counter((row["key"], row["sample"]) for row in self.rows())

    def content(self, store: str = "store") -> str:
        """The hash of the answers' artifact."""
        (manifest,) = self.folder.glob(f"{store}/artifacts/generate-*/manifest.json")
        return str(json.loads(manifest.read_text())["content"])

    def expected(self) -> str:
        """The content of the same generation in one process, in a store of its own."""
        kept = (self.folder / "machine.yaml").read_text()
        script = (self.folder / "script.jsonl").read_text()
        rows = [json.loads(line) | {"seconds": 0, "crash": False} for line in script.splitlines()]
        (self.folder / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.profile(None)
        self.finish(store="alone")
        (self.folder / "machine.yaml").write_text(kept)
        (self.folder / "script.jsonl").write_text(script)
        return self.content("alone")
