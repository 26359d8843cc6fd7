"""The benchmarks that recipes know by name: where each lies, its columns, its prompt and where generation stops.

The first five are the paper's, asked as its harness asks; the others are asked in the same way, multiple choice by
`CHOICE_PROMPT`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BOXED_PROMPT = (
    "Solve the following math problem. Present the final answer in the format: "
    "Final Answer: \\boxed{your_answer}.\nProblem: {problem}\nAnswer:"
)
CHOICE_PROMPT = (
    "Choose the right option. Reason step by step, and put the letter of your choice within \\boxed{}.\n\n{problem}"
)
GSM8K_STOPS = ("Q:", "</s>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>")
GPQA_OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: the Hub's data set, its columns, and how it is asked.

    Of multiple choice, `choices` is the column with the options, or the columns with one each; `shuffle` is the seed of
    their order.
    """

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
    choices: str | tuple[str, ...] | None = None
    shuffle: int | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The fields of a problem set that say what its columns are."""
        own = {"problem": self.problem, "answer": self.answer, "choices": self.choices, "shuffle": self.shuffle}
        return {name: value for name, value in own.items() if value is not None}


PAPER = ("aime24", "amc23", "olympiadbench", "math500", "gsm8k")
"""The five benchmarks of the paper."""
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
        Benchmark("aime25", "MathArena/aime_2025", 30, split="train"),
        Benchmark("aime26", "MathArena/aime_2026", 30, split="train"),
        Benchmark("hmmt25", "MathArena/hmmt_feb_2025", 30, split="train"),
        Benchmark("minerva", "math-ai/minervamath", 272, problem="question"),
        Benchmark(
            "gpqa_diamond", "Idavidrein/gpqa", 198, "gpqa_diamond", "train", "Question", "Correct Answer",
            CHOICE_PROMPT, (), choices=GPQA_OPTIONS, shuffle=0,
        ),
        Benchmark(
            "mmlu_pro", "TIGER-Lab/MMLU-Pro", 12_032, problem="question", prompt=CHOICE_PROMPT, stop=(),
            choices="options",
        ),
    )
}  # fmt: skip
