"""What micota merges is what mergekit merges: against its recorded results, which `make parity` makes anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from whole_tensor import merge_tensor

from micota.cli.merge_config import merge_config
from micota.merging import Settings

HERE = Path(__file__).parent
RECORDED = HERE / "data" / "mergekit"
sys.path.insert(0, str(HERE / "parity"))
from models import FAMILIES, build  # noqa: E402

CASES: dict[str, Any] = yaml.safe_load((HERE / "parity" / "cases.yaml").read_text())
MORE: dict[str, Any] = yaml.safe_load((HERE / "parity" / "more_cases.yaml").read_text())
FACTS = json.loads((RECORDED / "facts.json").read_text())
BY_RANK = json.loads((RECORDED / "della.json").read_text())
ALLOWED = 1e-4  # share of all entries that may differ by more than a unit: ties of signs and thresholds


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    for family in FAMILIES:
        build(folder, family)
    return folder


def units(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How many floating-point numbers lie between two tensors, entry by entry."""
    places = [_place(tensor.flatten()) for tensor in (a, b)]
    return (places[0] - places[1]).abs()


def _place(tensor: torch.Tensor) -> torch.Tensor:
    bits = tensor.view(torch.int32 if tensor.itemsize == 4 else torch.int16).long()
    return torch.where(bits < 0, -(bits & (2 ** (8 * tensor.itemsize - 1) - 1)), bits)


def merged(folder: Path, family: str, name: str) -> dict[str, torch.Tensor]:
    config = folder / family / f"{name}.yml"
    config.write_text(yaml.safe_dump({"dtype": "float32"} | (CASES | MORE)[name]))
    merge_config(config, folder / family / f"out-{name}", threads=2)
    return load_file(folder / family / f"out-{name}" / "model.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_case_is_within_one_unit_of_mergekit(folders: Path, family: str) -> None:
    total = off = 0
    for name in CASES:
        ours, theirs = merged(folders, family, name), load_file(RECORDED / family / f"{name}.safetensors")
        assert ours.keys() == theirs.keys()
        for tensor in ours:
            assert ours[tensor].dtype == theirs[tensor].dtype, f"{name}, {tensor}"
            total += ours[tensor].numel()
            off += int((units(ours[tensor], theirs[tensor]) > 1).sum())
    assert total > 38_000
    assert off <= ALLOWED * total, f"{off} of {total} entries are off by more than a unit"


@pytest.mark.parametrize("name", MORE)
def test_every_further_case_agrees_with_mergekit(folders: Path, name: str) -> None:
    """Within one unit; where mergekit finds weights by sums in fp32, within three units of the largest input."""
    ours, theirs = merged(folders, "llama", name), load_file(RECORDED / "llama" / f"{name}.safetensors")
    assert ours.keys() == theirs.keys()
    if MORE[name]["merge_method"] not in ("nuslerp", "model_stock", "sce"):
        assert all(int((units(ours[tensor], theirs[tensor]) > 1).sum()) == 0 for tensor in ours)
        return
    inputs = [load_file(folders / "llama" / model / "model.safetensors") for model in ("base", "one", "two", "far")]
    for tensor in ours:
        largest = torch.stack([each[tensor].abs() for each in inputs[: 4 if "far" in str(MORE[name]) else 3]])
        off = (ours[tensor].double() - theirs[tensor].double()).abs() / largest.amax(dim=0)
        assert float(off.max()) <= 3 * 2**-23, tensor


@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_della_keeps_the_larger_entries_as_often_as_mergekit(folders: Path, method: str) -> None:
    base, one = (load_file(folders / "llama" / model / "model.safetensors") for model in ("base", "one"))
    names, drawn = sorted(base), []
    for seed in range(BY_RANK["draws"]):
        settings = Settings(method, (1.0,), 0.6, rescale="l1", seed=seed, epsilon=0.3)  # type: ignore[arg-type]
        parts = [merge_tensor(name, base[name], [one[name]], ["0"], settings) - base[name] for name in names]
        drawn.append(torch.cat([part.flatten() for part in parts]).double())
    deltas, theirs = torch.stack(drawn), BY_RANK[method]
    large = torch.cat([(one[name] - base[name]).flatten() for name in names]).abs()
    kept = (deltas != 0).double()
    assert float(kept.mean()) == pytest.approx(theirs["kept"], abs=0.01)
    assert float(kept[:, large > large.median()].mean()) == pytest.approx(theirs["kept_large"], abs=0.01)
    assert theirs["kept_large"] > theirs["kept"] + 0.1, "size matters"
    assert float(deltas.var(dim=0, unbiased=False).mean()) == pytest.approx(theirs["variance"], rel=0.03)
    assert float(deltas.abs().sum(dim=1).mean()) == pytest.approx(theirs["l1"], rel=0.005)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_below_density_1_the_statistics_agree(folders: Path, family: str, method: str) -> None:
    """Over as many masks as mergekit drew: mean and variance of what is added, share kept, L1 norm."""
    base, one = (load_file(folders / family / model / "model.safetensors") for model in ("base", "one"))
    names = sorted(base)
    drawn = []
    for seed in range(FACTS["draws"]):
        settings = Settings(method, (1.0,), 0.6, rescale="l1", seed=seed)  # type: ignore[arg-type]
        parts = [merge_tensor(name, base[name], [one[name]], ["0"], settings) - base[name] for name in names]
        drawn.append(torch.cat([part.flatten() for part in parts]).double())
    deltas, theirs = torch.stack(drawn), FACTS[family][method]
    truth = torch.cat([(one[name] - base[name]).flatten() for name in names]).double()
    noise = float(deltas.var(dim=0).mean().sqrt() / (len(drawn) * len(truth)) ** 0.5)
    assert abs(float(deltas.mean()) - theirs["mean"]) < 4 * 2**0.5 * noise
    assert float(deltas.var(dim=0, unbiased=False).mean()) == pytest.approx(theirs["variance"], rel=0.03)
    assert float((deltas != 0).double().mean()) == pytest.approx(theirs["kept"], abs=0.01)
    assert float(deltas.abs().sum(dim=1).mean()) == pytest.approx(theirs["l1"], rel=0.005)
    assert float(truth.abs().sum()) == pytest.approx(theirs["l1"], rel=0.02)  # small tensors may lose every entry
