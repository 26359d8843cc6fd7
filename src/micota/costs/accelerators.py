"""The accelerators that a machine profile can name as its `hardware`: figures of their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass

from micota.errors import MicotaError, suggestion

GB, GIB = 10**9, 2**30


@dataclass(frozen=True)
class Accelerator:
    """One device: memory in bytes, dense bf16 operations and bytes of its memory in a second.

    Of `cpu` the figures are those of one core; its memory is the machine's own.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


def _of(name: str, memory: float, tera: float, gb_s: float) -> Accelerator:
    return Accelerator(name, memory * GIB, tera * 1e12, gb_s * GB)


CPU = Accelerator("cpu", 0, 80e9, 10 * GB)
ACCELERATORS = {
    one.name: one
    for one in (
        _of("B200", 180, 2250, 8000),
        _of("H200", 141, 989, 4800),
        _of("H100", 80, 989, 3350),
        _of("H100-PCIe", 80, 756, 2000),
        _of("A100-80GB", 80, 312, 2039),
        _of("A100-40GB", 40, 312, 1555),
        _of("MI300X", 192, 1307, 5300),
        _of("L40S", 48, 362, 864),
        _of("A40", 48, 150, 696),
        _of("A6000", 48, 155, 768),
        _of("A10G", 24, 70, 600),
        _of("L4", 24, 121, 300),
        _of("RTX-5090", 32, 210, 1792),
        _of("RTX-4090", 24, 165, 1008),
        _of("RTX-3090", 24, 71, 936),
        CPU,
    )
}
"""Dense rates of bf16 with sums in fp32; cards for games reach half of what their sheets say of sums in fp16."""


def find(name: str | None) -> Accelerator:
    """The accelerator of a profile's `hardware`; without a name a CPU's core. MicotaError for an unknown name."""
    if name is None:
        return CPU
    folded = {known.casefold(): one for known, one in ACCELERATORS.items()}
    if name.casefold() not in folded:
        raise MicotaError(
            f"there is no accelerator '{name}'",
            where="hardware, in the machine profile",
            fix=suggestion(name, ACCELERATORS),
        )
    return folded[name.casefold()]
