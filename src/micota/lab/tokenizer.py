"""The lab's tokenizers: of arithmetic one symbol per character and one for each of its words; of dates byte-level BPE.

In arithmetic a word owns its spaces (` Hmm ` is one token), so decoding gives the text back exactly. Every symbol is an
added token or a single character, and there are no merges: this is what survives transformers, which rebuilds
the tokenizer of any folder whose model is a `qwen2` as a `Qwen2Tokenizer` (so it is one from the start). That
class has no unknown token: a foreign character, such as a letter of a real problem, is left out.

For dates that same class has all 256 bytes and merges that were learnt from workings (`learn_merges`), so that every
text has tokens; a digit is always a token of its own.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from micota.worlds.workings import World

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>"]
WORDS = [r"\boxed{", " Hmm ", " ok", " no Redo "]
CHARACTERS = list("0123456789+-*=;:,}")
SYMBOLS = SPECIAL + WORDS + CHARACTERS
PAD, BOS, EOS = range(3)
MERGES = Path(__file__).with_name("dates-merges.txt")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<user>' + message['content'] + '<assistant>' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
)


@lru_cache
def build(world: World = "arithmetic") -> "Qwen2Tokenizer":
    """The tokenizer of a world, ready to be saved beside a model; it is shared, so leave it as it is."""
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    symbols, merges = (byte_symbols(), read_merges()) if world == "dates" else (SYMBOLS, [])
    symbols = symbols + [left + right for left, right in merges]
    tokenizer = Qwen2Tokenizer(
        vocab={symbol: index for index, symbol in enumerate(symbols)},
        merges=merges,
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    if world != "dates":
        tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    return tokenizer


def digits(world: World) -> frozenset[int]:
    """The token ids of the digits."""
    return frozenset(build(world).convert_tokens_to_ids(list("0123456789")))


def byte_symbols() -> list[str]:
    """The special tokens and one symbol for each byte."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet())]


def read_merges() -> list[tuple[str, str]]:
    """The merges of the tokenizer of dates, in the order in which they were learnt."""
    lines = MERGES.read_text(encoding="utf-8").splitlines()
    return [(left, right) for left, right in (line.split(" ") for line in lines)]


def learn_merges(texts: list[str], count: int) -> list[tuple[str, str]]:
    """The first merges of byte-level BPE on texts that are split as Qwen2's are: at words, digits and signs."""
    import json

    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = build().backend_tokenizer.pre_tokenizer
    alphabet = byte_symbols()[len(SPECIAL) :]
    trainer = trainers.BpeTrainer(vocab_size=256 + count, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]
