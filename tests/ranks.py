"""A launcher for the tests: `python ranks.py N COMMAND...` starts N processes that know their number, as srun does.

Where one fails it kills the others, as `srun --kill-on-bad-exit` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time


def main(number: int, command: list[str]) -> int:
    known = {"WORLD_SIZE": str(number)}
    running = [subprocess.Popen(command, env={**os.environ, **known, "RANK": str(rank)}) for rank in range(number)]
    while any(process.poll() is None for process in running) and not any(process.poll() for process in running):
        time.sleep(0.02)
    for process in running:
        if process.poll() is None:
            process.kill()
    return max((process.wait() for process in running), key=abs)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
