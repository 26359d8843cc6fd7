"""What goes wrong with a server, in words that say what to change; none of them repeats the key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from micota.errors import MicotaError
from micota.machine import EngineConfig
from micota.store.records import Request
from micota.store.resolution import ENDPOINT

PIECE = 6  # letters of a key that are masked in messages
SENT = (
    *("max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "min_p"),
    "repetition_penalty",
)
UNKNOWN = re.compile(
    r"un(supported|recogni[sz]ed|known|expected)|not (supported|permitted|allowed)|extra|does not", re.I
)


@dataclass(frozen=True)
class ServerErrors:
    """The errors of one server of a machine profile, which serves a model under the name `served`."""

    place: EngineConfig
    served: str
    key: str | None

    @property
    def where(self) -> str:
        """`fake at 127.0.0.1:8000`, without the rest of the address."""
        return f"{self.served} at {urlsplit(self.place.url or '').netloc}"

    def other_prompt(self, request: Request, ours: int, theirs: int) -> MicotaError:
        """The server counts other tokens in a prompt than the model's own template gives."""
        return MicotaError(
            f"the prompt of problem {request.key} has {theirs} tokens on the server, {ours} by the model's template",
            where=self.where,
            why="the server puts something else before the model, such as a template or a system prompt of its own, "
            "or it ignores chat_template_kwargs",
            fix=f"serve the model as it is, or name it in the recipe as a model of its own: {ENDPOINT}{self.served}",
        )

    def endless(self) -> MicotaError:
        """The server does not say why its answers end."""
        return MicotaError(
            "the server does not say how its answers end: finish_reason is null",
            where=self.where,
            why="without it a cut answer looks like a whole one",
            fix="generate with another server, or another engine",
        )

    def uncounted(self) -> MicotaError:
        """The server counts no tokens, and the model's tokenizer is not here."""
        return MicotaError(
            "the server does not count its tokens: `usage` is missing, null or zero",
            where=self.where,
            why="the length of an answer is a result, and the budget needs it",
            fix="have it report usage, or name the model by its Hub id or folder: its tokenizer counts here then",
        )

    def refused(self, request: Request | None, error: Any) -> MicotaError:
        """What a status code of 400 or more means, after the client's retries."""
        message, code = self.clean(error), error.status_code
        if code in (401, 403):
            which = self.place.key_env
            fix = f"check the key in {which}" if which else "name the variable that holds the key: key_env: NAME"
            return MicotaError(f"the server refuses the key: {message}", where=self.where, fix=fix)
        if code in (408, 409, 429) or code >= 500:
            return self.silent(message)
        if code < 400:
            to = self.masked(error.response.headers.get("location", "nowhere"))
            why = "prompts and key go to no address but that of the profile"
            return MicotaError(f"the server redirects to {to}", where=self.where, why=why, fix="write url: as it is")
        if code in (404, 405) and self.served not in message:
            fix = "check url in the machine profile: it usually ends in /v1, as in http://127.0.0.1:8000/v1"
            return MicotaError(f"there is no such interface at the address: {message}", where=self.where, fix=fix)
        if UNKNOWN.search(message) and (
            field := next((one for one in SENT if re.search(rf"\b{one}\b", message)), None)
        ):
            fix = "change sampling so that it is not needed: seed and top_p are sent at temperatures above 0 only"
            return MicotaError(f"the server refuses the field `{field}`: {message}", where=self.where, fix=fix)
        about = f"the problem {request.key}" if request else "the request"
        fix = "change what the message names, or remove that problem from the set"
        return MicotaError(f"the server refuses {about}: {message}", where=self.where, fix=fix)

    def silent(self, message: str) -> MicotaError:
        """Nothing came for as long as the profile is patient."""
        return MicotaError(
            f"the server gives no answer: {message}",
            where=self.where,
            why=f"the request was repeated for {self.place.patience_s:g} s",
            fix="start the server or raise patience_s, then repeat the command: it continues with what is missing",
        )

    def clean(self, error: Exception) -> str:
        """An error's message without the key, should the server repeat it."""
        return self.masked(" ".join(str(error)[:4_000].split()))[:500]

    def masked(self, text: str) -> str:
        """A message without the key or six letters of it in a row, taken apart or written backwards."""
        marked: set[int] = set()
        for key in (self.key, self.key[::-1]) if self.key else ():
            for i in range(max(1, len(key) - PIECE + 1)):
                apart = "[^A-Za-z0-9]{0,3}".join(map(re.escape, key[i : i + PIECE]))
                for found in re.finditer(f"(?=({apart}))", text, re.IGNORECASE):
                    marked.update(range(*found.span(1)))
        hidden = "".join("\0" if i in marked else one for i, one in enumerate(text))
        return re.sub("\0+", "***", hidden)
