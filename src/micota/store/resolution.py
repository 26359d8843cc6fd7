"""Models, data and graders from elsewhere: Hub ids, local folders and files, `lab:NAME`; their places and contents.

A local model or data set is identified by the hash of its content, so a copy elsewhere is the same and a changed one
is another. A Hub id is identified by its commit, which is read once and kept in the recipe's lock file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import micota
from micota.atomic import read_json, write_json, written_path
from micota.errors import MicotaError, suggestion
from micota.pretrained import ADAPTER, refuse_adapter
from micota.specs import Source
from micota.store.checked import sealed, unsealed

What = Literal["model", "dataset", "grader"]
LAB_MODELS = Path(micota.__file__).parent / "lab" / "models"
LARGE = 64 * 2**20  # bytes: weights of a real model take minutes to hash, at every plan if nobody remembered
MOST_FILES = 20_000  # of one model or data set
ENDPOINT = "endpoint:"
TOKENIZER_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.py"]  # all of a model but its weights
LAB_WORLDS = ("lab:arithmetic", "lab:dates")
LAB_WORLD_VERSION = "1"  # raise it when the world writes other problems for the same seed
DATA_FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def is_literal(word: str) -> bool:
    """Whether a word of a recipe is a Hub id, a path, `lab:NAME` or `endpoint:NAME`, and not a name in the recipe."""
    return word.startswith(("./", "../", "/", "~", "lab:", ENDPOINT)) or "/" in word


def local(word: str, what: What, beside: Path) -> Source:
    """The source of a local literal, with the hash of its content. Relative paths start at the recipe's folder."""
    if what == "grader":
        return _grader(word, beside)
    if word.startswith("lab:"):
        return _lab(word, what)
    if word.startswith(ENDPOINT):
        return _endpoint(word, what)
    path = Path(os.path.abspath(beside / written_path(word)))
    if not path.exists():
        raise MicotaError(f"there is no {'folder' if what == 'model' else 'file'} {path}", fix="check the path")
    if what == "model":
        check_model(path)
    elif path.is_file() and path.suffix not in DATA_FORMATS:
        raise MicotaError(f"{path.name} is no data file", fix=f"use one of {', '.join(DATA_FORMATS)}")
    return Source(ref=word, revision=content_hash(path), path=str(path))


def check_model(path: Path) -> None:
    """A model folder has a configuration, a tokenizer and weights in safetensors."""
    if not path.is_dir():
        raise MicotaError(f"{path} is a file; a model is a folder")
    refuse_adapter(path)
    for needed in ("config.json", "tokenizer_config.json"):
        if not (path / needed).is_file():
            raise MicotaError(
                f"the model folder {path} has no {needed}", fix="give the folder that from_pretrained loads"
            )
    if not any(path.glob("*.safetensors")):
        why = "weights are read from .safetensors files only: others can run code when loaded"
        raise MicotaError(f"the model folder {path} has no weights (*.safetensors)", why=why)


def content_hash(path: Path) -> str:
    """The hash of a file, or of all files of a folder by relative name; hidden files are left out."""
    digest = hashlib.sha256()
    for name, file in content_files(path):
        digest.update(f"{name}\0{_file_hash(file)}\0".encode())
    return digest.hexdigest()


def check_unchanged(source: Source) -> None:
    """Whether a local source still has the content that its spec was built from; else a MicotaError."""
    if source.path is None or source.ref.startswith("lab:"):
        return
    path = Path(source.path)
    if not path.exists() or content_hash(path) != source.revision:
        what = "has changed" if path.exists() else "is gone"
        why = "artifacts are known by the content of what they were made of"
        raise MicotaError(f"{path} {what} since the spec was built from it", why=why, fix="build the spec again")


def fetch(source: Source, what: What) -> Path:
    """The local folder of a model or data set, downloaded from the Hub where it is not local."""
    if source.path:
        return Path(source.path)
    if source.ref.startswith(ENDPOINT):
        raise MicotaError(
            f"'{source.ref}' is a model behind a server: its weights are not here",
            fix=f"name its server in the machine profile, servers: {{{source.ref}: {{url: ...}}}}, or take a model"
            " whose weights can be had",
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source.ref, repo_type=what, revision=source.revision))


def fetch_tokenizer(source: Source) -> Path | None:
    """A folder with a model's tokenizer and configuration, downloaded without the weights; None for an endpoint."""
    if source.ref.startswith(ENDPOINT):
        return None
    if source.path:
        return Path(source.path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source.ref, revision=source.revision, allow_patterns=TOKENIZER_FILES))


def cached_tokenizer(source: Source) -> Path | None:
    """The same folder if it is here already, without asking the Hub; None if it is not."""
    if source.path:
        return Path(source.path)
    if source.ref.startswith(ENDPOINT):
        return None
    from huggingface_hub import snapshot_download

    try:
        there = Path(snapshot_download(source.ref, revision=source.revision, local_files_only=True))
    except OSError:  # LocalEntryNotFoundError is one
        return None
    return there if (there / "tokenizer_config.json").is_file() else None


def hub_revision(ref: str, what: What) -> str | None:
    """The commit that a Hub id stands for now: asked of the Hub, else the one in the local cache, else None."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        revision = HfApi().repo_info(ref, repo_type=what, timeout=10).sha
        return str(revision) if revision else None
    except Exception:  # no network, no such repository, no access: the cache may still know
        main = Path(HF_HUB_CACHE) / f"{what}s--{ref.replace('/', '--')}" / "refs" / "main"
        return main.read_text().strip() if main.is_file() else None


class Lock:
    """The commits of Hub ids, in a JSON file beside the recipe: `RECIPE.lock`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.revisions: dict[str, str] = _revisions(path)
        self._what: dict[str, What] = {}

    def source(self, ref: str, what: What) -> Source:
        """The source of a Hub id; its revision is None as long as the lock does not know it."""
        self._what[ref] = what
        return Source(ref=ref, revision=self.revisions.get(f"{what}:{ref}"))

    def resolve(self, refs: Iterable[str], adapters: Mapping[str, str] = {}) -> None:
        """Ask the Hub, or its cache here, for the commits that Hub ids stand for now.

        `adapters` are the folders of the adapters that name ids as their bases, by these ids.
        """
        for ref in refs:
            what = self._what[ref]
            revision = hub_revision(ref, what)
            if revision is None:
                place = f"{adapters[ref]}/{ADAPTER}" if ref in adapters else None
                folder = f"set base_model_name_or_path in {place} to" if place else "give"
                raise MicotaError(
                    f"the {what} '{ref}' cannot be resolved: the Hub does not answer and the cache does not have it",
                    where=place,
                    fix=f"check the name and the network, or {folder} a local folder (./NAME)",
                )
            self.revisions[f"{what}:{ref}"] = revision

    def save(self) -> None:
        """Write the lock file, if it has any commit."""
        if self.revisions:
            write_json(self.path, self.revisions)


def _revisions(path: Path) -> dict[str, str]:
    """What a lock file holds. A broken one is an error: newer commits in its place would be other artifacts."""
    if not (path.exists() or path.is_symlink()):
        return {}
    revisions = read_json(path)
    if not revisions or not all(isinstance(commit, str) for commit in revisions.values()):
        fix = "restore it, or remove it to resolve the Hub ids anew"
        raise MicotaError(f"{path.name} is no lock file of a recipe", where=str(path), fix=fix)
    return revisions


def _endpoint(word: str, what: What) -> Source:
    """`endpoint:NAME`, or `endpoint:NAME@VERSION` where the user knows that what answers has changed."""
    if what != "model" or not word.removeprefix(ENDPOINT).partition("@")[0]:
        raise MicotaError(
            f"'{word:.80}' is no model behind a server", fix="write endpoint:NAME, the model's name there"
        )
    return Source(ref=word, revision="endpoint")


def _lab(word: str, what: What) -> Source:
    name = word.removeprefix("lab:")
    if what == "dataset":
        if word not in LAB_WORLDS:
            fix = suggestion(word, LAB_WORLDS)
            raise MicotaError(f"there is no data set '{word:.80}'", fix=fix)
        return Source(ref=word, revision=LAB_WORLD_VERSION)
    known = [path.name for path in LAB_MODELS.iterdir() if path.is_dir()]
    if name not in known:
        fix = suggestion(word, [f"lab:{one}" for one in known])
        raise MicotaError(f"no model '{word:.80}' is shipped with micota", fix=fix)
    path = LAB_MODELS / name
    return Source(ref=word, revision=content_hash(path), path=str(path))


def _grader(word: str, beside: Path) -> Source:
    """The file of `package.module:function`, in the recipe's folder or wherever Python finds the module."""
    module = word.partition(":")[0]
    if len(module) > 255 or not all(part.isidentifier() for part in module.split(".")):
        raise MicotaError(f"'{module:.80}' is no name of a module", fix="write package.module:function")
    path = written_path(f"{beside / module.replace('.', '/')}.py")
    if not path.is_file():
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            found = None
        if found is None or found.origin is None:
            raise MicotaError(f"there is no module '{module}'", fix=f"put {path.name} beside the recipe, or install it")
        path = Path(found.origin)
    return Source(ref=word, revision=content_hash(path), path=str(path.absolute()))


def grader(source: Source) -> Any:
    """The function of a grader of the user's own, loaded from its file."""
    module, _, name = source.ref.partition(":")
    assert source.path is not None
    found = importlib.util.spec_from_file_location(module, source.path)
    assert found is not None and found.loader is not None
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    if not callable(function := getattr(loaded, name, None)):
        raise MicotaError(f"{source.path} has no function '{name}'", fix=f"define {name}(response, gold)")
    return function


def cache_folder() -> Path:
    """Where this machine keeps what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "micota"


def content_files(path: Path) -> Iterator[tuple[str, Path]]:
    """What `content_hash` covers: names and paths, in their order."""
    if path.is_file():
        yield path.suffix, path
        return
    entries = sorted(islice(path.rglob("*"), MOST_FILES + 1))
    if len(entries) > MOST_FILES:
        raise MicotaError(
            f"{path} holds more than {MOST_FILES:,} files", fix="name the folder of the model or data itself"
        )
    for file in entries:
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), file


def _file_hash(path: Path) -> str:
    """The SHA-256 of a file. That of a large one is remembered, and read again when its size or time differs."""
    stat = path.stat()
    if stat.st_size < LARGE:
        return _sha256(path)
    memory = cache_folder() / "hashes.json"
    known = unsealed(memory)
    key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    if key not in known:
        known[key] = _sha256(path)
        write_json(memory, sealed(known))
    return str(known[key])


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
