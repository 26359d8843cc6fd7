"""A merge of bf16 has the same bits on every processor, whatever the method, in NumPy and compiled; and in threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROCESSORS = {"x86_64": ["x86-64-v2", "x86-64-v3"], "aarch64": ["generic"]}
KERNELS = """
import hashlib, numpy as np
from micota.merging import kernels
from micota.merging.vectors import Addition, Kept, sizes
kernels.prepare(kernels.ENOUGH)
size = 100_001
base, model = np.random.default_rng(0).integers(0, 2**15, (2, size)).astype(np.uint16)
bits, count = kernels.draw([1, 2, 3, 4], 45_875, size)
values = (np.array([block & 0x7F7F for block in (base, model, base[::-1])], np.uint32) << 16).view(np.float32)
kept = [Kept(bits), Kept(None, 0x3F000000, 0x3F000000)]
digest = hashlib.sha256(repr((count, bits.tobytes(), sizes(values, kept))).encode())
mixed = np.empty(size, np.float32)
digest.update(repr(Addition([(1.4, 0.3), (0.7, 1)], (0.3, 0.7), "weighted", True).add(values, kept, mixed)).encode())
digest.update(mixed)
for factor in (0.3, 0.9):
    merged = np.empty(size, np.uint16)
    kernels.interpolate(base, model, bits, factor, merged)
    merged[np.isnan((merged.astype(np.uint32) << 16).view(np.float32))] = 0x7FC0
    digest.update(merged)
print(digest.hexdigest(), count)
"""
METHODS = """
import hashlib, sys
import numpy as np
from micota.merging import kernels
from micota.merging.safetensor_files import Entry
from micota.merging.settings import Settings
from micota.merging.tensor import TensorMerge
shape = (300, 257)
base, *models = np.random.default_rng(0).normal(0, 0.02, (3, shape[0] * shape[1])).astype(np.float32)
rows = base, base + models[0] / 9, models[1]
inputs = [(row.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8) for row in rows]
cases = [Settings("linear", (0.3, 0.5)), Settings("slerp", (0.3,)), Settings("task_arithmetic", (0.6, 0.5)),
         Settings("sce", (1.0, 1.0), 0.4), Settings("model_stock", (1.0, 1.0)), Settings("nuslerp", (0.6, 0.5)),
         Settings("nuslerp", (0.6, 0.5), whole=True), Settings("dare_ties", (0.7,), 0.6),
         *(Settings(method, (0.6, 0.5), 0.6, rescale=rescale, epsilon=epsilon)
           for method, epsilon in (("ties", 0.15), ("dare_ties", 0.15), ("della", 0.3), ("breadcrumbs", 0.15))
           for rescale in ("none", "inverse_density", "l1"))]
for compiled in (False, True):
    for case in cases:
        kernels.prepare(kernels.ENOUGH * compiled)
        count = len(case.weights)
        merge = TensorMerge(Entry("w", "BF16", shape), list("ab")[:count], case, ["bfloat16"] * (count + 1))
        blocks = [(block, start, stop, [one[2 * start : 2 * stop] for one in inputs[: count + 1]])
                  for block, start, stop in merge.blocks()]
        for one in merge.passes:
            one.conclude([merge.see(one, block, stop - start, ins) for block, start, stop, ins in blocks])
        out = np.empty(2 * shape[0] * shape[1], np.uint8)
        for block, start, stop, ins in blocks:
            merge.block(block, ins, out[2 * start : 2 * stop])
        print(case.method, case.rescale, case.whole, hashlib.sha256(out).hexdigest()[:16])
"""
PLAIN = """
from numpy._core._multiarray_umath import __cpu_dispatch__ as known, __cpu_features__ as there
print(" ".join(name for name in known if there.get(name)))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the list of processors is one of x86")
def test_every_method_gives_the_same_bits_on_every_processor(tmp_path: Path) -> None:
    """The machine's own, and one that has no vectors beyond SSE2, in NumPy, numba and torch."""
    features = run(PLAIN, {}).strip()
    plain = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "ATEN_CPU_CAPABILITY": "default"}
    plain |= {"NPY_DISABLE_CPU_FEATURES": features} if features else {}
    said = [run(KERNELS + METHODS, env) for env in ({}, plain | {"NUMBA_CACHE_DIR": str(tmp_path)})]
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 41


@pytest.mark.slow  # every kernel is compiled for each
@pytest.mark.skipif(platform.machine() not in PROCESSORS, reason=f"no list of processors for {platform.machine()}")
def test_the_kernels_give_the_same_bits_with_fused_multiplication_and_wide_vectors(tmp_path: Path) -> None:
    """The processors between those two, each with kernels of its own."""
    targets = [{"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""} for cpu in PROCESSORS[platform.machine()]]
    said = {run(KERNELS, env | {"NUMBA_CACHE_DIR": str(tmp_path / str(i))}) for i, env in enumerate([{}, *targets])}
    assert len(said) == 1


def test_many_threads_may_be_the_first() -> None:
    code = """
import threading
from micota.merging import kernels
from micota.merging.masks import mask_bits
kernels.prepare(kernels.ENOUGH)
gate, counts = threading.Barrier(8), []
def one():
    gate.wait()
    counts.append(mask_bits(0, "m", "w", 0, 2**20, 0.7)[1])
threads = [threading.Thread(target=one) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(len(counts), len(set(counts)))
"""
    assert run(code, {}).strip() == "8 1"


def run(code: str, env: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == 0, done.stderr
    return done.stdout
