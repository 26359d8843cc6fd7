"""A model folder served by others: greedy answers of transformers, vLLM and lm-eval, each as its users call it.

python tests/agreement/serving.py ENGINE FOLDER ASKED.json OUT.json      (in the engine's own environment)

ASKED is {"prompts": [...], "max_tokens": n}; OUT a list of {"text", "stopped"}, where lm-eval does not say the second.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

Answers = list[dict[str, Any]]


def chats(prompts: list[str]) -> list[list[dict[str, str]]]:
    """Each prompt as a conversation."""
    return [[{"role": "user", "content": prompt}] for prompt in prompts]


def by_transformers(folder: str, prompts: list[str], max_tokens: int) -> Answers:
    """`apply_chat_template` and `generate`, with the folder's own generation config."""
    import torch
    import transformers

    words = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers = []
    for chat in chats(prompts):
        asked = words.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        made = model.generate(**asked, do_sample=False, max_new_tokens=max_tokens)[0, asked["input_ids"].shape[1] :]
        text = words.decode(made, skip_special_tokens=True)
        answers.append({"text": text, "stopped": int(made[-1]) in model.generation_config.eos_token_id})
    return answers


def by_vllm(folder: str, prompts: list[str], max_tokens: int) -> Answers:
    """`LLM.chat`, with the folder's own end tokens."""
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    import vllm

    model = vllm.LLM(folder, dtype="float32", enforce_eager=True, max_model_len=512, max_num_seqs=8)
    settings = vllm.SamplingParams(temperature=0, max_tokens=max_tokens)
    made = [answer.outputs[0] for answer in model.chat(chats(prompts), settings)]
    return [{"text": one.text, "stopped": one.finish_reason == "stop"} for one in made]


def by_lm_eval(folder: str, prompts: list[str], max_tokens: int) -> Answers:
    """`generate_until` of lm-eval's model `hf`, with the chat template and no stop strings."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=4)
    settings = {"until": [], "max_gen_toks": max_tokens, "do_sample": False}
    asked = [(model.apply_chat_template(chat), settings) for chat in chats(prompts)]
    requests = [Instance("generate_until", {}, one, i) for i, one in enumerate(asked)]
    return [{"text": text} for text in model.generate_until(requests)]


ENGINES = {"transformers": by_transformers, "vllm": by_vllm, "lm-eval": by_lm_eval}


if __name__ == "__main__":
    engine, place, given, out = sys.argv[1:]
    wanted = json.loads(Path(given).read_text())
    Path(out).write_text(json.dumps(ENGINES[engine](place, wanted["prompts"], wanted["max_tokens"])))
