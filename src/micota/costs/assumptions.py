"""What is assumed of lengths and shares where nothing was measured. A plan prints by name each one that it used."""

from __future__ import annotations

import re

from micota.benchmarks import BENCHMARKS
from micota.costs.spans import Span, known
from micota.store.resolution import LAB_WORLDS

REASONER = re.compile(r"qwq|think|reason|(^|[/-])r1([-/]|$)", re.IGNORECASE)
"""What the names of reasoning models have in common."""
PROMPTS = {"lab": Span(10, 40), "problems": Span(80, 160)}
RESPONSES = {"lab": Span(40, 250), "reasoner": Span(3000, 8000), "instruct": Span(300, 700)}
CORRECT = {"lab": Span(0.5, 1), "reasoner": Span(0.75, 0.95), "instruct": Span(0.55, 0.9)}
"""Tokens of a prompt and of a response, and shares of correct responses, by the sort of model or problem set."""
BYTES_PER_TOKEN = 4
BYTES_PER_ROW = 200
"""Bytes of a token's text, and of a row beside its text."""
SHARE_OF_A_FILE = Span(0.7, 1.1)
"""Tokens of a file, as a share of what its bytes would be: keys and escapes are none."""
MERGED = Span(0.3, 1)
DIALLED = Span(0.85, 1.15)
OWN_ROWS = Span(100, 8000)
UNKNOWN_SET = Span(1000, 20_000)
SETS = {"hiyouga/math12k": known(12_000)} | {one.source: known(one.n) for one in BENCHMARKS.values()}
"""Rows of data sets that are often used, by their Hub ids."""

WORDS = {
    "problems": "a prompt has 80 to 160 tokens: problem, instruction and template",
    "reasoner": "a reasoning model writes 3,000 to 8,000 tokens; 75 to 95 % of its responses are correct",
    "instruct": "an instruct model writes 300 to 700 tokens; 55 to 90 % of its responses are correct",
    "lab": "a model of the lab writes 40 to 250 tokens; half or more of its responses are correct",
    "own": "a response of your own rows has 100 to 8,000 tokens; in a local file one for each 4 bytes, or a bit less",
    "taught": "a fine-tuned model writes as much as the responses it was trained on",
    "distilled": "a model distilled on-policy writes as much as its base or its teacher",
    "merged": "a merged model writes 0.3 to 1 of what its longest part writes",
    "dialled": "a dial meets its target within 15 %; it tries the grid, and at most every refinement",
    "set": "a data set of unknown size has 1,000 to 20,000 problems: give n, or make it with --only",
    "training": "training reaches 40 % of the accelerator's rate (30 % with adapters)",
    "generation": "generation reaches 50 % of the rate and 60 % of the bandwidth, and 5 ms a step at best",
    "batches": "a batch of the engine transformers lasts as long as its longest response, twice the mean",
    "measured": "lengths of responses in the store",
    "measured rows": "local rows, counted with the model's tokenizer",
    "measured elsewhere": "lengths of the same model's responses to other problems",
    "measured rate": "tokens a second of stages that ran on this machine profile",
}
"""What each name stands for; those that begin with `measured` are no assumptions."""


def model_sort(ref: str) -> str:
    """Which assumptions hold for a model, by its name: lab, reasoner or instruct."""
    if ref.startswith("lab:"):
        return "lab"
    return "reasoner" if REASONER.search(ref) else "instruct"


def prompt_sort(ref: str) -> str:
    """Which assumption holds for the prompts of a problem set: lab or problems."""
    return "lab" if ref in LAB_WORLDS else "problems"
