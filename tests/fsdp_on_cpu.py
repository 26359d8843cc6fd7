"""A launcher for `micota stage`, or of a program, that lets accelerate shard over gloo: by itself it takes FSDP for
GPUs only.

torchrun --nproc_per_node 2 tests/fsdp_on_cpu.py micota stage WORK/
python tests/fsdp_on_cpu.py PROGRAM.py [WORDS...]
"""

import runpy
import sys

from accelerate import state
from accelerate.utils import DistributedType

MADE = state.AcceleratorState.__init__


def sharded(self: state.AcceleratorState, *args: object, fsdp_plugin: object = None, **fields: object) -> None:
    MADE(self, *args, fsdp_plugin=fsdp_plugin, **fields)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        state.PartialState().distributed_type = DistributedType.FSDP


if __name__ == "__main__":
    state.AcceleratorState.__init__ = sharded
    sys.argv = sys.argv[1:]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        from micota.cli.main import main

        main()
