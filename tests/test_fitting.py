"""What does not fit into a device, the smallest change that would, and the devices."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from test_costs import H100S, TABLES, command, estimates, tables

from micota import machine as machines
from micota.architectures import KNOWN
from micota.cli import cost_table
from micota.costs import accelerator_memory as memory
from micota.costs import fitting
from micota.costs.accelerator_memory import Training
from micota.costs.accelerators import ACCELERATORS, find
from micota.costs.estimates import Costs
from micota.errors import MicotaError
from micota.machine import MachineProfile, TrainConfig
from micota.recipe import recipe as recipes
from micota.store.artifacts import Store


def test_what_does_not_fit_ends_with_the_smallest_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables(tmp_path)
    (tmp_path / "bare.yaml").write_text("jobs: 1\nhardware: H100\ngenerate: {engine: vllm, device: cuda}\n"
                                        "train: {device: cuda}\n")  # fmt: skip
    words = ("plan", tmp_path / "tables.yaml", "--cost", "--machine", tmp_path / "bare.yaml", "--store", tmp_path / "s")
    code, out, error = command(capsys, monkeypatch, *words)
    assert code == 2
    assert "GPU-hours" in out  # the table comes first
    assert "train ta-long needs 871.1 GiB, each H100 has 80" in error
    assert "train: {micro_batch: 1, sharding: fsdp, devices: 4} in the machine profile" in error
    assert "bpc: {batch: 4} in the machine profile (then long-cot under Qwen/Qwen2.5-32B-Instruct" in error
    assert "machine profile 'bare': train, bpc" in error


def _fix(place: TrainConfig, hardware: str, *sets: str, folder: Path, name: str = "strong") -> str | None:
    (folder / "tables.yaml").write_text(TABLES)
    recipe = recipes.load(str(folder / "tables.yaml"), sets)
    label = next(label for label in recipe.names if label.startswith(name))
    profile = MachineProfile(hardware=hardware, train=place)
    one = Costs(Store(folder), profile, [recipe.named(label)]).of(recipe.named(label))
    return one.misfit.fix if one.misfit else None


def test_each_change_is_tried_from_the_smallest_on(tmp_path: Path) -> None:
    small = "for={student: [Qwen/Qwen2.5-1.5B-Instruct]}"
    gpu = TrainConfig(device="cuda", micro_batch=1)
    bare = gpu.model_copy(update={"activation_checkpointing": False})
    assert _fix(gpu, "H100", small, folder=tmp_path) is None
    assert _fix(bare, "A100-80GB", small, folder=tmp_path) is None
    assert _fix(bare, "L40S", small, folder=tmp_path) == (
        "train: {activation_checkpointing: true} in the machine profile"
    )
    assert _fix(gpu.model_copy(update={"micro_batch": 8}), "L40S", small, folder=tmp_path) == (
        "train: {micro_batch: 2} in the machine profile"
    )
    assert _fix(gpu, "RTX-4090", small, folder=tmp_path) == "train: {sharding: fsdp, devices: 2} in the machine profile"
    eight = gpu.model_copy(update={"devices": 8})
    assert _fix(eight, "RTX-4090", small, folder=tmp_path) == "train: {sharding: fsdp} in the machine profile"


def test_where_no_change_helps_hardware_is_named_that_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MORE", ())  # a model may not be shared out over more devices
    recipe = tables(tmp_path)
    small = H100S.model_copy(update={"hardware": "L4"})
    with pytest.raises(MicotaError) as refused:
        cost_table.show(Console(file=io.StringIO()), recipe, Store(tmp_path), small, recipe.targets)
    assert re.search(r"`hardware: \S+` and search: .* in the machine profile: ta-mid needs", str(refused.value.fix))


@pytest.mark.parametrize("name", ["table1", "tables2-4", "tables2-4-two-vectors", "qwq", "lora-24gb"])
def test_the_papers_recipes_fit_the_shipped_profile_of_eight(name: str, tmp_path: Path) -> None:
    recipe = recipes.load(f"paper/{name}")
    assert [
        one.spec.kind for one in estimates(recipe, Store(tmp_path), machines.load("fsdp2")).values() if one.misfit
    ] == []


def test_adapters_need_less_and_four_bits_less_still() -> None:
    shape = KNOWN["Qwen/Qwen2.5-14B-Instruct"]
    full, lora, nf4 = (
        memory.peak(Training(shape, 4096, 4096, rank=rank, quantized=quantized)) / 2**30
        for rank, quantized in ((None, False), (16, False), (16, True))
    )
    assert full > 4 * lora
    assert 27.5 < lora < 40
    assert 8 < nf4 < lora - 15


def test_sharing_out_divides_what_is_held() -> None:
    shape = KNOWN["Qwen/Qwen2.5-14B-Instruct"]
    one, eight, apart = (
        memory.parts(Training(shape, 4096, 4096, devices=devices, sharded=sharded))
        for devices, sharded in ((1, False), (8, True), (8, False))
    )
    assert eight["optimizer"] == one["optimizer"] / 8
    assert sum(apart.values()) > sum(one.values())


def test_every_shipped_profile_names_hardware_that_is_known() -> None:
    assert {find(machines.load(path.stem).hardware).name for path in machines.PROFILES.glob("*.yaml")} == {
        "cpu",
        "H100",
        "RTX-4090",
    }


def test_hardware_is_found_by_name_and_an_unknown_one_is_suggested() -> None:
    assert find("h100") is ACCELERATORS["H100"]
    assert find(None).is_cpu
    with pytest.raises(MicotaError, match="there is no accelerator 'H1000'") as wrong:
        find("H1000")
    assert "H100" in str(wrong.value)


def test_the_table_of_accelerators_is_that_of_the_document() -> None:
    text = (Path(__file__).parents[1] / "docs" / "costs.md").read_text()
    rows = re.findall(r"^\| `([\w.-]+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.M)
    told = {name: [float(one.replace(",", "")) for one in rest] for name, *rest in rows}
    ours = {one.name: [one.memory / 2**30, one.flops / 1e12, one.bandwidth / 1e9] for one in ACCELERATORS.values()}
    del ours["cpu"]
    assert told == ours


def test_bits_per_character_take_fewer_rows_or_more_devices() -> None:
    shape = KNOWN["Qwen/Qwen2.5-32B-Instruct"]

    def fix(batch: int, gib: int) -> str | None:
        needs, room = memory.measuring(shape, 2, batch, 16_160, 1), (gib - 1) * 2**30
        changes = fitting.measuring_changes(shape, 2, batch, 16_160, 1, on_cpu=False)
        misfit = fitting.misfit(needs, room, gib * 2**30, changes)
        return misfit.fix if misfit else None

    assert fix(4, 80) is None
    assert fix(32, 80) == "bpc: {batch: 8} in the machine profile"
    assert fix(4, 40) == "bpc: {batch: 1, devices: 2} in the machine profile"
