r"""The words and signs of written answers, as tables: what is layout, what is text, what is another name.

Each table is a text with one entry per line: the name, then its other spellings.
"""

from __future__ import annotations

from typing import Final

_LAYOUT = r"""
\left \right \middle \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \biggl \biggr \displaystyle \textstyle \limits
\quad \qquad \, \; \: \! \> \( \) \[ \] \rm \bf \it \boldmath \strut \mathstrut \thinspace \nobreak \hfill \enspace
\space $ ~
"""
LAYOUT: Final = frozenset({*_LAYOUT.split(), "\\ "})
"""Commands that say how an answer looks."""

_TEXT = r"""
\text \mbox \textbf \textit \textrm \textnormal \mathrm \operatorname \hbox \texttt \textsf \emph \textup \underline
\mathsf
"""
TEXT: Final = frozenset(_TEXT.split())
"""Commands whose braces hold words."""

_TRANSPARENT = r"\mathbf \boldsymbol \mathit \bm \mathcal \boxed \fbox \ensuremath"
TRANSPARENT: Final = frozenset(_TRANSPARENT.split())
"""Commands whose braces hold mathematics."""

_SPELLINGS = r"""
\frac      \dfrac \tfrac \cfrac \nicefrac \sfrac
\binom     \dbinom \tbinom
{{         \lbrace \{
}}         \rbrace \}
[          \lbrack
]          \rbrack
|          \lvert \rvert \vert \mid
\le        \leq \leqslant \leqq
\ge        \geq \geqslant \geqq
\ne        \neq
<          \lt
>          \gt
*          \cdot \times \ast
/          \div \slash
\emptyset  \varnothing
\approx    \simeq \doteq
°          \degree \textdegree
:          \colon
or         \lor \vee
%          \% \percent
\tan       \tg
\cot       \ctg \cotg
\phi       \varphi
\epsilon   \varepsilon
'          \prime
...        \dots \ldots \cdots
"""
SPELLINGS: Final = {
    other: name for name, *others in map(str.split, _SPELLINGS.strip().splitlines()) for other in others
}
"""Each other spelling with the name that is kept. `{{` and `}}` are the braces of a set."""

_SIGNS = r"""
-          − – ‐ ‑ ﹣ －
\times     ×
\cdot      · ⋅
/          ÷ ∕
\pi        π
\infty     ∞
\sqrt      √
^\circ     °
\le        ≤
\ge        ≥
\ne        ≠
\approx    ≈
\cup       ∪
\cap       ∩
\in        ∈
\pm        ±
\mp        ∓
\emptyset  ∅
\theta     θ
\alpha     α
\beta      β
\lambda    λ
\lfloor    ⌊
\rfloor    ⌋
\lceil     ⌈
\rceil     ⌉
\$         € £
^2         ²
^3         ³
\frac{1}{2} ½
\frac{1}{4} ¼
\frac{3}{4} ¾
...        …
'          ′ ’
,          ，
(          （
)          ）
:          ：
;          ；
.          。
%          ％
"""
SIGNS: Final = str.maketrans(
    {
        **{
            sign: name + " " * name[1:].isalpha()
            for name, *signs in map(str.split, _SIGNS.strip().splitlines())
            for sign in signs
        },
        **dict.fromkeys("\u00a0\u202f\u2009\u200a\u2002\u2003", " "),
        **dict.fromkeys("\u200b\u200c\u200d\ufeff\u2061\u2062"),
    }
)
"""Signs of other alphabets as LaTeX, odd blanks as blanks, invisible signs dropped."""

_NAMED = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt pi infty theta"
NAMED: Final = {
    **{name: "\\" + name for name in _NAMED.split()},
    **{"infinity": r"\infty", "inf": r"\infty", "asin": r"\arcsin", "acos": r"\arccos", "atan": r"\arctan"},
}
"""Words that are commands without their backslash."""

_NOUNS = "men day way cat dog car pen box egg toy boy cup ten six two one"
SHORT_NOUNS: Final = frozenset(_NOUNS.split())
"""Words too short to be told from a product of letters by their length."""

_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
"""
NUMBERS: Final = {word: value for value, word in enumerate(_NUMBERS.split())}
SCALES: Final = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_HEDGES = "about approximately approx roughly exactly only answer final ans"
HEDGES: Final = frozenset(_HEDGES.split())
"""Words before a value that say nothing of it."""

NOTHING: Final = frozenset(
    {"none", "no solution", "no solutions", "no real solution", "no real solutions", "empty set", "emptyset"}
)
EVERYTHING: Final = frozenset({"all real numbers", "all reals", "real numbers", "all real values"})
