"""`micota merge CONFIG.yml OUT`: a merge that mergekit's YAML describes, into a model folder with its checksums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota import pretrained, yaml_tree
from micota.atomic import read_text
from micota.errors import MicotaError
from micota.merging.folders import Progress, merge_folders
from micota.merging.merge_record import RECORD
from micota.merging.mergekit import Config, read
from micota.merging.mergekit_values import layer_counts
from micota.merging.model_files import read_object, write_object
from micota.merging.safetensor_files import Checkpoint
from micota.merging.settings import Settings
from micota.merging.shards import SHARD_BYTES, sha256
from micota.merging.stacks import Part, Stack

if TYPE_CHECKING:
    from rich.console import Console


def merge_config(
    file: Path,
    out: Path,
    *,
    seed: int = 0,
    threads: int = 1,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Merge what a configuration file names into the folder `out`, and return the facts of the merge.

    Masks are seeded by `seed` and a model's place in the list, as in a recipe, so that both give the same model.
    `out/merge.json` then holds the configuration, the seed, the facts, and size and SHA-256 of every file.
    """
    if not file.is_file():
        raise MicotaError(f"there is no file {file}", fix="micota merge CONFIG.yml OUT")
    text = read_text(file)
    config = read(yaml_tree.read(text, file.name).value, file.name)
    folders = {ref: model_folder(ref, file.parent) for ref in dict.fromkeys((*config.references, config.tokenizer))}
    stack = _stack(config, folders)
    remarks = [f"{ref}: {text}" for ref in config.references for text in _fit(folders[ref])]
    facts = merge_folders(
        out,
        folders[config.base],
        [folders[model] for model in config.models],
        [str(i) for i in range(len(config.models))],
        _settings(config, folders, stack, seed),
        like=[(ref, folders[ref]) for ref in dict.fromkeys((config.tokenizer, config.base))],
        dtype=config.dtype,
        threads=threads,
        progress=progress,
        shard_bytes=shard_bytes,
        checksums=True,
        stack=stack,
    )
    record = read_object(out / RECORD)
    if "files" not in record:
        named = {"base": config.base, "models": list(config.models)}
        files = _checksums(out, record.pop("sums", {}))
        write_object(out / RECORD, record | {"config": text, **named, "files": files})
    return facts | {"findings": remarks + facts["findings"]}


def merged(console: Console, facts: dict[str, Any]) -> None:
    """What a merge saw and did: task vectors, what was kept of them, remarks, and where the other files are from."""
    from rich.markup import escape
    from rich.table import Table

    if facts["models"]:
        table = Table("model", "norm of its task vector", "share kept")
        for label, model in facts["models"].items():
            table.add_row(label, f"{model['norm']:g}", f"{model['kept']:.4f}")
        console.print(table)
    for pair in facts["cosines"]:
        console.print(f"cosine of task vectors {' and '.join(pair['models'])}: {pair['cosine']}", highlight=False)
    if facts["sign_conflicts"] is not None:
        console.print(f"signs disagree at {100 * facts['sign_conflicts']:.2f} % of the entries", highlight=False)
    for line in (*facts["remarks"], *facts["findings"]):
        console.print(f"[yellow]note[/]: {escape(line)}", soft_wrap=True, highlight=False)
    origins: dict[str, list[str]] = {}
    for name, label in facts["sources"].items():
        origins.setdefault(label, []).append(name)
    for label, names in origins.items():
        console.print(f"from {escape(label)}: {escape(', '.join(names))}", soft_wrap=True, highlight=False)


def _fit(folder: Path) -> list[str]:
    """Remarks on a folder's weights. One that has most of its architecture must have all of it; the arithmetic itself
    needs no architecture, so that another kind of folder can be merged too."""
    fit = pretrained.inspect(folder)
    if not fit.is_stub:
        fit.refuse()
    return fit.remarks()


def _stack(config: Config, folders: Mapping[str, Path]) -> Stack | None:
    """The layers as the configuration's slices say; None where it takes whole models."""
    if not config.slices[0].spans:
        return None
    parts = []
    for part in config.slices:
        names = tuple(part.own) if config.method == "passthrough" else (config.base, *config.models)
        sources = tuple((folders[name], part.spans[name][0]) for name in names)
        start, stop = part.spans[names[0]]
        parts.append(Part(sources, stop - start))
    stack = Stack(parts)
    return None if stack.changes_nothing and config.method != "passthrough" else stack


def _settings(config: Config, folders: Mapping[str, Path], stack: Stack | None, seed: int) -> Callable[[str], Settings]:
    """The settings of each tensor of the result."""
    if stack is None:
        layers = layer_counts(Checkpoint(folders[config.base]).entries)
        return lambda tensor: config.settings(tensor, layers[tensor], seed)

    def settings(tensor: str) -> Settings:
        place = stack.places[tensor]
        part = config.slices[place.part]
        inputs = tuple(part.own) if config.method == "passthrough" else (config.base, *config.models)
        return config.settings_at(tensor, place.at, seed, place.part, dict(zip(inputs, place.names, strict=True)))

    return settings


def model_folder(ref: str, beside: Path) -> Path:
    """The folder of a reference: a path beside the configuration or here, `lab:NAME`, or a Hub id with or without
    `@revision`."""
    for path in (beside / Path(ref).expanduser(), Path(ref).expanduser()):
        if path.is_dir() and not ref.startswith("lab:"):
            return path
    from micota.specs import Source
    from micota.store import resolution as sources

    if ref.startswith("lab:"):
        return sources.fetch(sources.local(ref, "model", beside), "model")
    name, _, revision = ref.partition("@")
    if "+" in ref:
        raise MicotaError(f"{ref}: adapters are not supported", fix="merge the adapter into its model first")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise MicotaError(f"there is no folder {ref}", where=str(beside), fix="a model folder, or a Hub id: OWNER/NAME")
    revision = revision or sources.hub_revision(name, "model") or ""
    if not revision:
        raise MicotaError(f"the model {name} is neither a folder nor known to the Hub", fix="check name and network")
    return sources.fetch(Source(ref=name, revision=revision), "model")


def _checksums(out: Path, known: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a finished folder, but of its record."""
    files = [file for file in sorted(out.rglob("*")) if file.is_file() and file.name != RECORD]
    sums = {file: known.get(file.name) or sha256(file) for file in files}
    return {
        file.relative_to(out).as_posix(): {"size": file.stat().st_size, "sha256": digest}
        for file, digest in sums.items()
    }
