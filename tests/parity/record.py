"""Runs mergekit on the cases and keeps what it makes: `make parity` (in an environment of its own, without micota).

python tests/parity/record.py tests/data/mergekit
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from models import FAMILIES, build
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
THIN = {"dare_linear": 0.6, "dare_ties": 0.6}
BY_RANK = ("della", "della_linear")
MORE_OF = "llama"
"""mergekit cannot stack layers of which config.json lists the types, as Qwen2's does."""
DRAWS, FEWER = 200, 60


def named(value: Any, folders: dict[str, Path]) -> Any:
    """The configuration with the folders in the place of the models' names."""
    if isinstance(value, dict):
        return {k: str(folders[v]) if k in ("model", "base_model") else named(v, folders) for k, v in value.items()}
    return [named(one, folders) for one in value] if isinstance(value, list) else value


def merge(config: dict[str, Any], folders: dict[str, Path], seed: int) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory() as out:
        asked = MergeConfiguration.model_validate(named({"dtype": "float32"} | config, folders))
        run_merge(asked, out, MergeOptions(copy_tokenizer=False, random_seed=seed, quiet=True, write_model_card=False))
        return {name: one.clone() for file in Path(out).glob("*.safetensors") for name, one in load_file(file).items()}


def statistics(method: str, folders: dict[str, Path], base: dict[str, torch.Tensor]) -> dict[str, float]:
    """Over many masks: what the merged task vector is on average, and how much of it is left."""
    own = {"weight": 1.0, "density": THIN.get(method, 0.6)} | ({"epsilon": 0.3} if method in BY_RANK else {})
    config = {"merge_method": method, "base_model": "base", "models": [{"model": "one", "parameters": own}]}
    deltas = []
    for seed in range(FEWER if method in BY_RANK else DRAWS):
        merged = merge(config, folders, seed)
        deltas.append(torch.cat([(merged[name] - base[name]).flatten() for name in sorted(base)]).double().numpy())
    drawn = np.stack(deltas)
    full = {"model": "one", "parameters": {"weight": 1.0}}
    whole = merge(config | {"models": [full]}, folders, 0)  # density 1 drops nothing
    sizes = np.concatenate([(whole[name] - base[name]).abs().flatten().numpy() for name in sorted(base)])
    large = {"kept_large": float((drawn != 0)[:, sizes > np.median(sizes)].mean())} if method in BY_RANK else {}
    return large | {
        "mean": float(drawn.mean()),
        "variance": float(drawn.var(axis=0).mean()),
        "kept": float((drawn != 0).mean()),
        "l1": float(np.abs(drawn).sum(axis=1).mean()),
    }


def main(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    cases, more = (yaml.safe_load((HERE / name).read_text()) for name in ("cases.yaml", "more_cases.yaml"))
    facts: dict[str, Any] = {"mergekit": version("mergekit"), "torch": torch.__version__, "draws": DRAWS}
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            folders = build(Path(folder), family)
            (out / family).mkdir(parents=True)
            for name, config in cases.items():
                save_file(merge(config, folders, 0), out / family / f"{name}.safetensors")
            base = load_file(folders["base"] / "model.safetensors")
            facts[family] = {method: statistics(method, folders, base) for method in THIN}
            if family == MORE_OF:
                for name, config in more.items():
                    save_file(merge(config, folders, 0), out / family / f"{name}.safetensors")
                by_rank = {"draws": FEWER} | {method: statistics(method, folders, base) for method in BY_RANK}
    (out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "della.json").write_text(json.dumps(by_rank, indent=1) + "\n")
    print(f"{len(cases) * len(FAMILIES) + len(more)} results of mergekit {facts['mergekit']} in {out}")


main(Path(sys.argv[1]))
