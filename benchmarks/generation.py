"""What generation costs beside the engine itself.

    python benchmarks/generation.py vllm [--pairs 7] [--prompts 256] [--model FOLDER]     # where vLLM is installed
    python benchmarks/generation.py pool [--rows 100000] [--folder DIR]

`vllm`: micota's engine with every answer written to a pool, against a bare `LLM.generate` on the same prompts with the
same settings. Both models are loaded at the same time and take turns, so that a busy machine slows both alike; the
ratio of their tokens per second has the lower end of a 90 % interval over the pairs (t, on logarithms).

`pool`: completions of 2,000 tokens, each written and synced on its own, beside the time that an engine of 2,000 tokens
per second would take for them; then the time to open the pool with its index of keys.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from micota.generation.engine import Engine, open_engine
from micota.machine import EngineConfig
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.stats import t_quantile
from micota.store.pool import Pool, Writer
from micota.store.records import Completion, Request, text_key
from micota.store.resolution import LAB_MODELS
from micota.worlds.workings import problems

BATCH, LIMIT = 128, 300
TOKENS, RATE = 2_000, 2_000  # of a completion; of an engine, a second

Pass = Callable[[], int]  # what it does once; returns the tokens that it wrote


def ours(model: Path, requests: list[Request], folder: Path) -> tuple[Engine, Pass]:
    source = Source(ref="./model", revision="0", path=str(model))
    spec = Generate(
        model=source,
        problems=Problems(source=source),
        prompt=Prompt(template="{problem}"),
        sampling=Sampling(max_tokens=LIMIT),
        precision="float32",
    )
    engine = open_engine(spec, model, EngineConfig(engine="vllm", batch=BATCH), threads=1)

    def run() -> int:
        with Writer(folder, {}) as writer:
            tokens = 0
            for answers in engine.answer(requests):
                writer.write(answers)
                tokens += sum(answer.completion_tokens for answer in answers)
        return tokens

    return engine, run


def bare(model: Path, requests: list[Request]) -> tuple[Any, Pass]:
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    settings: dict[str, Any] = {"enforce_eager": True} if current_platform.is_cpu() else {}
    llm = LLM(str(model), dtype="float32", max_num_seqs=BATCH, max_model_len=400, **settings)
    params = SamplingParams(temperature=0, max_tokens=LIMIT)
    turns = [[{"role": "user", "content": request.prompt}] for request in requests]

    def run() -> int:
        found = llm.chat(turns, params, use_tqdm=False)  # type: ignore[arg-type,unused-ignore]
        return sum(len(one.outputs[0].token_ids) for one in found)

    return llm.llm_engine.engine_core, run


def rate(run: Pass) -> float:
    began = time.perf_counter()
    tokens = run()
    return tokens / (time.perf_counter() - began)


def compare(model: Path, prompts: int, pairs: int) -> None:
    requests = [Request(text_key(p["problem"]), 0, p["problem"]) for p in problems(prompts)]
    with tempfile.TemporaryDirectory() as folder:
        engine, run = ours(model, requests, Path(folder))
        core, plain = bare(model, requests)
        passes = {"micota": run, "bare": plain}
        for run in passes.values():
            run()  # the first pass warms up
        ratios = []
        for i in range(pairs):
            found = {name: rate(passes[name]) for name in sorted(passes, reverse=bool(i % 2))}
            ratios.append(found["micota"] / found["bare"])
            print(f"pair {i + 1}: micota {found['micota']:,.0f}, bare {found['bare']:,.0f} tokens/s, {ratios[-1]:.3f}")
        engine.close()
        core.shutdown()  # vLLM's processes would be waited for at the end
    logs = [math.log(ratio) for ratio in ratios]
    half = t_quantile(0.95, pairs - 1) * statistics.stdev(logs) / math.sqrt(pairs)
    centre = statistics.mean(logs)
    print(f"ratio {math.exp(centre):.3f}, lower end of the 90 % interval {math.exp(centre - half):.3f}, {pairs} pairs")


def pool(rows: int, folder: Path) -> None:
    text = "We add 4 to x, so that it is \\frac{1}{2} of what it was. " * 130  # about 7,500 characters
    spent, began = 0.0, time.perf_counter()
    with Writer(folder, {}) as writer:
        for i in range(rows):
            row = Completion(text_key(str(i)), 0, f"problem {i}", f"{i}: {text}", "stop", 99, TOKENS, "none")
            before = time.perf_counter()
            writer.write([row])
            spent += time.perf_counter() - before
    size = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
    engine = rows * TOKENS / RATE
    share = f"{100 * spent / engine:.3f} % of {engine:,.0f} s"
    print(f"written: {rows:,} rows, {size / 2**20:,.0f} MiB in {spent:.1f} s: {share}")
    print(f"the whole loop took {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    found = Pool(folder)
    print(f"opened with {len(found):,} keys in {time.perf_counter() - began:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("what", choices=["vllm", "pool"])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--model", type=Path, default=LAB_MODELS / "teacher")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.what == "vllm":
        compare(chosen.model, chosen.prompts, chosen.pairs)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        pool(chosen.rows, Path(folder))


if __name__ == "__main__":
    main()
