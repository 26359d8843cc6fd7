"""The lab's tokenizer: one symbol per character of the arithmetic world, one for each of its words.

A word owns its spaces (` Hmm ` is one token), so decoding gives the text back exactly. Every symbol is an
added token or a single character, and there are no merges: this is what survives transformers, which rebuilds
the tokenizer of any folder whose model is a `qwen2` as a `Qwen2Tokenizer` (so it is one from the start). That
class has no unknown token: a foreign character, such as a letter of a real problem, is left out.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>"]
WORDS = [r"\boxed{", " Hmm ", " ok", " no Redo "]
CHARACTERS = list("0123456789+-*=;:,}")
SYMBOLS = SPECIAL + WORDS + CHARACTERS
PAD, BOS, EOS = range(3)
DIGITS = range(SYMBOLS.index("0"), SYMBOLS.index("9") + 1)
"""The token ids of the digits."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<user>' + message['content'] + '<assistant>' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
)


def build() -> "Qwen2Tokenizer":
    """The tokenizer, ready to be saved beside a model."""
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(
        vocab={symbol: index for index, symbol in enumerate(SYMBOLS)},
        merges=[],
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    return tokenizer
