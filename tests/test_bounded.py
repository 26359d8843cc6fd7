"""Chat templates of strangers: rendered as transformers does it, within bounds of time and memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, PUBLISHED, subject

import micota
from micota import chat
from micota.bounded import Bounded, Died, Failed
from micota.chat import apply_template
from micota.checks import recipes as inspection
from micota.errors import MicotaError

HOSTILE = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{% set x = 9**(9**9) %}",
    "text": "{{ 'a' * 10**10 }}",
    "padding": "{{ '%099999999999d' % 1 }}",
    "joined": "{{ (['ab' * 10**6] * 10**6) | join }}",
    "doubling": "{% set n = namespace(s='a' * 16) %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "long": "{{ 'ab' * 10**8 }}",
    "a file": "{% include '/etc/passwd' %}",
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a module": "{{ cycler.__init__.__globals__.os.getpid() }}",
    "no template": "{% for x in %}",
    "deep": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
}
STUDENT = Path(micota.__file__).parent / "lab" / "models" / "student"


@pytest.fixture(scope="module")
def hurried() -> Bounded:
    """What renders templates, with a quarter of its time."""
    function, seconds, memory_mb, needs = chat._RENDERING._words
    return Bounded(function, float(seconds) / 4, int(memory_mb), needs)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_a_finding(
    name: str, tmp_path: Path, hurried: Bounded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_RENDERING", hurried)
    folder = shutil.copytree(STUDENT, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(HOSTILE[name] + "{{ messages[0]['content'] }}")
    _, findings = inspection.inspect_folder(str(folder))
    assert [one.severity for one in findings[:1]] == ["error"] and "raises an error" in findings[0].what


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {*PUBLISHED}))
def test_it_renders_what_transformers_renders(name: str) -> None:
    tokenizer = subject(name).tokenizer
    chat = [{"role": "user", "content": "√2 <b> {{ x }}"}, {"role": "assistant", "content": "<think>\n1\n</think>\n2"}]
    for messages, options in ((chat, {}), (chat[:1], {"add_generation_prompt": True})):
        expected = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        assert apply_template(tokenizer, messages, **options) == expected


def test_a_job_beyond_its_bounds_ends_and_the_next_one_is_served() -> None:
    match = Bounded("re:fullmatch", 0.5, 512, needs="json")
    for _ in range(2):
        assert match(pattern="(a+)+b", string="c") is None
        with pytest.raises(Failed, match="unterminated"):
            match(pattern="(", string="a")
        with pytest.raises(Failed, match=r"more than 0\.5 seconds"):
            match(pattern="(a+)+b", string="a" * 60)


def test_memory_is_limited() -> None:
    with pytest.raises(Failed, match="more than 128 MiB of memory"):
        Bounded("random:randbytes", 5, 128, needs="json")(n=2**28 - 1)


def test_a_process_that_cannot_start_is_named() -> None:
    with pytest.raises(MicotaError, match="a process for no_module:function does not start"):
        Bounded("no_module:function", 5, 256, needs="json")()


def test_a_job_over_which_two_processes_died_may_be_tried_again() -> None:
    leave = Bounded("os:_exit", 5, 256, needs="json")
    for _ in range(2):
        with pytest.raises(Died):
            leave(status=1)


def test_several_processes_serve_at_a_time() -> None:
    for workers in (1, 2):
        shell = Bounded("subprocess:getoutput", 5, 256, needs="json", workers=workers)
        with ThreadPoolExecutor(4) as threads:
            replies = [threads.submit(shell, cmd="sleep 0.3; echo $PPID") for _ in range(4)]
        assert len({reply.result() for reply in replies}) == workers


def test_one_process_serves_many_jobs_and_a_fork_has_its_own() -> None:
    pid = Bounded("os:getpid", 5, 512, needs="json")
    first = pid()
    assert first == pid() != os.getpid()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, str(pid()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 20)) not in (first, os.getpid())
    assert pid() == first


def test_a_killed_process_that_waited_costs_no_job() -> None:
    """Whoever kills idle processes, such as a system short of memory, says nothing about the next job."""
    pid = Bounded("os:getpid", 5, 256, needs="json", workers=2)
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(pid) for _ in range(8)]
    for one in {job.result() for job in jobs}:
        os.kill(one, signal.SIGKILL)
    assert pid() not in {job.result() for job in jobs}


def test_a_process_killed_while_it_starts_is_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    start, children = subprocess.Popen, []

    def killed_at_first(*words: Any, **more: Any) -> Any:
        children.append(start(*words, **more))
        if len(children) == 1:
            children[0].kill()
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", killed_at_first)
    assert Bounded("os:getpid", 5, 256, needs="json")() == children[1].pid


def test_a_stopped_process_is_given_up_though_its_job_does_not_fit_into_the_pipe() -> None:
    join = Bounded("os.path:join", 0.1, 256, needs="json")
    assert join(a="x") == "x"
    os.kill(join._idle[0]._child.pid, signal.SIGSTOP)
    assert join(a="x" * 2**20) == "x" * 2**20
