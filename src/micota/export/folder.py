"""`micota export NAME DIR`: a model as a folder that serves, or training data as rows, with a card.

The folder is written aside and renamed. Its EOS tokens are those that the chat template writes, and the template gives
the prompt tokens of training; both are checked before the folder gets its name.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from glob import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import micota
from micota import chat as prompts
from micota.atomic import atomic, check_free, read_json, write_json
from micota.checks.models import number
from micota.errors import MicotaError
from micota.export import card, data_formats
from micota.export.lineage import DATA, MODELS, prompted
from micota.merging.model_files import CONFIG, GENERATION, read_object
from micota.merging.safetensor_files import DTYPES, Checkpoint
from micota.recipe.shipped import SHIPPED
from micota.store.artifacts import Store
from micota.store.manifest import Manifest

RECORD = "micota.json"
Report = Callable[[int, int], None]


def export(
    store: Store, manifest: Manifest, title: str, out: Path, address: str, report: Report, form: str = "rows"
) -> None:
    """Write a finished model or training data into the folder `out`, which must be missing or empty.

    `title` is the heading of the card, `address` what from_pretrained takes; `report` gets (bytes done, bytes in all);
    `form` is that of training data, one of `data_formats.FORMATS`.
    Raises MicotaError for other kinds, removed files, and a folder that cannot be written.
    """
    manifest = _chosen_by(store, manifest)
    _check(store, manifest, title, out)
    try:
        _write(store, manifest, title, out, address, report, form)
    except OSError as error:
        fix = "make room there, or name another folder; nothing was left"
        raise MicotaError(f"{out} cannot be written: {error.strerror or error}", fix=fix) from error


def _write(store: Store, manifest: Manifest, title: str, out: Path, address: str, report: Report, form: str) -> None:
    out = out.absolute()
    for leftover in out.parent.glob(f".{escape(out.name)}.*-*"):  # of an export that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with atomic(out) as folder:
        folder.mkdir()
        if manifest.kind in DATA:
            rows = data_formats.write(store, manifest, folder, form, out.name)
            text = card.of_data(store, manifest, title, rows)
        else:
            _copy(store.files(manifest), folder, report)
            config = write_serving_config(folder, _trusts(manifest))
            _check_prompt(store.files(manifest), folder, manifest)
            context = number(read_object(folder / CONFIG), "max_position_embeddings")
            text = card.of_model(store, manifest, title, address, config, context)
        (folder / "README.md").write_text(text, encoding="utf-8")
        write_json(folder / RECORD, record(manifest))


def record(manifest: Manifest) -> dict[str, Any]:
    """The content of micota.json, by which a folder is recognized as an export."""
    fake = {"fake": manifest.fake} if manifest.fake else {}
    return {"artifact": manifest.id, "content": manifest.content, "micota": micota.__version__, **fake}


def is_there(out: Path, manifest: Manifest) -> bool:
    """Whether a folder is an export of the same content."""
    there = read_json(out / RECORD)
    return (there.get("content"), there.get("fake", [])) == (manifest.content, manifest.fake)


def write_serving_config(folder: Path, trust: bool = False) -> dict[str, Any]:
    """Set EOS and padding tokens, the cache and the weights' dtype; return the content of generation_config.json."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    config = read_object(folder / CONFIG)
    generation = read_object(folder / GENERATION)
    generation.pop("_from_model_config", None)
    configured = SimpleNamespace(eos_token_id=generation.get("eos_token_id", config.get("eos_token_id")))
    eos = prompts.eos_ids(configured, tokenizer)
    ends = dict.fromkeys([*eos, prompts.end_id(tokenizer, eos), prompts.turn_end(tokenizer)])
    ids = [token for token in ends if token is not None]
    pads = (generation.get("pad_token_id"), tokenizer.pad_token_id, config.get("pad_token_id"), ids[0])
    generation["eos_token_id"] = ids if len(ids) > 1 else ids[0]
    generation["pad_token_id"] = next(token for token in pads if token is not None)
    write_json(folder / GENERATION, generation)
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    write_json(folder / CONFIG, config | {"use_cache": True, key: _dtype(folder)})
    return generation


def _dtype(folder: Path) -> str:
    """The dtype of most of the weights' bytes."""
    sizes: dict[str, int] = {}
    for entry in Checkpoint(folder).entries.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.nbytes
    return DTYPES[max(sizes, key=lambda name: sizes[name])][0]


def _check_prompt(files: Path, folder: Path, manifest: Manifest) -> None:
    """The prompt tokens of apply_chat_template must be those of training and evaluation."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(files, trust_remote_code=_trusts(manifest))
    if not getattr(tokenizer, "chat_template", None):
        return
    system, keywords = prompted(manifest)
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": "1+2=?"})
    exported = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=_trusts(manifest))
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": False, **keywords}
    served = exported.apply_chat_template(messages, **options)
    if list(served) != prompts.prompt_ids(tokenizer, "1+2=?", system, **keywords):
        raise MicotaError(
            f"the chat template of {manifest.id} gives other tokens through apply_chat_template than in training",
            why="servers would give the model another prompt than it was trained on",
            fix="report this with tokenizer_config.json and the template",
        )


def _trusts(manifest: Manifest) -> bool:
    return bool(manifest.fields.get("trust_remote_code", False))


def _chosen_by(store: Store, manifest: Manifest) -> Manifest:
    """The length dial that chose a merge, if there is one: its manifest holds the search too."""
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
        why = "removed files are rebuilt on demand"
        raise MicotaError(f"the files of {title} were removed", where=str(store.files(manifest)), why=why, fix=fix)
    if damaged := store.damaged(manifest):
        why = f"{', '.join(damaged)} in {store.files(manifest)} changed after it was written"
        fix = f"micota run THE-RECIPE --only {shlex.quote(title.partition('/')[2] or 'NAME')} makes it again"
        raise MicotaError(f"{title} is damaged", why=why, fix=fix)
    check_free(out)


def _recipe(name: str) -> str:
    """What to type for a recipe that a store knows by its name only."""
    base = name.partition("+")[0]
    shipped = any(base in (path.stem, f"paper/{path.stem}") for path in SHIPPED.rglob("*.yaml"))
    return shlex.quote(name) if shipped else f"THE-FILE-OF-{name or 'ITS-RECIPE'}"


def _copy(source: Path, target: Path, report: Report) -> None:
    """Copy a folder, reporting bytes after each file; a hard link would change the artifact with its copy."""
    sizes = {path: path.stat().st_size for path in sorted(source.rglob("*")) if path.is_file()}
    total, done = sum(sizes.values()), 0
    for path, size in sizes.items():
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        done += size
        report(done, total)
