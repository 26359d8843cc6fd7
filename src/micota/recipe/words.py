"""From words to specs: a Hub id, a path, `lab:NAME`, a benchmark's name, and graders of a user's own."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from micota.atomic import written_path
from micota.benchmarks import BENCHMARKS
from micota.errors import MicotaError, suggestion
from micota.merging.model_files import read_object
from micota.pretrained import ADAPTER
from micota.recipe.signature import describe
from micota.specs import Adapter, Data, Model, Problems, SftData, Source, Spec, Subset
from micota.store.resolution import ENDPOINT, LAB_MODELS, What, content_hash, local

S = TypeVar("S", bound=Spec)
HERE = ("./", "../", "/", "~", "lab:", ENDPOINT)


def as_source(word: Source | str | Path, what: What, beside: Path | None = None) -> Source:
    """The source of a word; relative paths start at `beside`, else at the working directory.

    A Hub id has no revision yet: the workspace asks for its commit when something needs it.
    """
    if isinstance(word, Source):
        return word
    beside = beside or Path.cwd()
    if isinstance(word, Path):
        word = str(word if word.is_absolute() else f"./{word}")
    if not isinstance(word, str):
        raise MicotaError(f"{describe(word)} is no {what}", fix="give a Hub id, a path or lab:NAME")
    if word.startswith(HERE) or what == "grader":
        return local(word, what, beside)
    there = os.path.exists(beside / word)
    if "/" not in word or there:
        if not there:
            in_the_lab = what == "model" and word in os.listdir(LAB_MODELS)
            fix = (
                f"did you mean 'lab:{word}'?" if in_the_lab else "give a Hub id (ORGANISATION/NAME), a path or lab:NAME"
            )
            raise MicotaError(f"there is no {what} '{word}'", fix=fix)
        return local(f"./{word}", what, beside)
    return Source(ref=word)


def as_model(value: Model | str | Path) -> Model:
    """A model: a spec as it is, a word as the model made elsewhere that it names."""
    if isinstance(value, str | Path):
        return as_adapter(str(value), folder) if (folder := adapter_folder(value)) else as_source(value, "model")
    return _checked(value, Model, "a model")


def adapter_folder(word: str | Path, beside: Path | None = None) -> Path | None:
    """The folder that a word names, if a LoRA adapter is in it; None otherwise."""
    if str(word).startswith(("lab:", ENDPOINT)):
        return None
    path = Path(os.path.abspath((beside or Path.cwd()) / written_path(str(word))))
    return path if (path / ADAPTER).is_file() else None


def as_adapter(word: str, folder: Path, hub: Callable[[str], Source] = lambda ref: Source(ref=ref)) -> Adapter:
    """The model that a LoRA adapter folder is, on the base that its adapter_config.json names.

    The base is a folder, or a Hub id, whose source `hub` gives where no commit is named. Raises MicotaError for
    adapters that are not LoRA's or no safetensors, and for a base that is neither.
    """
    about = read_object(folder / ADAPTER)
    if str(about.get("peft_type")).upper() != "LORA":
        raise MicotaError(f"{folder} holds an adapter of the kind {about.get('peft_type')}; only LoRA can be merged")
    if not (folder / "adapter_model.safetensors").is_file():
        why = "weights are read from .safetensors files only: others can run code when loaded"
        raise MicotaError(f"{folder} has no adapter_model.safetensors", why=why)
    name, commit = str(about.get("base_model_name_or_path") or ""), about.get("revision")
    places = (folder / name, Path(name).expanduser())
    if place := next((path for path in places if name and path.is_dir()), None):
        base = local(str(place.absolute()), "model", folder)
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        base = Source(ref=name, revision=commit) if commit else hub(name)
    else:
        fix = "set base_model_name_or_path to a model folder or a Hub id"
        what = f"the base '{name:.200}' of the adapter is not there"
        raise MicotaError(what, where=str(folder / ADAPTER), fix=fix)
    return Adapter(base=base, content=content_hash(folder), ref=word, path=str(folder))


def as_data(value: Data | str | Path) -> Data:
    """Training data: a spec as it is, a word as rows made elsewhere."""
    if isinstance(value, str | Path):
        return SftData(source=as_source(value, "dataset"))
    return _checked(value, Data, "training data")


def as_problems(value: Problems | Subset | str | Path) -> Problems:
    """A problem set: a benchmark by its name, a word as the data set that it names."""
    if isinstance(value, Subset):
        return value.problems
    if isinstance(value, str) and value in BENCHMARKS:
        return benchmark_problems(value)
    if isinstance(value, str) and "/" not in value and not os.path.exists(value):
        raise MicotaError(f"unknown problem set '{value}'", fix=suggestion(value, BENCHMARKS))
    if isinstance(value, str | Path):
        return Problems(source=as_source(value, "dataset"))
    return _checked(value, Problems, "a problem set")


def _checked(value: Any, sort: type[S], words: str) -> S:
    if isinstance(value, sort) and hasattr(value, "kind"):  # the base classes have none
        return value
    what = f"{describe(value)[:200]} is given; {words} is expected here"
    raise MicotaError(what, fix="give a spec, a Hub id or a path")


def benchmark_problems(name: str, source: Source | None = None) -> Problems:
    """The problem set of a benchmark, from the Hub or from another source with the same columns."""
    b = BENCHMARKS[name]
    return Problems(
        source=source or Source(ref=b.source),
        config=b.config,
        split=b.split,
        benchmark=name,
        **b.columns,
    )


def as_grader(by: str | Source | Callable[..., Any]) -> dict[str, Any]:
    """The fields `by` and `grader` of a spec: of a grader of your own also the file, whose content is identity."""
    if isinstance(by, Source):
        return {"by": by.ref, "grader": by}
    if callable(by):
        file = inspect.getsourcefile(by) if inspect.isfunction(by) else None
        name, module = getattr(by, "__name__", repr(by)), getattr(by, "__module__", "__main__")
        importable = module != "__main__" and getattr(sys.modules.get(module), name, None) is by
        if not importable or file is None or not Path(file).is_file():
            raise MicotaError(
                f"the grader '{name}' is no function of a module: other processes cannot import it",
                why="the content of its file is a part of what a verdict is",
                fix="define it as a function in mygrader.py and give by='mygrader:NAME'",
            )
        word = f"{module}:{name}"
        return {"by": word, "grader": local(word, "grader", Path(file).parent)}
    if isinstance(by, str) and ":" in by:
        return {"by": by, "grader": local(by, "grader", Path.cwd())}
    return {"by": by}
