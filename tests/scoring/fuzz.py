r"""Random and mutated responses, to be graded without a crash, a hang or a flood of memory.

    python tests/scoring/fuzz.py 100000 --seed 1

prints how many responses got which verdict, the slowest, and the peak memory of this process and of the
largest grading process.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from micota.grading import Grade, Grader, Item, exact_match, strict_match
from micota.grading.semantic import FAILED

PAIRS = [
    json.loads(line) for line in (Path(__file__).parent / "hard_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]
_PIECES = r"""
\boxed{ \boxed \fbox{ } { $ $$ \( \) \[ \] \frac{ \frac \dfrac12 \sqrt{ \sqrt[ \sqrt[3]{ ^ ^{ _ _{ ! !! % \% \$
\left( \right) \left[ \right| \lfloor \rfloor \lceil | || ( ) [ ] \{ \} , ; : . .. ... = == < > \le \ne \in \cup
\setminus \pm \mp + - -- * / \cdot \times \div \text{ \mathrm{ \mbox{ \begin{pmatrix} \end{pmatrix} & \\ \\\\
\overline{ \pi \infty e i x n \sin \cos \tan \log \log_ \ln \exp \arctan \binom{ \sum_{k=1}^{ \prod \int_0^
\lim_{x\to0} 0 1 2 7 10 -3 0.5 .5 1e9 999999999 100000! 9^{9^{9^9}} 9^9^9^9 10^{10^{10}} 2^{-10^9} \frac{1}{0}
0^0 0^{-1} 1/0 (-1)^{1/2} \binom{10^9}{10^8} \sin(10^{10^5}) __import__('os').system('true') eval("1") lambda: 0
exec(open) {0.__class__} %s {} \x00 \def\a{\a\a}\a \input{/etc/passwd} and or where cm meters degrees percent
p.m. 4:30 1:2 52_8 (A) even none True None nan inf -inf <think> </think> #### answer is Final Answer: \emptyset
\mathbb{R} \phantom{ \ldots \overbrace \unknown \relax \quad \, \! ~ ' " ` @ # ^\circ ° π √ ² ∞ ≤
"""
PIECES = _PIECES.split()
NOTATIONS = [
    "@⅔", "@⁻¹²", "@₁₂", "∛@", "𝜋@", "１２@", "@℃", "@º", "@ ‰", "@个", "]@, 7[", r"]@,@[\cup]@;@[", r"\sin(@)^2",
    "@**2**@", r"\gcd(@, 12)", r"\max\{@,@\}", r"@ \over @", r"{@ \choose 2}", "0.(@)", r"0.\dot{1}@\dot{3}",
    "@ repeating", r"@^\circ @' @''", r"\begin{aligned} x &= @ \\ &= @ \end{aligned}",
    r"\begin{cases} x=@ \\ y=@ \end{cases}", r"\begin{pmatrix}@&@\end{pmatrix}^T", r"(@,@)^{\top}",
    r"\mathbb{R}\setminus\{@,@\}", r"x\ne @, 0<x<@", r"\{x \mid x\in\mathbb{R}, x>@\}", "p=@,q=@;p=@,q=@",
    r"@\text{ m s}^{-2}", r"@\,\mathrm{kg\,m/s^{2}}", r"US\$@", "@'500'000", r"@\text{ years ago}",
    "@ (approximately @)", r"\textcolor{red}{@}", r"\hspace{@}@", "^7P_@", "P(@,3)", "twenty-@", "two hundred @",
    r"@ \pmod @", r"\text{The total is } @", "@ x 10^@", "@e@", r"\sin^{-1}(@)", "f^{-1}(x)=@", "|AB| = @",
    r"\lim_{x\to 0} @ = @",
]  # fmt: skip
CONTROLS = [
    "\x00",
    "\x07",
    "\x1b[31m",
    "\ud800",
    "\udfff",
    "\u202e",
    "\ufeff",
    "\u2028",
    "\x7f",
    "\r",
    "٣",
    "①",
    "𝟙",
    "\n",
    "\t",
]
SEED = 7


def towers() -> list[str]:
    """Answers that would hang, crash or flood a careless grader; each is put into a box by `hostile`."""
    return [*POWERS, *SYMBOLIC, *CODE, *nested(), *long()]


_POWERS = r"""
9^{9^{9^{9^{9}}}} 9**9**9**9 2^{2^{2^{2^{2^{2}}}}} 10^{10^{100}} 100000! (10^9)! 9!!!!!!! ((((10!)!)!)!)! 0^{0}
2^{99999} \binom{10^{12}}{10^{6}} \frac{1}{10^{10^{10}}} \sin(10^{99999}) \tan(9^{9^{5}}) e^{e^{e^{e^{e}}}}
\log(\log(\log(0))) \frac{0}{0} \frac{1}{0} (x+1)^{99999} (a+b+c+d+e+f)^{200} x^{99999}-x^{99998}
\lfloor10^{9999}\pi\rfloor 2^{40000}+1
"""
POWERS = _POWERS.split()
SYMBOLIC = [
    r"\sum_{k=1}^{10^{9}} k!",
    r"\prod_{k=1}^{99999} k",
    r"\int_0^\infty e^{x^{x^x}} dx",
    r"\lim_{x \to 0} \frac{\sin(x^{-99})}{x}",
    r"\sum_{n=1}^{99999} \frac{\sin n^n}{n!}",
    r"\int \int \int \int \sin(\cos(\tan(x^x))) dx",
    r"\sum_{k=1}^{99999} \sum_{j=1}^{99999} j^k",
]
CODE = [
    "__import__('os').system('touch /tmp/micota-was-here')",
    "().__class__.__bases__[0].__subclasses__()",
    "exec('x=1')",
    "open('/etc/passwd').read()",
    r"\input{/etc/passwd}",
    r"\def\x{\x\x}\x",
    "lambda x: x",
    "{0.__class__}",
    "%n%n%s",
]


def nested() -> list[str]:
    """Brackets and commands inside each other, closed or not, and signs in rows."""
    deep, short = 50_000, 900
    wrapped = [
        ("(", ")"),
        ("{", "}"),
        ("[", "]"),
        (r"\frac{", "}{2}"),
        (r"\sqrt{", "}"),
        (r"\text{", "}"),
        ("9^{", "}"),
    ]
    wrapped += [("x_{", "}"), (r"\begin{pmatrix} 1 & 2 \\ ", r"\end{pmatrix}"), (r"\left\{", r"\right\}"), ("|", "|")]
    repeated = [
        r"\frac",
        r"\sqrt",
        r"\text",
        "-",
        "+-",
        "|",
        r"\sin ",
        "x^",
        "1,",
        r"\pm 1",
        r"\overline{",
        r"\left\{",
        "!",
    ]
    return [
        *(a * times + "1" + b * times for a, b in wrapped for times in (25, 150, short)),
        *(piece * (1900 // len(piece)) + "1" for piece in repeated),
        "(" * deep + "1" + ")" * deep,
        "{" * deep + "1" + "}" * deep,
        *("_", "^", "\\", "{", "}", "1_{99}", "Z_{36}", "0_{0}"),
    ]


def long() -> list[str]:
    """Megabytes of digits, and odd alphabets."""
    return [
        "9" * 1999,
        "0." + "3" * 1990,
        "9" * 2_000_000,
        "0." + "0" * 2_000_000 + "1",
        "1" + ",000" * 400_000,
        r"0.\overline{" + "9" * 1500 + "}",
        "\ud83d\ude00" * 500,
        "a\u0301" * 900,
        *("\x00", "\ud800", "\u202e7", "7\x00", "٧", "７", "\ufeff7", "\x1b[2J"),
    ]


def hostile() -> list[str]:
    """The towers in a box, and texts that are hostile as a whole."""
    million = 1_000_000
    repeated = [
        "$",
        "\\",
        "-",
        "1,",
        "\n",
        "{",
        "}",
        "\x00",
        "9",
        "<",
        "\ud800",
        "#### ",
        "the answer is ",
        ", and or ",
        r"\frac",
    ]
    return [
        "",
        *(piece * (million // len(piece)) for piece in repeated),
        *(piece * 1000 for piece in (r"\boxed{1}", r"\boxed{", r"\boxed ", r"\boxed{1} and ", "<think>", "</think>")),
        r"\boxed{" * 1000 + "}" * 1000,
        r"\boxed{" + "{}" * (million // 2),
        r"\boxed{" + "{}" * (million // 2) + "}",
        r"\boxed{7}" + " " * million,
        "<think>" * 10_000 + r"\boxed{7}",
        "Final Answer: \\boxed{" + "9" * 2 * million,
        "answer: " + "$" * 100_000,
        r"\boxed{\text{ }\text{ }}",
        *(rf"So the answer is $\boxed{{{tower}}}$." for tower in towers()),
    ]


def responses(count: int, seed: int = SEED) -> Iterator[Item]:
    """`count` items: random soup, mutated hard pairs, nested and repeated pieces."""
    random = Random(seed)
    for _ in range(count):
        pair = random.choice(PAIRS)
        make = random.choice([_soup, _mutated, _mutated, _spliced, _nested, _repeated, _renotated])
        answer = make(random, pair["answer"])
        frame = random.choice(
            [
                "\\boxed{{{}}}",
                "so $\\boxed{{{}}}$.",
                "{}",
                "<think>{}</think>\\boxed{{3}}",
                "answer is {}.",
                "#### {}",
                "<answer>{}</answer>",
                "[THINK]\\boxed{{3}}[/THINK] Answer: {}<|im_end|>",
                "## Answer\n$${}$$",
                "\\boxed{{{}}} \\approx \\boxed{{1.4}}\n\nAnswer: D",
                "The answer is not 3. Wait, the answer is therefore {}!",
            ]
        )
        benchmark = random.choice([None, None, None, "aime24", "amc23", "olympiadbench", "math500", "gsm8k"])
        yield Item(
            frame.format(answer),
            random.choice([pair["gold"], pair["gold"], "7", ""]),
            benchmark,
            random.random() < 0.1,
        )


def _soup(random: Random, answer: str) -> str:
    del answer
    return "".join(random.choice(PIECES) + random.choice(["", " "]) for _ in range(random.randint(1, 40)))


def _mutated(random: Random, answer: str) -> str:
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(answer))
        inserted = random.choice([random.choice(PIECES), random.choice(CONTROLS), str(random.randint(0, 10**12)), ""])
        answer = answer[:at] + inserted + answer[at + random.randint(0, 2) :]
    return answer


def _spliced(random: Random, answer: str) -> str:
    other: str = random.choice(PAIRS)["answer"]
    return (
        answer[: random.randint(0, len(answer))]
        + random.choice(["", "^", "+", ",", "="])
        + other[random.randint(0, len(other)) :]
    )


def _nested(random: Random, answer: str) -> str:
    opening, closing = random.choice(
        [
            ("(", ")"),
            ("{", "}"),
            (r"\frac{", "}{2}"),
            (r"\sqrt{", "}"),
            ("9^{", "}"),
            ("[", "]"),
            (r"\{", r"\}"),
            ("", "!"),
        ]
    )
    times = random.choice([2, 5, 20, 60, 400])
    return opening * times + answer + closing * random.choice([times, times - 1])


def _renotated(random: Random, answer: str) -> str:
    """Other notations, whole and cut: Unicode, words, units, environments, reversed brackets, remarks."""
    notation = random.choice(NOTATIONS).replace("@", answer)
    return notation if random.random() < 0.5 else _mutated(random, notation)


def _repeated(random: Random, answer: str) -> str:
    return random.choice([answer, random.choice(PIECES)]) * random.choice([2, 9, 50, 300])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args()
    verdicts: Counter[str] = Counter()
    failures: list[tuple[str, str]] = []
    slowest, start = (0.0, ""), time.perf_counter()
    with Grader() as grader:
        for item in [*(Item(text, "7") for text in hostile()), *responses(chosen.count, chosen.seed)]:
            began = time.perf_counter()
            grade: Grade = grader.grade([item])[0]
            exact_match(item.response, item.gold, item.benchmark)
            strict_match(item.response, item.gold)
            slowest = max(slowest, (time.perf_counter() - began, item.response[:100]))
            verdicts[grade.verdict.value] += 1
            failures += [(item.response[:200], grade.reason)] * grade.reason.startswith(FAILED)
    print(f"{sum(verdicts.values())} responses in {time.perf_counter() - start:.0f} s: {dict(verdicts)}")
    print(f"failures of the scorer: {failures}")
    print(f"slowest {slowest[0]:.2f} s: {slowest[1]!r}")
    for who, whose in (
        ("this process", resource.RUSAGE_SELF),
        ("the largest grading process", resource.RUSAGE_CHILDREN),
    ):
        print(f"peak memory of {who}: {resource.getrusage(whose).ru_maxrss / 1024:.0f} MiB")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
