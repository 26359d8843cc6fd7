"""The connection to a server that may be broken or hostile: no redirects, and no body without end, packed or not."""

from __future__ import annotations

import os
import zlib
from typing import Any

from micota.errors import MicotaError
from micota.machine import EngineConfig

MOST = 8 * 2**20  # bytes of a body, unpacked


def bounded_client(library: Any, most: int = MOST) -> Any:
    """An HTTP client for the `openai` library that reads `most` bytes of a body at most, and follows no redirect."""

    class Client(library.DefaultAsyncHttpxClient):  # type: ignore[misc]
        """Reads each body here, packed or not."""

        async def send(self, request: Any, **options: Any) -> Any:
            """The whole response; in the place of a body beyond the bound stands a remark."""
            response = await super().send(request, **{**options, "stream": True})
            packed = response.headers.get("content-encoding", "identity").lower()
            try:
                body = await _body(response, packed, max(most, MOST))
            finally:
                await response.aclose()
            drop = ("content-encoding", "content-length", "transfer-encoding")
            headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in drop]
            return type(response)(response.status_code, headers=headers, content=body, request=request)

    return Client(follow_redirects=False, headers={"accept-encoding": "gzip"})


async def _body(response: Any, packed: str, most: int) -> bytes:
    unpack = zlib.decompressobj(47) if packed in ("gzip", "deflate") else None
    if unpack is None and packed != "identity":
        return f"<a body packed as {packed:.20}>".encode()
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += unpack.decompress(chunk, most + 1 - len(body)) if unpack else chunk
            if len(body) > most:
                return f"<a body of more than {most:,} bytes>".encode()
    except zlib.error:
        return b"<a body that cannot be unpacked>"
    return bytes(body)


def key(place: EngineConfig) -> str | None:
    """The key in the environment variable that a profile names."""
    if place.key_env is None:
        return None
    key = os.environ.get(place.key_env)
    if not key:
        raise MicotaError(f"the environment variable {place.key_env} is not set", fix=f"export {place.key_env}=...")
    return key


def tries(place: EngineConfig) -> int:
    """The client's retries that last as long as the patience: its pauses double from 0.5 to 8 s, less a quarter."""
    number, lasted = 0, 0.0
    while lasted < place.patience_s:
        lasted += 0.75 * min(0.5 * 2**number, 8.0)
        number += 1
    return number
