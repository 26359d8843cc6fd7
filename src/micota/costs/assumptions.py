"""What is assumed of lengths and shares where nothing was measured. A plan prints by name each one that it used."""

from __future__ import annotations

import re

from micota.benchmarks import BENCHMARKS
from micota.costs.spans import Span, known
from micota.store.resolution import LAB_WORLD

REASONER = re.compile(r"qwq|think|reason|(^|[/-])r1([-/]|$)", re.IGNORECASE)
"""What the names of models that think at length have in common."""
PROMPTS = {"lab": Span(10, 40), "problems": Span(80, 160)}
RESPONSES = {"lab": Span(40, 250), "reasoner": Span(3000, 8000), "instruct": Span(300, 700)}
KEPT = {"lab": Span(0.5, 1), "reasoner": Span(0.75, 0.95), "instruct": Span(0.55, 0.9)}
BYTES_OF_A_TOKEN = 4
"""Bytes of a token's text."""
SHARE_OF_A_ROW = Span(0.7, 1.1)
"""Of the tokens that a file's bytes would be: keys and escapes are none."""
MERGED = Span(0.3, 1)
OWN = Span(100, 8000)
UNKNOWN_SET = Span(1000, 20_000)
SETS = {"hiyouga/math12k": 12_000} | {one.source: one.n for one in BENCHMARKS.values()}
"""Rows of data sets that are often used, by their Hub ids."""

WORDS = {
    "problems": "a prompt has 80 to 160 tokens: problem, instruction and template",
    "reasoner": "a model that thinks at length answers in 3,000 to 8,000 tokens; 75 to 95 % of that is kept as correct",
    "instruct": "an instruct model answers in 300 to 700 tokens; 55 to 90 % of that is kept as correct",
    "lab": "a model of the lab answers in 40 to 250 tokens; half or more of that is kept",
    "own": "a response of your own rows has 100 to 8,000 tokens; in a local file one for each 4 bytes, or a bit less",
    "taught": "a model that was trained answers as long as what it learnt",
    "merged": "a merged model answers in 0.3 to 1 of the length of its longest part",
    "dialled": "a dial meets its target within 15 %; it tries the grid, and at most every refinement",
    "set": "a data set of unknown size has 1,000 to 20,000 problems: say n, or make it with --only",
    "training": "training reaches 40 % of the accelerator's rate (30 % with adapters)",
    "generation": "generation reaches 50 % of the rate and 60 % of the bandwidth, and 5 ms a step at best",
    "batches": "a batch of the engine transformers lasts as long as its longest answer, twice the mean",
}


def of_source(ref: str) -> str:
    """Which assumption holds for a model, by its name."""
    if ref.startswith("lab:"):
        return "lab"
    return "reasoner" if REASONER.search(ref) else "instruct"


def of_prompt(ref: str) -> str:
    return "lab" if ref == LAB_WORLD else "problems"


def rows(ref: str) -> Span | None:
    """Rows of a data set that is known."""
    return known(SETS[ref]) if ref in SETS else None
