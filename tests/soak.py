"""Kill generation KILLS times on each engine and let it finish: `python tests/soak.py ENGINE...` prints the counts.

The engine openai is asked through the public fake server, which answers slowly and fails a tenth of the requests.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from killing import Killed, soak

from micota.generation.fake_server import FAULTS, FakeServer

KILLS = int(os.environ.get("KILLS", "8"))
PROBLEMS = 10 * KILLS


def main() -> None:
    for name in sys.argv[1:]:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, server(name) as fake:
            url = f", url: '{fake.url}', timeout_s: 2" if name == "openai" else ""
            model = "endpoint:fake" if name == "openai" else "lab:teacher"
            killed = Killed(Path(folder) / name, f"{{engine: {name}, batch: 4{url}}}", PROBLEMS, model)
            done = soak(killed, KILLS, rows=PROBLEMS // (KILLS + 2), seed=7)
            asked = f", {sum(fake.asked.values())} requests" if name == "openai" else ""
        said = ", ".join(f"{key} {value}" for key, value in done.items())
        print(f"{name}: {said}{asked}, {time.monotonic() - began:.0f} s", flush=True)


def server(name: str) -> FakeServer:
    faults = FAULTS if name == "openai" else ()
    return FakeServer(lambda turn: f"{turn} \\boxed{{1}}", faults=faults, share=0.1, slow_s=2.5, latency_s=0.05)


if __name__ == "__main__":
    main()
