"""micota: distill long chain-of-thought reasoning into small language models, at the length they can learn.

Implements MiCoTA (arXiv 2507.01887). The method in Python:

    import micota as mc

    ws = mc.Workspace("runs", machine="one-gpu")
    long = mc.distill("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", mc.problems("hiyouga/math12k", split="train"))
    arms = {"instruct": "Qwen/Qwen2.5-1.5B-Instruct", "strong": mc.train("Qwen/Qwen2.5-1.5B-Instruct", long)}
    results = ws.evaluate(arms, ["math500", "gsm8k"])

Importing this package is cheap: nothing is loaded before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from micota.errors import MicotaError as MicotaError
    from micota.errors import StageFailed as StageFailed
    from micota.errors import Stopped as Stopped
    from micota.recipe.constructors import distill as distill
    from micota.recipe.constructors import evaluation as evaluation
    from micota.recipe.constructors import generate as generate
    from micota.recipe.constructors import measure as measure
    from micota.recipe.constructors import mix as mix
    from micota.recipe.constructors import opd as opd
    from micota.recipe.constructors import pretrain as pretrain
    from micota.recipe.constructors import problems as problems
    from micota.recipe.constructors import rewrite as rewrite
    from micota.recipe.constructors import rows as rows
    from micota.recipe.constructors import select as select
    from micota.recipe.constructors import train as train
    from micota.recipe.constructors import verify as verify
    from micota.recipe.inquiry_constructors import judge as judge
    from micota.recipe.merge_constructors import dial as dial
    from micota.recipe.merge_constructors import interpolate as interpolate
    from micota.recipe.merge_constructors import length as length
    from micota.recipe.merge_constructors import merge as merge
    from micota.recipe.merge_constructors import rank as rank
    from micota.recipe.merge_constructors import tokens as tokens
    from micota.recipe.recipe import Recipe as Recipe
    from micota.recipe.recipe import load as load
    from micota.report.results import Results as Results
    from micota.workspace import Artifact as Artifact
    from micota.workspace import Workspace as Workspace

__version__ = "0.1.0"
_PLACES = {
    "micota.workspace": ("Workspace", "Artifact"),
    "micota.report.results": ("Results",),
    "micota.recipe.recipe": ("Recipe", "load"),
    "micota.recipe.constructors": (
        *("problems", "rows", "generate", "verify", "distill", "mix", "select", "train", "opd", "measure", "pretrain"),
        *("evaluation", "rewrite"),
    ),
    "micota.recipe.inquiry_constructors": ("judge",),
    "micota.recipe.merge_constructors": ("merge", "interpolate", "dial", "length", "tokens", "rank"),
    "micota.errors": ("MicotaError", "StageFailed", "Stopped"),
}
"""Where each public name is; it is imported when it is used."""
__all__ = [name for names in _PLACES.values() for name in names]


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'micota' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
