"""How long ten thousand specs take to be read from a recipe and planned: CPU seconds, and microseconds for each spec.

python benchmarks/planning.py [--seeds 900] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from micota.recipe.recipe import load
from micota.run.plan import survey
from micota.store.artifacts import Store

RECIPE = """
for: {{student: ["lab:student", "lab:ta"], seed: [{seeds}]}}
let:
  train-set: {{problems: {{source: "lab:arithmetic", split: train, n: 8}}}}
  test-set: {{problems: {{source: "lab:arithmetic", split: test, n: 4}}}}
  long-cot: {{distill: {{from: "lab:teacher", data: train-set}}}}
  ta-long: {{train: {{base: "lab:ta", data: long-cot}}}}
  ta-mid: {{merge: {{base: "lab:ta", models: [ta-long], method: task_arithmetic, weight: 0.5}}}}
  mid-cot: {{distill: {{from: ta-mid, data: train-set}}}}
arms:
  strong: {{train: {{base: $student, seed: $seed, data: long-cot}}}}
  micota: {{train: {{base: $student, seed: $seed, data: mid-cot}}}}
evaluate: {{models: [arms], data: [test-set], by: exact_match}}
"""


def main() -> None:
    """Print the smallest CPU time of several rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.yaml"
        path.write_text(RECIPE.format(seeds=", ".join(map(str, range(asked.seeds)))))
        seconds = []
        for _ in range(asked.rounds):
            started = time.process_time()
            states = survey(Store(Path(folder) / "store"), load(str(path)).targets)
            seconds.append(time.process_time() - started)
    print(f"{len(states)} specs: {min(seconds):.2f} s of CPU, {1e6 * min(seconds) / len(states):.0f} us each")


if __name__ == "__main__":
    main()
