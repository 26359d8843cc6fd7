"""A run as jobs of SLURM: scripts out of templates, kept in STORE/jobs/RECIPE/TIME/; their submission, state and end.

A folder holds run.sbatch and, for engines in jobs of their own, workers.sbatch; the ids of the jobs (run.job,
workers.job), their logs, the address of the Ray cluster (head), its token, and at the end the exit code (exit).
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.atomic import write_text
from micota.errors import MicotaError
from micota.machine import MachineProfile
from micota.machine.slurm import JobConfig, SlurmConfig
from micota.run.child import micota_command
from micota.store.records import text_key

SCRIPTS = ("run.sbatch", "workers.sbatch")
ENDS = {"0": "finished", "1": "failed", "2": "failed"}


@dataclass(frozen=True)
class Submission:
    """The folder of a run that was submitted."""

    folder: Path

    @property
    def title(self) -> str:
        """The recipe's name."""
        return self.folder.parent.name

    @property
    def scripts(self) -> list[Path]:
        """The scripts, in the order in which they are submitted."""
        return [path for name in SCRIPTS if (path := self.folder / name).is_file()]

    @property
    def ids(self) -> list[str]:
        """The ids of its jobs, that of the run first."""
        files = [path for one in self.scripts if (path := one.with_suffix(".job")).is_file()]
        return [text for path in files if (text := path.read_text(errors="replace").strip()).isdecimal()]


@dataclass(frozen=True)
class Job:
    """A job, or an array: its state in words, how long it has been running, and where it is or why it waits."""

    id: str
    state: str
    elapsed: str = ""
    where: str = ""


def submissions(store: Path, name: str | None = None) -> list[Submission]:
    """The submitted runs of a store, or of one recipe by its name; the oldest first."""
    places = sorted((store / "jobs").glob(f"{title_of(name)}/*" if name else "*/*"), key=lambda path: path.name)
    return [run for run in map(Submission, places) if run.ids]


def title_of(name: str) -> str:
    """A recipe's name as a folder's and a job's: of one that is changed or cut, with a part of its hash."""
    plain = re.sub(r"[^\w.+=-]+", "-", name)[:80].strip("-.")
    return plain if plain and plain == name else f"{plain[:71].strip('-.') or 'recipe'}-{text_key(name)[:8]}"


def write(name: str, words: Sequence[str], store: Path, machine: MachineProfile) -> Submission:
    """Write the scripts of `micota run WORDS`; of the profile's prefixes they say nothing.

    Raises MicotaError for a profile without `slurm`, and for paths that SLURM or the container cannot take.
    """
    slurm = machine.slurm
    if slurm is None:
        fix = "take --machine slurm, or add to yours: slurm: {partition: gpu, time: 24:00:00, cpus: 64, gpus: 8}"
        raise MicotaError(f"the machine profile '{machine.name}' says nothing about SLURM", fix=fix)
    unfit = re.compile(r"[\x00-\x1f\x7f\\" + (",:" if slurm.container else "") + "]")
    for path in (store, Path.cwd()):
        if unfit.search(str(path)):
            raise MicotaError(
                f"SLURM or the container cannot take the path {path}", fix="use a folder with a plain name"
            )
    folder = store / "jobs" / title_of(name) / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    for script, config in zip(SCRIPTS, filter(None, (slurm.head, slurm)), strict=False):
        (folder / script).write_text(_script(script, config, slurm, machine, words, folder, store), encoding="utf-8")
    if machine.starts_ray:
        with open(os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return Submission(folder)


def _script(
    script: str,
    config: JobConfig,
    slurm: SlurmConfig,
    machine: MachineProfile,
    words: Sequence[str],
    folder: Path,
    store: Path,
) -> str:
    """One script, from its template."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("micota.run"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # every text passes `q`
    )
    environment.filters["q"] = lambda word: shlex.quote(str(word))
    here = Path(sys.executable).parent
    program, python, ray = ["micota"], "python", "ray"
    if slurm.container is None:
        program, python, ray = micota_command(), sys.executable, str(here / "ray")
    values: dict[str, Any] = {
        "options": list(_options(script, config, slurm, folder)),
        "folder": folder,
        "cwd": Path.cwd(),
        "container": _container(slurm, config, store),
        "command": [*program, "run", *words, "--store", str(store)],
        "python": python,
        "ray": ray if machine.starts_ray else None,
    }
    return environment.get_template(script).render(values, config=config, slurm=slurm)


def _container(slurm: SlurmConfig, config: JobConfig, store: Path) -> list[str]:
    """The words before a command that runs in the image; of pyxis, options of srun. /tmp has the sockets of Ray."""
    if (container := slurm.container) is None:
        return []
    cwd = str(Path.cwd())
    mounts = ",".join(f"{one}:{one}" for one in dict.fromkeys([str(store), cwd, *container.mounts, "/tmp"]))
    if container.runtime == "apptainer":
        nv = ["--nv"] if config.gpus else []
        return ["apptainer", "exec", *nv, "--bind", mounts, "--pwd", cwd, container.image]
    return [f"--container-image={container.image}", f"--container-mounts={mounts}", f"--container-workdir={cwd}"]


def _options(script: str, config: JobConfig, slurm: SlurmConfig, folder: Path) -> Iterator[str]:
    """The options of sbatch, as they stand behind `#SBATCH`, where no shell reads them."""
    workers = script == SCRIPTS[1]
    yield f"--job-name=micota-{folder.parent.name}"
    for name, value in (("account", slurm.account), ("partition", config.partition), ("time", config.time)):
        if value:
            yield f"--{name}={value}"
    yield f"--nodes={1 if slurm.head else slurm.nodes}"
    yield "--ntasks-per-node=1"
    yield f"--cpus-per-task={config.cpus}"
    if config.memory:
        yield f"--mem={config.memory}"
    if config.gpus:
        yield f"--gpus-per-node={config.gpus}"
    if workers:
        yield f"--array=0-{slurm.nodes - 1}"
    yield f"--signal=B:USR1@{config.warning_s}"
    yield "--requeue" if slurm.requeue else "--no-requeue"
    yield "--open-mode=append"
    place = str(folder).replace("%", "%%").replace('"', '\\"')
    yield f'--output="{place}/{"worker-%a" if workers else "log"}.txt"'
    yield from config.extra


def submit(run: Submission) -> None:
    """Hand the scripts to sbatch, and keep the ids. Raises MicotaError if it refuses one: then none is in the queue."""
    for path in run.scripts:
        try:
            said = _slurm("sbatch", "--parsable", str(path))
        except MicotaError:
            if run.ids:
                _slurm("scancel", *run.ids)
            raise
        write_text(path.with_suffix(".job"), said.split(";")[0].strip() + "\n")


def cancel(run: Submission, queued: Sequence[Job]) -> None:
    """Ask a run to stop where it can continue, or take it out of the queue. Its workers' jobs end after its own."""
    states = {job.id: job.state for job in queued}
    if states.get(run.ids[0]) == "RUNNING":
        _slurm("scancel", "--batch", "--signal=TERM", run.ids[0])
    elif alive := [each for each in run.ids if each in states]:
        _slurm("scancel", *alive)


def queue(ids: Sequence[str]) -> list[Job]:
    """The jobs among `ids` that wait or run; of an array, how many of its jobs are in which state."""
    if not ids:
        return []
    try:
        said = _slurm("squeue", "--noheader", "--format=%F|%T|%M|%R", f"--jobs={','.join(ids)}")
    except MicotaError as error:
        if "Invalid job id" in str(error):  # it has forgotten all of them
            return []
        raise
    rows = [line.split("|", 3) for line in said.splitlines() if line.count("|") >= 3]
    return [_job([row for row in rows if row[0] == one]) for one in dict.fromkeys(row[0] for row in rows)]


def _job(rows: Sequence[Sequence[str]]) -> Job:
    id_, state, elapsed, where = rows[0]
    if len(rows) > 1:
        state = ", ".join(f"{number} {word}" for word, number in Counter(row[1] for row in rows).items())
        where = ", ".join(dict.fromkeys(row[3] for row in rows))
    return Job(id_, state, elapsed, where)


def end_of(run: Submission) -> str:
    """How a run ended that is no longer in the queue: as its script has noted, else as SLURM's accounting says."""
    path = run.folder / "exit"
    if path.is_file():
        return ENDS.get(path.read_text(errors="replace").strip(), "stopped")
    command = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={run.ids[0]}")
    try:
        state = _slurm(*command).strip().partition("\n")[0]
    except MicotaError:  # there is no accounting
        state = ""
    return state or "ended without a word: it was killed, or its node was lost"


def _slurm(*command: str) -> str:
    """What a command of SLURM prints. Raises MicotaError with its message."""
    program = shutil.which(command[0])
    if program is None:
        where = "type it where SLURM's commands are; `micota submit --dry-run` needs none of them"
        raise MicotaError(f"'{command[0]}' is not on this machine", fix=where)
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, errors="replace")
    if done.returncode:
        why = " ".join(done.stderr.split()).removeprefix(f"{command[0]}: error: ")
        fix = "change `slurm:` in the machine profile" if command[0] == "sbatch" else None
        raise MicotaError(f"{command[0]} refused", why=why, fix=fix)
    return done.stdout
