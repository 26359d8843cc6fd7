"""The merges in which micota and mergekit are compared. mergekit's side runs in an environment of its own:

python tests/agreement/merges.py FAMILIES OUT     (FAMILIES/NAME/{base,one,two}; writes OUT/NAME/CASE.safetensors)
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    """mergekit's configurations of one family's models, by name; with density 1 no mask is drawn."""
    base, one, two = (str(folder / who) for who in ("base", "one", "two"))
    both = [(one, 0.6), (two, 0.5)]

    def models(**parameters: Any) -> list[dict[str, Any]]:
        return [{"model": model, "parameters": {"weight": weight, **parameters}} for model, weight in both]

    gradient = [{"model": one, "parameters": {"weight": [0, 0.5, 1], "density": 1.0}}]
    found: dict[str, dict[str, Any]] = {
        "dare_ties": {"models": models(density=1.0)},
        "dare_ties-gradient": {"models": gradient},
        "ties": {"models": models(density=0.5)},
        "slerp": {"models": [{"model": one}], "parameters": {"t": [0.2, 0.9]}},
    }
    return {
        name: {"merge_method": name.partition("-")[0], "base_model": base, "dtype": "float32"} | about
        for name, about in found.items()
    }


def main(families: Path, out: Path) -> None:
    """Merge every family with mergekit; a case that it refuses leaves CASE.txt with its message."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from safetensors.torch import load_file, save_file

    logging.disable(logging.WARNING)
    for folder in sorted(path for path in families.iterdir() if path.is_dir()):
        place = out / folder.name
        place.mkdir(parents=True, exist_ok=True)
        for name, config in cases(folder).items():
            options = MergeOptions(copy_tokenizer=False, random_seed=0, quiet=True, write_model_card=False)
            with tempfile.TemporaryDirectory() as merged:
                try:
                    run_merge(MergeConfiguration.model_validate(config), merged, options)
                except Exception as error:
                    (place / f"{name}.txt").write_text(f"{type(error).__name__}: {error}")
                    continue
                tensors = {k: v for file in Path(merged).glob("*.safetensors") for k, v in load_file(file).items()}
                save_file({k: v.clone() for k, v in tensors.items()}, place / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
