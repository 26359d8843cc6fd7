"""The five benchmarks of the paper: where each lies, its columns, its prompt and where generation stops."""

from __future__ import annotations

from dataclasses import dataclass, field

BOXED_PROMPT = (
    "Solve the following math problem. Present the final answer in the format: "
    "Final Answer: \\boxed{your_answer}.\nProblem: {problem}\nAnswer:"
)
GSM8K_STOPS = ("Q:", "</s>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: the Hub's data set, its columns, and how the paper's harness asks."""

    name: str
    source: str
    n: int
    config: str | None = None
    split: str = "test"
    problem: str = "problem"
    answer: str = "answer"
    prompt: str = BOXED_PROMPT
    stop: tuple[str, ...] = field(default=("Problem:",))
    max_tokens: int = 16_000


BENCHMARKS = {
    b.name: b
    for b in (
        Benchmark("aime24", "HuggingFaceH4/aime_2024", 30, split="train"),
        Benchmark("amc23", "math-ai/amc23", 40),
        Benchmark(
            "olympiadbench", "Hothan/OlympiadBench", 675, "OE_TO_maths_en_COMP", "train", "question", "final_answer"
        ),
        Benchmark("math500", "HuggingFaceH4/MATH-500", 500),
        Benchmark("gsm8k", "openai/gsm8k", 1319, "main", problem="question", prompt="{problem}", stop=GSM8K_STOPS),
    )
}
