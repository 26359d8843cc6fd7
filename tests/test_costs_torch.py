"""Operations against torch's counter on the lab's models, and memory against torch's memory tracker at real shapes.

The tracker runs under fake tensors, which have shapes and no bytes, with TRL's own loss; here they live on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.initialization import no_init_weights
from trl.trainer.utils import add_fused_lm_head

from micota.architectures import KNOWN, Architecture, of_config
from micota.costs import accelerator_memory as memory
from micota.costs import flops
from micota.costs.accelerator_memory import Training
from micota.store.resolution import LAB_MODELS

ROWS, LENGTH = 2, 300
CLOSE = 0.15


def counted(run: Callable[[], Any]) -> int:
    """What torch's counter counts; its formulas know attention only as the products that it is made of."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def lab(name: str) -> tuple[Any, Architecture, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(LAB_MODELS / name, dtype=torch.float32).train()
    shape = of_config(model.config.to_dict())
    assert shape is not None
    return model, shape, torch.zeros(ROWS, LENGTH, dtype=torch.long)


@pytest.mark.parametrize("name", ["student", "ta", "teacher"])
def test_a_forward_pass_takes_what_torch_counts(name: str) -> None:
    model, shape, ids = lab(name)
    assert flops.forward(shape, ROWS * LENGTH, LENGTH) == pytest.approx(
        counted(lambda: model(input_ids=ids)), rel=CLOSE
    )


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["student", "teacher"])
def test_a_training_step_takes_what_torch_counts(name: str, fused: bool, checkpointing: bool) -> None:
    model, shape, ids = lab(name)
    if checkpointing:
        model.activation_checkpointing_enable()
    if fused:
        add_fused_lm_head(model)
    more = {"fused_lm_head": True} if fused else {}
    real = counted(lambda: model(input_ids=ids, labels=ids, use_cache=False, **more).loss.backward())
    ours = flops.training(shape, ROWS * LENGTH, LENGTH, checkpointing=checkpointing, fused=fused)
    assert ours == pytest.approx(real, rel=CLOSE)


class Tracker(MemTracker):
    """Torch's tracker without the peaks of single modules, whose upkeep takes time quadratic in the layers."""

    def _update_peak_stats(self, peak_state: Any) -> None:
        for device, snapshot in self._curr_mem_snap.items():
            if self._peak_mem.get(device, 0) < snapshot["Total"]:
                self._peak_mem[device] = snapshot["Total"]


def fake_model(shape: Architecture, run: Training) -> Any:
    config = Qwen2Config(
        **shape.config,
        use_cache=False,
    )
    with no_init_weights():
        model = Qwen2ForCausalLM(config).train()
    model.tie_weights()
    if run.checkpointing:
        model.activation_checkpointing_enable()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    return model


def tracked(run: Training) -> tuple[float, float]:
    """The tracker's peaks in bytes: up to the end of the backward pass, and with the optimizer's step."""
    with FakeTensorMode():
        model = fake_model(run.shape, run)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=True)  # as on an accelerator
        for one in model.parameters():  # as after a first step
            moments = {name: torch.zeros_like(one) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[one] = {"step": torch.tensor(1.0), **moments}
            one.grad = torch.zeros_like(one) if run.accumulates else None
        ids = torch.zeros(run.tokens // run.row, run.row, dtype=torch.long)
        tracker = Tracker()
        tracker.track_external(model, optimizer)
        # Under fake tensors transformers makes a mask where it makes none otherwise: say that there is none.
        mask = torch.ones_like(ids) if run.padded else {"full_attention": None}
        asked = {"input_ids": ids, "labels": ids, "attention_mask": mask}
        with tracker:
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**asked, fused_lm_head=True).loss
            loss.backward()
            before = tracker._peak_mem[torch.device("cpu")]
            optimizer.step()
        return before, tracker._peak_mem[torch.device("cpu")]


SMALL, LARGE = KNOWN["Qwen/Qwen2.5-1.5B-Instruct"], KNOWN["Qwen/Qwen2.5-14B-Instruct"]
LAYERS = 4  # of a model of the same widths, whose figures come in a fraction of the time
WHOLE = pytest.param(None, marks=pytest.mark.slow, id="all layers")
RUNS = {
    "1.5B": Training(SMALL, 16_384, 16_384),
    "1.5B, one pass a step": Training(SMALL, 16_384, 16_384, batch=1),
    "1.5B, all activations": Training(SMALL, 16_384, 16_384, checkpointing=False),
    "1.5B, two rows": Training(SMALL, 8192, 4096),
    "1.5B, two padded rows, all activations": Training(SMALL, 8192, 4096, checkpointing=False, padded=True),
    "14B, one pass a step": Training(LARGE, 16_384, 16_384, batch=1),
    "14B": Training(LARGE, 16_384, 16_384),
}


def layered(shape: Architecture, layers: int | None) -> Architecture:
    return replace(shape, layers=layers or shape.layers)


@pytest.mark.parametrize("layers", [LAYERS, WHOLE])
@pytest.mark.parametrize("name", RUNS)
def test_peak_memory_is_that_of_torchs_tracker(name: str, layers: int | None) -> None:
    run = replace(RUNS[name], shape=layered(RUNS[name].shape, layers))
    passes, all_ = tracked(run)
    held = 12 * run.shape.parameters  # weights and moments
    ours = held + memory.passes(replace(run, on_cpu=True))
    print(f"{name}: passes {_gib(passes, ours)}, less weights and moments {_gib(passes - held, ours - held)}; "
          f"with the step {_gib(all_, max(ours, memory.peak(run)))}")  # fmt: skip
    assert ours == pytest.approx(passes, rel=CLOSE)
    assert ours - held == pytest.approx(passes - held, rel=CLOSE)
    assert max(ours, memory.peak(run)) == pytest.approx(all_, rel=CLOSE)


@pytest.fixture
def eight_ranks() -> Iterator[DeviceMesh]:
    """A group of eight processes of which there is one: its messages go nowhere."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield init_device_mesh("cpu", (8,))
    dist.destroy_process_group()


class ShardTracker(FSDPMemTracker, Tracker):
    """The same for a sharded model."""

    _update_peak_stats = Tracker._update_peak_stats


@pytest.mark.parametrize("layers", [LAYERS, WHOLE])
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["1.5B", "14B"])
def test_peak_memory_of_a_shard_is_that_of_torchs_tracker(
    shape: Architecture, layers: int | None, eight_ranks: DeviceMesh
) -> None:
    """One pass before the first step: under fake tensors the moments of a shard have the size of the whole."""
    shape = layered(shape, layers)
    run = Training(shape, 16_384, 16_384, batch=8, devices=8, sharded=True, on_cpu=True)
    half = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.bfloat16, "output_dtype": torch.bfloat16}
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = fake_model(shape, run)
        for part in (*model.model.layers, model):
            fully_shard(part, mesh=eight_ranks, mp_policy=MixedPrecisionPolicy(**half))
        ids = torch.zeros(1, run.row, dtype=torch.long)
        tracker = ShardTracker(model)
        tracker.track_inputs((ids,))
        asked = {"input_ids": ids, "labels": ids, "attention_mask": {"full_attention": None}}
        with tracker:
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**asked, fused_lm_head=True).loss
            loss.backward()
        real = tracker._peak_mem[torch.device("cpu")]
    ours = memory.parts(run)["weights"] + memory.passes(run)
    print(f"a shard of {shape.parameters / 1e9:.1f}B: {_gib(real, ours)}")
    assert ours == pytest.approx(real, rel=CLOSE)


def _gib(theirs: float, ours: float) -> str:
    return f"{theirs / 2**30:.2f} GiB ({100 * (ours / theirs - 1):+.1f} %)"
