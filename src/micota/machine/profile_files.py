"""Machine profiles as YAML files: the shipped ones and the user's, every mistake with its line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

import micota
from micota import yaml_tree
from micota.atomic import read_text, written_path
from micota.errors import MicotaError, suggestion
from micota.machine.cluster import EnginesOnRay, TrainingOnRay
from micota.machine.profile import SECTIONS, MachineProfile
from micota.machine.slurm import SlurmConfig
from micota.machine.stage_configs import ServerConfig
from micota.specs import FrozenModel

PROFILES = Path(micota.__file__).parent / "recipes" / "machines"


def find(name: str) -> Path:
    """The file of a shipped profile, by its name, or the file that a path names."""
    shipped = {path.stem: path for path in PROFILES.glob("*.yaml")}
    path = shipped.get(name) or written_path(name)
    if not path.is_file():
        raise MicotaError(f"there is no machine profile '{name}'", fix=suggestion(name, shipped))
    return path


def load(name: str) -> MachineProfile:
    """A shipped profile by its name, or a YAML file by its path. Raises MicotaError with the line of a mistake."""
    path = find(name)
    tree = yaml_tree.read(read_text(path), path.name)
    if not isinstance(tree.value, dict):
        raise MicotaError(f"{path} holds no machine profile", fix="begin with `jobs: 1`")
    fields = {"name": path.stem, **{key: value for key, value in tree.value.items() if value is not None}}
    for config in (fields.get("generate"), fields.get("search"), *_mappings(fields.get("servers"))):
        _make_script_absolute(config, path.parent)
    try:
        return MachineProfile.of_json(fields)
    except ValidationError as error:
        raise _mistake(tree, error) from None


def _mappings(servers: Any) -> Iterable[Any]:
    return servers.values() if isinstance(servers, dict) else ()


def _make_script_absolute(config: Any, folder: Path) -> None:
    """A relative script lies beside the profile, wherever the stage that reads it will run."""
    if isinstance(config, dict) and isinstance(config.get("script"), str):
        config["script"] = str((folder / written_path(config["script"])).resolve())


def _mistake(tree: yaml_tree.Tree, error: ValidationError) -> MicotaError:
    """The first mistake, with its line; of a misplaced field, where it belongs."""
    first = error.errors()[0]
    whole = "slurm" if "slurm:" in first["msg"] else "ray"  # what concerns all stages
    *parents, last = [str(part) for part in first["loc"] or (whole,)]
    where, section = tree.where((*parents, last)), parents[0] if parents else None
    sections: dict[str, type[FrozenModel]] = {**SECTIONS, "servers": ServerConfig, "slurm": SlurmConfig}
    taken = sections.get(section or "", MachineProfile)
    for part in [one for one in parents[1:] if one in ("ray", "head", "container")]:
        taken, section = get_args(taken.model_fields[part].annotation)[0], f"{section}.{part}"
    if first["type"] == "extra_forbidden":
        return _misplaced(last, section, list(taken.model_fields), where)
    if first["type"] in ("model_type", "dict_type"):
        return MicotaError(f"'{last}' is no mapping of fields", where=where, fix=f"{last}: {{field: value, ...}}")
    message = first["msg"].removeprefix("Value error, ")
    meaning = taken.model_fields[last].description if last in taken.model_fields else None
    return MicotaError(f"{'.'.join([*parents, last])}: {message}", where=where, why=meaning and f"{last}: {meaning}")


def _misplaced(field: str, section: str | None, known: list[str], where: str) -> MicotaError:
    """An unknown field: the stages that take it, or else the closest name of those that are taken here."""
    if field == "processes":
        fix = "ray: auto\n       generate: {ray: {replicas: 16}, engine: vllm, tensor_parallel: 4}  # docs/clusters.md"
        what = "`processes` is gone: Ray shares the problems of one generation among engines"
        return MicotaError(what, where=where, fix=f"leave it and its `srun --ntasks` out, and write\n       {fix}")
    takers = [f"`{stage}:`" for stage, config in SECTIONS.items() if field in config.model_fields]
    of_ray = {*EnginesOnRay.model_fields, *TrainingOnRay.model_fields}
    takers = ["`ray:` of the stage"] if "ray" in known and field in of_ray else takers
    return MicotaError(
        f"unknown field '{field}'{f' in `{section}:`' if section else ''}",
        where=where,
        why=f"it takes {', '.join(known)}" if section else None,
        fix=f"move it to {' or '.join(takers)}" if takers else suggestion(field, known),
    )
