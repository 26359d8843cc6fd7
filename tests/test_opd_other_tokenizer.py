"""Teachers with another tokenizer: how tokens are aligned, the loss beside TRL's own, and whole distillations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import World, tiny_model
from safetensors.torch import load_file, save_file
from test_opd import LAB, last, made
from test_opd import distilled as distilled
from test_processes import prefix, same
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from micota.chat import end_id
from micota.checks.models import Subject
from micota.checks.recipes import inspect_models
from micota.checks.teachers import alignment
from micota.errors import MicotaError, StageFailed
from micota.specs import BETA, Prompt
from micota.training import head_logs, span_loss
from micota.training.head_logs import Head
from micota.training.span_loss import Side
from micota.training.token_alignment import TokenAlignment, shared_tokens, token_ends

TEXT = "Let's compute 1234567*89 step by step: naïve 数学问题 \\frac{12}{345}\n\n  so x_1 = 98765 and indubitably done."


def other_model(folder: Path, seed: int = 5) -> Path:
    """A model whose tokenizer has tokens of two characters beside the lab's."""
    tiny_model(folder, seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["10", "+1", "=1", "12"])
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def permuted_model(folder: Path, like: Path) -> Path:
    """The same model with two tokens in each other's places."""
    folder.mkdir()
    for path in like.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    text = (folder / "tokenizer.json").read_text()
    swapped = text.replace('"3": ', '"~": ').replace('"4": ', '"3": ').replace('"~": ', '"4": ')
    (folder / "tokenizer.json").write_text(swapped)
    weights = load_file(folder / "model.safetensors")
    ids = AutoTokenizer.from_pretrained(like).convert_tokens_to_ids(["3", "4"])
    table = weights["model.embed_tokens.weight"]
    table[ids] = table[ids[::-1]].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def side(tokenizer: Any, ids: list[int], marks: list[int], width: int, temperature: float) -> Side:
    generator = torch.Generator().manual_seed(len(tokenizer))
    states = torch.randn(1, len(ids), width, generator=generator, dtype=torch.float64)
    weight = torch.randn(len(tokenizer), width, generator=generator, dtype=torch.float64, requires_grad=True)
    return Side(Head(states, weight, None, (1.0, None), temperature), torch.tensor([ids]), torch.tensor([marks]))


def trl_loss(one: Side, two: Side, here: Any, there: Any, text: str, beta: float, end: tuple[int, int]) -> Any:
    """TRL's, by its own alignment; the tokens that end an answer have one name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns of all that is experimental
        from trl.experimental.gold import GOLDConfig
        from trl.experimental.gold.gold_trainer import ULDLoss
        from trl.experimental.utils import encode_with_byte_offsets

        config = GOLDConfig(
            output_dir="unused",
            use_uld_loss=True,
            uld_use_hybrid_loss=True,
            uld_token_merge_strategy="bayesian",
            uld_student_temperature=one.head.temperature,
            uld_teacher_temperature=two.head.temperature,
            uld_skip_student_eos=False,
            uld_skip_teacher_eos=False,
            beta=beta,
            use_cpu=True,
            bf16=False,
        )
    names = [{number: token for token, number in tokenizer.get_vocab().items()} for tokenizer in (here, there)]
    vocabularies = []
    for known, number in zip(names, end, strict=True):
        known[number] = "the end of an answer"
        vocabularies.append(SimpleNamespace(get_vocab=lambda known=known: {name: i for i, name in known.items()}))
    logits, ids, labels, offsets = [], [], [], []
    for sided, tokenizer in ((one, here), (two, there)):
        tokens = torch.cat([torch.zeros(1, 1, dtype=torch.long), sided.tokens], dim=1)  # a prompt of one token
        states = sided.head.states[0] @ sided.head.weight.T
        logits.append(torch.cat([states, states[:1]]).unsqueeze(0))
        ids.append(tokens)
        labels.append(torch.where(torch.arange(tokens.shape[1]) == 0, -100, tokens))
        [(_, places)] = encode_with_byte_offsets(tokenizer.backend_tokenizer, [text])
        size = len(text.encode())
        offsets.append(torch.tensor([[(0, 0), *places, (size, size)]]))
    loss = ULDLoss(config, *vocabularies)
    return loss(*logits, *labels, *ids, student_byte_offsets=offsets[0], teacher_byte_offsets=offsets[1])


def beside_trl(here: Any, there: Any, text: str, divergence: str, width: int = 4) -> None:
    """Loss and gradients of ours and TRL's on random logits."""
    ends = tuple(end_id(one, [one.eos_token_id]) for one in (here, there))
    alignment = TokenAlignment(here, there, (ends[0], ends[1]), (ends[0],))
    ids = [*here(text, add_special_tokens=False)["input_ids"], ends[0]]
    read, marks, others = alignment.answer(ids)
    assert read == [*there(text, add_special_tokens=False)["input_ids"], ends[1]]
    one, two = side(here, ids, marks, width, 0.7), side(there, read, others, width, 0.7)
    loss, _, spans = span_loss.span_loss(one, two, torch.tensor(alignment.shared), BETA[divergence])
    assert spans == marks.count(2) == others.count(2) < max(len(ids), len(read))
    expected = trl_loss(one, two, here, there, text, BETA[divergence], (ends[0], ends[1]))
    assert loss.item() / spans == pytest.approx(expected.item(), rel=1e-6)
    got, wanted = (
        torch.autograd.grad(value, one.head.weight, retain_graph=True)[0] for value in (loss / spans, expected)
    )
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-9)
    assert not got.equal(torch.zeros_like(got))


def test_the_loss_is_that_of_trl_on_two_real_tokenizers(shared: Path) -> None:
    here, there = (AutoTokenizer.from_pretrained(shared / "tokenizers" / name) for name in ("qwen3", "deepseek-v3"))
    beside_trl(here, there, TEXT, "reverse_kl")


@pytest.mark.parametrize("divergence", BETA)
def test_the_loss_is_that_of_trl_and_chunks_change_nothing(
    tmp_path: Path, divergence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = AutoTokenizer.from_pretrained(tiny_model(tmp_path / "here", 1))
    there = AutoTokenizer.from_pretrained(other_model(tmp_path / "there"))
    for logits in (head_logs.LOGITS, 70):
        monkeypatch.setattr(head_logs, "LOGITS", logits)
        for pair in ((here, there), (there, here)):
            beside_trl(*pair, "110+12=122;\\boxed{122}", divergence)


def test_tokens_are_shared_by_their_text(shared: Path) -> None:
    here, there = (AutoTokenizer.from_pretrained(shared / "tokenizers" / name) for name in ("qwen3", "deepseek-v3"))
    names = [one.get_vocab() for one in (here, there)]
    same = {(names[0][name], names[1][name]) for name in names[0].keys() & names[1].keys()}
    assert set(shared_tokens(here, there)) == same and len(same) == 84030


def metaspace(words: list[str]) -> Any:
    """A tokenizer with the alphabet of SentencePiece."""
    symbols = ["<end>", *(f"<0x{byte:02X}>" for byte in range(256)), *dict.fromkeys("".join(words)), *words]
    merges = [(word[:i], word[i]) for word in words for i in range(1, len(word))]
    symbols += [a + b for a, b in merges]
    tokenizer = Tokenizer(BPE({name: i for i, name in enumerate(dict.fromkeys(symbols))}, merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )

    def encode(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": tokenizer.encode(text).ids}

    return type("Words", (), {"backend_tokenizer": tokenizer, "get_vocab": lambda _: tokenizer.get_vocab(),
                              "__call__": lambda _, text, **options: encode(text, **options)})()  # fmt: skip


def test_alphabets_of_tokens_may_differ(shared: Path) -> None:
    """Bytes written as letters on one side, words behind ▁ on the other."""
    here, there = AutoTokenizer.from_pretrained(shared / "tokenizers" / "qwen3"), metaspace(["▁two", "▁twofold", "x"])
    pairs = shared_tokens(here, there)
    two = (here.convert_tokens_to_ids("Ġtwo"), there.get_vocab()["▁two"])
    assert two in pairs and (here.convert_tokens_to_ids("x"), there.get_vocab()["x"]) in pairs
    ends = (here.eos_token_id, 0)
    alignment = TokenAlignment(here, there, ends, (ends[0],))
    ids = here(" two x", add_special_tokens=False)["input_ids"]
    read, marks, others = alignment.answer([*ids, ends[0]])
    assert [there.backend_tokenizer.id_to_token(one) for one in read] == ["▁two", "▁", "x", "<end>"]
    assert token_ends(there, read[:-1])[0] in (" two x", "two x")
    assert len(marks) == len(ids) + 1 and len(others) == len(read) and marks[-1] == others[-1] == 2


def test_spans_by_hand(tmp_path: Path, shared: Path) -> None:
    here = AutoTokenizer.from_pretrained(tiny_model(tmp_path / "here", 1))
    there = AutoTokenizer.from_pretrained(other_model(tmp_path / "there"))
    end = here.eos_token_id
    ids = here("110+12", add_special_tokens=False)["input_ids"]
    alignment = TokenAlignment(here, there, (end, end), (end,))
    read, marks, others = alignment.answer([*ids, end])
    assert there.convert_ids_to_tokens(read) == ["1", "10", "+1", "2", "<eos>"]
    assert (marks, others) == ([2, 1, 2, 1, 2, 2, 2], [2, 2, 2, 2, 2])
    cut = alignment.answer(ids)  # an answer that reached its limit
    assert cut == (read[:-1], marks[:-1], others[:-1])
    assert alignment.answer([end]) == ([end], [2], [2])
    short = TokenAlignment(here, there, (end, end), (end,), context=6)
    assert short.answer([*ids, end], before=3) == (read[:3], [2, 1, 2, 1, 2, 0, 0], [2, 2, 2])
    assert short.answer([*ids, end], before=7) == ([], [0] * 7, [])


def test_a_token_that_ends_within_a_character_ends_nowhere(shared: Path) -> None:
    here, there = (AutoTokenizer.from_pretrained(shared / "tokenizers" / name) for name in ("qwen3", "deepseek-v3"))
    alignment = TokenAlignment(here, there, (here.eos_token_id, there.eos_token_id), (here.eos_token_id,))
    ids = here("a𓀀b", add_special_tokens=False)["input_ids"]
    parts = len(ids) - 3
    assert parts and token_ends(here, ids) == ("a𓀀b", [1, *([None] * parts), 2, 3])
    assert token_ends(here, ids[:2]) == ("a", [1, None])
    assert alignment.answer(ids)[1] == [2, *([1] * parts), 2, 2]
    read, marks, others = alignment.answer(ids[:2])
    assert (marks, others) == ([2, 0], [2]) and there.decode(read) == "a"


def test_the_teacher_reads_its_own_template_and_thinks_where_the_student_does(shared: Path) -> None:
    here, there = (AutoTokenizer.from_pretrained(shared / "tokenizers" / name) for name in ("qwen3", "deepseek-v3"))
    alignment = TokenAlignment(here, there, (here.eos_token_id, there.eos_token_id), (here.eos_token_id,))
    plain = there.decode(alignment.prompt("1+1?", Prompt(system="Be brief.")))
    assert plain == "<｜begin▁of▁sentence｜>Be brief.<｜User｜>1+1?<｜Assistant｜>"
    here.chat_template = here.chat_template + "{{- '<think>\\n' }}"
    assert there.decode(alignment.prompt("1+1?", Prompt())).endswith("<｜Assistant｜><think>\n")
    assert there.decode(alignment.prompt("1+1?", Prompt(mode="raw", template="{problem}"))).endswith("1+1?")


CHANGED = {
    "lower": (normalizers.Lowercase(), False, "makes '12+3 is 15."),
    "prefix": (normalizers.NFC(), True, "makes ' 12+3 is 15."),
    "same": (normalizers.NFC(), False, None),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_teacher_that_changes_what_it_reads_is_refused(name: str) -> None:
    """Behind the first difference nothing is learnt, in silence; upper and lower case are such."""
    normalizer, space, said = CHANGED[name]
    student, teacher = (byte_tokenizer(size) for size in (256, 257))
    teacher.backend_tokenizer.normalizer = normalizer
    teacher.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    subjects = [Subject("student", student, (256,)), Subject("teacher", teacher, (257,))]
    if said is None:
        assert alignment(*subjects) is not None
        return
    with pytest.raises(MicotaError) as error:
        alignment(*subjects)
    assert said in str(error.value) and "would be learnt" in str(error.value)


def byte_tokenizer(end: int) -> PreTrainedTokenizerFast:
    """One token for each byte, and one of this number that ends an answer."""
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"<{n}>" for n in range(256, end + 1))]
    tokenizer = Tokenizer(BPE({symbol: n for n, symbol in enumerate(symbols)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"<{end}>")


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(MicotaError, match="cannot be aligned with another"):
        shared_tokens(ByT5Tokenizer(), ByT5Tokenizer())


@pytest.mark.parametrize("divergence", BETA)
def test_a_teacher_whose_tokens_changed_places_teaches_the_same(distilled: World, divergence: str) -> None:
    """Every token is shared and every span has one token: the divergence is that of one tokenizer."""
    permuted_model(distilled.folder / "permuted", distilled.folder / "models" / "teacher")
    sets = (f"defaults.opd.divergence={divergence}", "defaults.opd.temperature=0.8")
    weights, facts = made(distilled, *sets)
    again, others = made(distilled, *sets, "let.teacher=./permuted", micro_batch=1)
    assert others["shared_tokens"] == 28 and "shared_tokens" not in facts
    assert [loss for _, loss in others["loss"]] == pytest.approx([loss for _, loss in facts["loss"]], rel=1e-3)
    for name, tensor in weights.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


OTHER = (*LAB, "let.teacher=./other")


def test_it_learns_from_rows_too_and_micro_batches_change_nothing(distilled: World) -> None:
    other_model(distilled.folder / "other")
    sets = ("let.teacher=./other", "let.chains.distil.from=./models/ta", "defaults.opd.max_tokens=40")
    weights, facts = made(distilled, *sets, only="rows", micro_batch=1)
    (distilled.folder / "store").rename(distilled.folder / "before")
    again, others = made(distilled, *sets, only="rows")
    assert [loss for _, loss in facts["loss"]] == pytest.approx([loss for _, loss in others["loss"]], rel=1e-4)
    same(weights, again)


def test_check_tells_of_another_tokenizer(distilled: World) -> None:
    permuted_model(distilled.folder / "permuted", distilled.folder / "models" / "teacher")
    recipe = distilled.load("let.teacher=./permuted")
    (finding,) = [one for one in inspect_models([recipe.named("opd")])[1] if one.rule == "teacher"]
    assert finding.severity == "warning"
    assert "the tokenizers of ./models/student and its teacher differ in 2 tokens: '3' is" in str(finding)
    assert "over the 28 tokens of equal text (GOLD)" in str(finding)


def test_a_teacher_without_a_token_in_common_is_refused(distilled: World) -> None:
    tiny_model(distilled.folder / "strange", 9)
    path = distilled.folder / "strange" / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["vocab"] = {f"~{name}": number for name, number in data["model"]["vocab"].items()}
    for token in data["added_tokens"]:
        token["content"] = "~" + token["content"]
    path.write_text(json.dumps(data))
    settings = path.with_name("tokenizer_config.json")
    settings.write_text(settings.read_text().replace('"<', '"~<'))
    with pytest.raises(StageFailed, match=r"have no token in common|never"):
        distilled.run("let.teacher=./strange", only="opd")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_distil_what_one_distils(distilled: World, kind: str) -> None:
    other_model(distilled.folder / "other")
    alone, facts = made(distilled, *OTHER, micro_batch=2)
    (distilled.folder / "store").rename(distilled.folder / "before")
    together, same_facts = made(distilled, *OTHER, micro_batch=1, prefix=prefix(kind), activation_checkpointing=True)
    same(alone, together)
    assert [loss for _, loss in same_facts["loss"]] == pytest.approx([loss for _, loss in facts["loss"]], rel=1e-3)


@pytest.mark.slow
def test_killed_and_stopped_it_ends_with_the_same_weights(distilled: World) -> None:
    other_model(distilled.folder / "other")
    alone, _ = made(distilled, *OTHER)
    (distilled.folder / "store").rename(distilled.folder / "before")
    distilled.write("machine.yaml", "train: {micro_batch: 4, checkpoint_every: 1}\n")
    sets = [word for one in OTHER for word in ("--set", one)]
    program = str(Path(sys.executable).parent / "micota")
    command = [program, "run", "recipe.yaml", "--machine", "./machine.yaml", "--only", "opd", *sets, "--store", "store"]
    for number, after in ((signal.SIGKILL, 2), (signal.SIGTERM, 4)):
        run = subprocess.Popen(command, cwd=distilled.folder, stdout=subprocess.DEVNULL)
        while run.poll() is None and last(distilled) < after:
            time.sleep(0.01)
        os.kill(run.pid, number)
        run.communicate(timeout=120)
        assert after <= last(distilled) < 6
    weights, facts = made(distilled, *OTHER)
    assert facts["steps"] == len(facts["loss"]) == 6
    assert [name for name in weights if not torch.equal(weights[name], alone[name])] == []
