"""`micota export NAME DIR`: a folder that serves, or a data set, with a card that tells where it comes from.

It is written aside and renamed. What is served has the end tokens that its template writes, and the same prompt through
the usual interface as in training; that is looked at before the folder gets its name.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from glob import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import micota
from micota import chat as prompts
from micota.atomic import atomic, write_json
from micota.errors import MicotaError
from micota.export import card
from micota.export.lineage import DATA, MODELS
from micota.merging.model_files import CONFIG, GENERATION, read_object
from micota.merging.safetensor_files import DTYPES, Checkpoint
from micota.recipe.reader import SHIPPED
from micota.store.artifacts import Manifest, Store
from micota.store.pool import find
from micota.store.records import read_rows

RECORD = "micota.json"
PIECE = 16 * 2**20
Report = Callable[[int, int], None]


def export(store: Store, manifest: Manifest, title: str, out: Path, address: str, report: Report) -> None:
    """Write what a finished model or training data is into the folder `out`, which must not be there or be empty."""
    manifest = _chosen_by(store, manifest)
    _check(store, manifest, title, out)
    try:
        _write(store, manifest, title, out, address, report)
    except OSError as error:
        fix = "make room there, or name another folder; nothing was left"
        raise MicotaError(f"{out} cannot be written: {error.strerror or error}", fix=fix) from error


def _write(store: Store, manifest: Manifest, title: str, out: Path, address: str, report: Report) -> None:
    for leftover in out.absolute().parent.glob(f".{escape(out.name)}.*-*"):  # of an export that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with atomic(out) as folder:
        folder.mkdir()
        if manifest.kind in DATA:
            rows = _write_rows(store, manifest, folder)
            text = card.of_data(store, manifest, title, rows)
        else:
            _copy(store.files(manifest), folder, report)
            served = make_it_serve(folder, _trusts(manifest))
            _asks_as_in_training(store.files(manifest), folder, manifest)
            text = card.of_model(store, manifest, title, address, served)
        (folder / "README.md").write_text(text, encoding="utf-8")
        write_json(folder / RECORD, record(manifest))


def record(manifest: Manifest) -> dict[str, Any]:
    """What a folder says of itself, so that the same export is known again."""
    return {"artifact": manifest.id, "content": manifest.content, "micota": micota.__version__}


def is_there(out: Path, manifest: Manifest) -> bool:
    """Whether a folder is an export of the same content."""
    return read_object(out / RECORD).get("content") == manifest.content


def make_it_serve(folder: Path, trust: bool = False) -> dict[str, Any]:
    """Set end and padding tokens, the cache and the weights' dtype; return the generation config."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    config = read_object(folder / CONFIG)
    made = read_object(folder / GENERATION) if (folder / GENERATION).is_file() else {}
    made.pop("_from_model_config", None)
    named = made.get("eos_token_id", config.get("eos_token_id"))
    eos = prompts.eos_ids(SimpleNamespace(eos_token_id=named), tokenizer)
    written = [token for token in (prompts.turn_end(tokenizer),) if token is not None]
    ends = list(dict.fromkeys([*eos, prompts.end_id(tokenizer, eos), *written]))
    pads = (made.get("pad_token_id"), tokenizer.pad_token_id, config.get("pad_token_id"), ends[0])
    made |= {"eos_token_id": ends if len(ends) > 1 else ends[0], "pad_token_id": next(p for p in pads if p is not None)}
    write_json(folder / GENERATION, made)
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    write_json(folder / CONFIG, config | {"use_cache": True, key: _dtype(folder)})
    return made


def _dtype(folder: Path) -> str:
    """The dtype of most of the weights' bytes."""
    sizes: dict[str, int] = {}
    for entry in Checkpoint(folder).entries.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.nbytes
    return DTYPES[max(sizes, key=lambda name: sizes[name])][0]


def _asks_as_in_training(files: Path, folder: Path, manifest: Manifest) -> None:
    """What the usual interface makes of a question must be what training and evaluation made of it."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(files, trust_remote_code=_trusts(manifest))
    if not getattr(tokenizer, "chat_template", None):
        return
    system = manifest.fields.get("system")
    turns = [] if system is None else [{"role": "system", "content": system}]
    turns.append({"role": "user", "content": "1+2=?"})
    usual = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=_trusts(manifest))
    served = usual.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
    if list(served) != prompts.prompt_ids(tokenizer, "1+2=?", system):
        raise MicotaError(
            f"the chat template of {manifest.id} gives other tokens through apply_chat_template than in training",
            why="it would be served another prompt than it has learnt",
            fix="report this with tokenizer_config.json and the template",
        )


def _trusts(manifest: Manifest) -> bool:
    return bool(manifest.fields.get("trust_remote_code", False))


def _chosen_by(store: Store, manifest: Manifest) -> Manifest:
    """The dial that chose a merge, which tells more of it than the merge does."""
    dials = (one for one in store.all() if one.kind == "dial" and one.same_as == manifest.id)
    return next(dials, manifest) if manifest.kind == "merge" else manifest


def _check(store: Store, manifest: Manifest, title: str, out: Path) -> None:
    if manifest.kind not in MODELS + DATA:
        kinds = {manifest.id: manifest.kind for manifest in store.all()}
        fits = [name for name, artifact in store.links().items() if kinds.get(artifact) in MODELS + DATA]
        fix = f"name one of these: {', '.join(fits)}" if fits else "run a recipe that trains, merges or selects"
        raise MicotaError(f"{title} is of kind {manifest.kind}; models and training data can be exported", fix=fix)
    if not store.whole(manifest):
        recipe, _, name = title.partition("/")
        fix = f"micota run {_recipe(recipe)} --only {shlex.quote(name.replace('--', '/') or 'NAME')}"
        why = "it is done, so that they are made again only when they are asked for"
        raise MicotaError(f"the files of {title} were removed", where=str(store.files(manifest)), why=why, fix=fix)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MicotaError(f"{out} is there already", why="what it holds would be lost", fix="name another folder")


def _recipe(name: str) -> str:
    """What to type for a recipe that a store knows by its name only."""
    shipped = any(name in (path.stem, f"paper/{path.stem}") for path in SHIPPED.rglob("*.yaml"))
    return name if shipped else f"THE-FILE-OF-{name or 'ITS-RECIPE'}"


def _copy(source: Path, target: Path, report: Report) -> None:
    """Copy a folder in pieces: a link would change the artifact with its copy."""
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    total, done = sum(path.stat().st_size for path in files), 0
    for path in files:
        there = target / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as read, open(there, "wb") as write:
            while piece := read.read(PIECE):
                write.write(piece)
                done += len(piece)
                report(done, total)
            write.flush()
            os.fsync(write.fileno())


def _write_rows(store: Store, manifest: Manifest, folder: Path) -> int:
    pools = [store.pool(pool) for pool in manifest.pools]
    wanted = read_rows(store.files(manifest) / "rows.jsonl")
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
        for one in find(pools, wanted):
            row = {"key": one.key, "sample": one.sample, "prompt": one.prompt, "response": one.target}
            file.write(json.dumps(row) + "\n")
    return len(wanted)
