"""A launcher of two processes on the CPU in place of torchrun: the libraries, most of what a start costs, are imported
once, before the fork. With accelerate's variables for FSDP they shard over gloo.

python tests/two_on_cpu.py micota stage WORK/
"""

import os
import signal
import socket
import sys

from accelerate import state
from fsdp_on_cpu import sharded
from trl import DistillationTrainer, SFTTrainer  # noqa: F401  (loaded where they are named)

from micota.cli.main import main


def rank(number: int, port: int) -> int:
    """Fork a process that runs the command as one of two; its id."""
    if child := os.fork():
        return child
    names = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}
    sys.argv = sys.argv[1:]
    main()
    os._exit(0)


if __name__ == "__main__":
    if "ACCELERATE_USE_FSDP" in os.environ:
        state.AcceleratorState.__init__ = sharded
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ranks = {rank(number, port) for number in range(2)}
    while ranks:
        child, status = os.wait()
        ranks.discard(child)
        if status and ranks:  # as torchrun: one that fails ends the other
            os.kill(ranks.pop(), signal.SIGTERM)
            os.wait()
        if status:
            sys.exit(1)
