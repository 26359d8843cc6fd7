"""One family through micota, and through plain transformers, peft, torch and mergekit: where the two agree.

about = Agreement(folder, workspace).look()      # aspect -> Finding
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import yaml
from merges import cases
from plain import NEW_TOKENS, Plain, dare_ties, tensors, units
from rich.console import Console

import micota as mc
from micota.cli.merge_config import merge_config
from micota.errors import MicotaError
from micota.machine import MachineProfile
from micota.pretrained import load
from micota.training import packing_check

ROWS = [{"prompt": f"What is {i}+{i}{'?' * (i % 4 + 1)}", "response": f"The sum is {2 * i}."} for i in range(16)]
PROBLEMS = [{"problem": f"What is {i}+{i + 1}{'?' * (i % 4 + 1)}", "answer": str(2 * i + 1)} for i in range(6)]
STEPS, LR = 3, 0.01
TRAIN: dict[str, Any] = {
    **{"max_steps": STEPS, "lr": LR, "schedule": "constant", "weight_decay": 0.0},
    **{"batch": 16, "precision": "float32", "cutoff": 256},
}
LORA = {"rank": 4, "alpha": 8}
READ_BY_KERNELS = ["x_proj", "dt_proj", "out_proj"]
"""Of a Mamba layer: its kernels read these weights themselves, so that an adapter would take no part."""
EXPERT = re.compile(r"(.*experts)\.(\d+)\.(\w+)\.weight")
ALLOWED = 1e-4
"""Share of all entries of a merge that may be off by more than a unit: ties of signs and of thresholds."""


@dataclass(frozen=True)
class Finding:
    """One aspect of a family: `agrees`, `refused` or `DIFFERS`, with a figure or the reason."""

    word: str
    text: str
    with_whom: str = "yes"
    """What the table says where it agrees."""

    @property
    def reason(self) -> str:
        """The text without its figures."""
        return self.text.partition(": ")[0]

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong without a word."""
        return self.word != "DIFFERS"


def agreement(holds: bool, text: str, with_whom: str = "yes") -> Finding:
    """`agrees` if it holds."""
    return Finding("agrees" if holds else "DIFFERS", text, with_whom)


def near(ours: float, theirs: float, within: float) -> bool:
    """Whether two figures differ by at most a share."""
    return abs(ours - theirs) <= within * abs(theirs)


def workspace(folder: Path) -> mc.Workspace:
    """A store in a folder, with the rows and problems beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("rows", ROWS), ("problems", PROBLEMS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    machine = MachineProfile(name="agreement", train={"micro_batch": 16}, generate={"batch": 6}, bpc={"batch": 6})
    return mc.Workspace(folder / "store", machine, Console(file=io.StringIO()))


class Agreement:
    """The models in `folder/{base,one,two}`; `recorded` holds mergekit's merges of them, as merges.py writes them."""

    def __init__(self, folder: Path, ws: mc.Workspace, recorded: Path | None = None) -> None:
        self.folder, self.ws, self.recorded = folder, ws, recorded
        self.base = folder / "base"
        self.data = mc.rows(ws.store.root.parent / "rows.jsonl")

    def look(self) -> dict[str, Finding]:
        """Every aspect."""
        aspects: dict[str, Callable[[], Finding]] = {
            "measure": self.measure,
            "generate": self.generate,
            "train": self.train,
            "merge": self.merge,
            "packing": self.packing,
            "LoRA": self.lora,
            "export": self.export,
        }
        return {name: _found(aspect) for name, aspect in aspects.items()}

    @cached_property
    def plain(self) -> Plain:
        """The base under plain transformers."""
        return Plain(self.base)

    @cached_property
    def tuned(self) -> Any:
        """The base after a training of all parameters."""
        return self.ws.make(mc.train(self.base, self.data, **TRAIN))

    def measure(self) -> Finding:
        """Bits per character."""
        ours = self.ws.make(mc.measure(self.base, self.data, precision="float32")).facts["bits_per_character"]
        theirs = self.plain.bits_per_character(ROWS)
        return agreement(near(ours, theirs, 1e-5), f"{ours:.6f} bits per character, transformers {theirs:.6f}")

    def generate(self) -> Finding:
        """Greedy texts, six in a batch against one by one."""
        problems = self.ws.store.root.parent / "problems.jsonl"
        settings = {"prompt": "{problem}", "precision": "float32", "sampling": {"max_tokens": NEW_TOKENS}}
        rows = list(self.ws.make(mc.generate(self.base, mc.problems(problems), **settings)).rows())
        words = self.plain.words
        ends = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
        same = sum(row["response"] == self.plain.answer(row["prompt"], **ends) for row in rows)
        return agreement(same == len(rows) == len(PROBLEMS), f"{same} of {len(rows)} greedy texts")

    def train(self) -> Finding:
        """The losses of each step, that of the saved model, and the names of its tensors."""
        theirs = Plain(self.base).losses(ROWS, STEPS, LR)
        ours = [loss for _, loss in self.tuned.facts["loss"]]
        ours.append(Plain(self.tuned.path).losses(ROWS, 0, LR)[0])
        names = tensors(self.base).keys() == tensors(self.tuned.path).keys()
        return agreement(names and _same(ours, theirs), _losses(ours, theirs) + ("" if names else "; other tensors"))

    def lora(self) -> Finding:
        """The same with adapters on every linear layer, merged at the end."""
        adapters = {"r": LORA["rank"], "lora_alpha": LORA["alpha"], "target_modules": "all-linear"}
        idle = READ_BY_KERNELS if hasattr(self.plain.model.config, "state_size") else None
        config = peft.LoraConfig(**adapters, exclude_modules=idle, task_type="CAUSAL_LM")
        theirs = Plain(self.base).losses(ROWS, STEPS, LR, config)
        made = self.ws.make(mc.train(self.base, self.data, lora=LORA, **TRAIN))
        ours = [loss for _, loss in made.facts["loss"]] + Plain(made.path).losses(ROWS, 0, LR)
        return agreement(_same(ours, theirs), _losses(ours, theirs))

    def merge(self) -> Finding:
        """The recipe's DARE-TIES entry by entry; at density 1 against torch; and every case that mergekit merged."""
        base, one, two = (tensors(self.folder / who) for who in ("base", "one", "two"))
        kept = self._masked(base, one)
        configs = cases(self.folder)
        merged = {name: self._merged(name, config) for name, config in configs.items()}
        theirs = {"torch": ("dare_ties", dare_ties(base, [one, two], [0.6, 0.5]))}
        if self.recorded:
            files = sorted((self.recorded / self.folder.name).glob("*.safetensors"))
            theirs |= {f"mergekit's {file.stem}": (file.stem, tensors_of(file)) for file in files}
        part = any(other.keys() < base.keys() for _, other in theirs.values())  # without the experts of DeepSeek-V3
        ours = {
            who: {key: merged[name][key] for key in merged[name] if not part or key in other}
            for who, (name, other) in theirs.items()
        }
        off = {who: _off(ours[who], other) for who, (_, other) in theirs.items()}
        if off.get("mergekit's dare_ties") == 1:  # other names: one tensor of experts, whose angle and threshold differ
            pairs = {who: pair for who, pair in theirs.items() if "mergekit's dare_ties" in who}
            off = {"torch": off["torch"]} | {who: _off(fused(merged[n]), other) for who, (n, other) in pairs.items()}
        shares = ", ".join(f"{who} {share:.1e} off" for who, share in off.items())
        text = f"{100 * kept:.1f} % kept at density .7; {shares}" + "; mergekit leaves tensors out" * part
        whom = "mergekit in part" if part else "mergekit" if len(off) > 1 else "torch"
        return agreement(abs(kept - 0.7) < 0.03 and all(share <= ALLOWED for share in off.values()), text, whom)

    def _masked(self, base: dict[str, Any], one: dict[str, Any]) -> float:
        """The share of entries that a merge of the recipe keeps; 0 if one is not rescaled by a tensor's share."""
        spec = mc.merge(self.base, [self.folder / "one"], method="dare_ties", weight=0.55, density=0.7)
        merged, kept, total = tensors(self.ws.make(spec).path), 0, 0
        for name, start in base.items():
            vector, moved = one[name] - start, merged[name] - start
            still = int(((moved == 0) & (vector.abs() <= 2**-22 * start.abs())).sum())  # kept or not, they do not move
            counts = range(int((moved != 0).sum()), int((moved != 0).sum()) + still + 1)
            wanted = (0.55 * vector.numel() / max(count, 1) * vector * (moved != 0) for count in counts)
            if not any(bool((moved - w).abs().le(1e-5 * w.abs() + 2**-22 * start.abs()).all()) for w in wanted):
                return 0.0
            kept, total = kept + counts[0], total + start.numel()
        return kept / total

    def _merged(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        place = self.ws.store.root.parent / f"merge-{name}"
        place.with_suffix(".yml").write_text(yaml.safe_dump(config))
        merge_config(place.with_suffix(".yml"), place)
        return tensors(place)

    def packing(self) -> Finding:
        """Whether it is refused exactly where texts of one row see each other under plain transformers."""
        leak = self.plain.leak()
        try:
            made = self.ws.make(mc.train(self.base, self.data, **TRAIN | {"packing": True, "max_steps": 1}))
            packing_check.check(load(self.base, dtype=torch.bfloat16), "bfloat16", None)
        except Exception as error:
            if not re.search("see each other|cannot be kept apart", str(error)):
                raise
            reason = f"texts of one row see each other: one moves another's logits by {100 * leak:.1f} %"
            return Finding("refused" if leak > 1e-4 else "DIFFERS", reason)
        theirs, ours = Plain(self.base).losses(ROWS, 0, LR)[0], made.facts["loss"][0][1]
        return agreement(leak < 1e-4 and near(ours, theirs, 1e-3), f"loss {ours:.5f}, one by one {theirs:.5f}")

    def export(self) -> Finding:
        """The exported folder: the trained one's bits, whole for transformers, the same texts by its own settings."""
        out = self.ws.store.root.parent / "export"
        self.tuned.export(out)
        ours, theirs = tensors(out), tensors(self.tuned.path)
        equal = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        served, made = Plain(out), Plain(self.tuned.path)
        ends = {"eos_token_id": made.words.eos_token_id, "pad_token_id": made.words.pad_token_id}
        same = sum(served.answer(row["prompt"]) == made.answer(row["prompt"], **ends) for row in ROWS[:4])
        return agreement(equal and served.is_whole and same == 4, f"{len(ours)} tensors, {same} of 4 greedy texts")


def tensors_of(file: Path) -> dict[str, Any]:
    """The tensors of one file."""
    from safetensors.torch import load_file

    return load_file(file)


def fused(separate: dict[str, Any]) -> dict[str, Any]:
    """Experts as mergekit writes them, one tensor for all; transformers saves one for each."""
    found: dict[str, Any] = {}
    experts: dict[str, dict[int, dict[str, Any]]] = {}
    for name, value in separate.items():
        match = EXPERT.fullmatch(name)
        if match:
            place = experts.setdefault(match[1].replace("block_sparse_moe", "mlp"), {})
            place.setdefault(int(match[2]), {})[match[3]] = value
        else:
            found[name.replace("block_sparse_moe", "mlp")] = value
    for place, each in experts.items():
        rows = [each[i] for i in sorted(each)]
        gate, up, down = ("gate_proj", "up_proj", "down_proj") if "up_proj" in rows[0] else ("w1", "w3", "w2")
        found[f"{place}.gate_up_proj"] = torch.stack([torch.cat([row[gate], row[up]]) for row in rows])
        found[f"{place}.down_proj"] = torch.stack([row[down] for row in rows])
    return found


def _found(aspect: Callable[[], Finding]) -> Finding:
    try:
        return aspect()
    except Exception as error:  # whatever stops a family is a line of the table
        what = " ".join(str(error).split())[:500]
        if isinstance(error, MicotaError):
            return Finding("refused", what)
        return Finding("DIFFERS", f"{type(error).__name__}: {what}")


def _same(ours: list[float], theirs: list[float]) -> bool:
    return len(ours) == len(theirs) and all(near(a, b, 1e-3) for a, b in zip(ours, theirs, strict=True))


def _losses(ours: list[float], theirs: list[float]) -> str:
    return "losses " + ", ".join(f"{a:.4f} ({b:.4f})" for a, b in zip(ours, theirs, strict=True))


def _off(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The share of entries more than one unit apart; 1 if the names, shapes or dtypes differ."""
    if ours.keys() != theirs.keys() or any(ours[name].shape != theirs[name].shape for name in ours):
        return 1.0
    counts = [int((units(ours[name], theirs[name]) > 1).sum()) for name in ours]
    return float(np.sum(counts) / sum(tensor.numel() for tensor in ours.values()))
