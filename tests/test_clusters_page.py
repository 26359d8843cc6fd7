"""docs/clusters.md: few commands, run here as far as they can be; its profiles load; YAML fits its schemas."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from raylets import Generation
from typer.testing import CliRunner

from micota import machine as machines
from micota.cli.main import app

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/clusters.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
WAYS = ("One node of eight GPUs", "SLURM", "A Ray cluster", "Kubernetes", "Spot machines and a bucket")
COMMANDS = {way: re.findall(r"```console\n(.*?)```", SECTIONS[way], re.S)[0].splitlines() for way in WAYS}
PROFILES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
CRD = os.environ.get("RAYJOB_CRD", "")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_takes_six_commands_at_most(way: str) -> None:
    assert 3 <= len(COMMANDS[way]) <= 6
    for command in COMMANDS[way]:
        for extras in re.findall(r'"\.\[(.*)\]"', command):
            known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set(extras.split(",")) <= known.keys()
        for file in re.findall(r"(?:constraints|examples)/\S+", command):
            assert (ROOT / file).is_file()


@pytest.mark.parametrize("text", PROFILES, ids=range(len(PROFILES)))
def test_a_profile_of_the_page_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    profile = machines.load(str(tmp_path / "mine.yaml"))
    assert profile.slurm or profile.ray


def test_commands_of_micota_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a shipped recipe: a run is planned, for what is no GPU cannot run it, and a submission is dry."""
    monkeypatch.chdir(tmp_path)
    seen = []
    for line in (line for way in WAYS for line in COMMANDS[way] if line.startswith("micota ")):
        words = line.replace("RECIPE", "lab-mini").split()[1:]
        seen.append(words[0])
        words = {"run": ["plan", *words[1:]], "submit": [*words, "--dry-run"]}.get(words[0], words)
        words = [str(tmp_path / "bucket") if word.startswith("s3://") else word for word in words]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.exception)
    assert seen == ["run", "submit", "status", "run", "pull", "run", "push"]


def documents(name: str) -> list[dict[str, Any]]:
    """The documents of an example."""
    return list(yaml.safe_load_all((ROOT / "examples" / name).read_text()))


def test_the_ray_job_runs_micota_on_the_volume() -> None:
    claim, job = documents("rayjob.yaml")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec["entrypoint"].startswith("micota run ") and spec["entrypoint"].endswith(" --store /store")
    assert f"\nray=={cluster['rayVersion']}\n" in (ROOT / "constraints/vllm.txt").read_text()
    pods = [cluster["headGroupSpec"]["template"]["spec"]]
    pods += [group["template"]["spec"] for group in cluster["workerGroupSpecs"]]
    for pod in pods:
        (container,) = pod["containers"]
        assert {"name": "store", "mountPath": "/store"} in container["volumeMounts"]
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    gpus = int(pods[1]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    place = machines.load(spec["entrypoint"].split()[4])
    assert place.train.ray and (place.train.ray.gpus or 0) <= gpus >= place.generate.gpus


def closed(schema: Any) -> Any:
    """A schema in which what is not named is not allowed, as the API server warns of it."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    free = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    return {"additionalProperties": False, **made} if isinstance(schema.get("properties"), dict) and not free else made


@pytest.mark.skipif(not CRD, reason="RAYJOB_CRD names no ray.io_rayjobs.yaml (config/crd/bases of KubeRay's operator)")
def test_the_ray_job_fits_the_schema_of_kuberay() -> None:
    crd = yaml.safe_load(Path(CRD).read_text())
    (version,) = [one for one in crd["spec"]["versions"] if one["name"] == "v1"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    job = documents("rayjob.yaml")[1]
    job["metadata"] = {}
    jsonschema.validate(job, schema)
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volume"] = []
    with pytest.raises(jsonschema.ValidationError, match="volume"):
        jsonschema.validate(job, schema)


@pytest.mark.skipif(importlib.util.find_spec("sky") is None, reason="SkyPilot is not installed")
@pytest.mark.filterwarnings("default")
def test_the_spot_task_fits_the_schema_of_skypilot() -> None:
    from sky.utils import common_utils, schemas

    (task,) = documents("skypilot.yaml")
    common_utils.validate_schema(task, schemas.get_task_schema(), "task: ")
    common_utils.validate_schema(task["resources"], schemas.get_resources_schema(), "resources: ")


def test_a_spot_machine_continues_from_the_bucket(tmp_path: Path) -> None:
    """The script of the task on two machines one after the other; the bucket is a folder."""
    bucket, home = tmp_path / "bucket", tmp_path / "home"
    (home / "micota/bin").mkdir(parents=True)
    (home / "micota/bin/micota").write_text(f'#!/bin/sh\nexec {sys.executable} -m micota "$@"\n')
    (home / "micota/bin/micota").chmod(0o755)
    (task,) = documents("skypilot.yaml")
    own = {"HOME": str(home), "RECIPE": "fleet.yaml", "MACHINE": "./machine.yaml", "BUCKET": str(bucket)}
    said = []
    for name in ("first", "second"):
        machine = Generation(tmp_path / name, 6)
        machine.profile(None)
        command, environment = ["bash", "-c", task["run"]], {**os.environ, **own}
        done = subprocess.run(command, cwd=machine.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert "2 stages executed" in said[0] and "0 stages executed" in said[1]
