"""The accelerators that a machine profile can name as its `hardware`: figures of their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass

from micota.errors import MicotaError, suggestion


@dataclass(frozen=True)
class Accelerator:
    """One device: memory in bytes, dense bf16 operations a second, bytes of its memory a second.

    Of `cpu` the rates are those of one core; its memory is the machine's own.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float

    @property
    def is_cpu(self) -> bool:
        """Whether stages run on cores, of which a stage has as many as the profile's threads."""
        return self.name == "cpu"


_SHEETS = {  # GiB, TFLOP/s in bf16 with sums in fp32 (game cards reach half of their fp16 figures), GB/s
    "B200": (180, 2250, 8000),
    "H200": (141, 989, 4800),
    "H100": (80, 989, 3350),
    "H100-PCIe": (80, 756, 2000),
    "A100-80GB": (80, 312, 2039),
    "A100-40GB": (40, 312, 1555),
    "MI300X": (192, 1307, 5300),
    "L40S": (48, 362, 864),
    "A40": (48, 150, 696),
    "A6000": (48, 155, 768),
    "A10G": (24, 70, 600),
    "L4": (24, 121, 300),
    "RTX-5090": (32, 210, 1792),
    "RTX-4090": (24, 165, 1008),
    "RTX-3090": (24, 71, 936),
    "cpu": (0, 0.08, 10),
}
ACCELERATORS = {name: Accelerator(name, g * 2**30, t * 1e12, b * 1e9) for name, (g, t, b) in _SHEETS.items()}
"""By name."""


def find(name: str | None) -> Accelerator:
    """The accelerator of a profile's `hardware`; without a name a CPU's core. MicotaError for an unknown name."""
    names = {known.casefold(): known for known in ACCELERATORS}
    key = (name or "cpu").casefold()
    if key not in names:
        where = "hardware, in the machine profile"
        raise MicotaError(f"there is no accelerator '{name}'", where=where, fix=suggestion(str(name), ACCELERATORS))
    return ACCELERATORS[names[key]]
