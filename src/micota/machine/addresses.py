"""Addresses of servers: what may stand in one, and whether micota's fake server answers there."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlsplit

_KEY = re.compile(  # what can be a key in a path; words, versions and numbers of a deployment are none
    r"[=;@%&#,:]|/(api[-_]?key|key|token|secret|auth|bearer|password)s?/|/(sk|pk|rk|hf|gsk|xai|ghp|nvapi|AIza|key|eyJ)[-_]?\w{8}"
    r"|/(?=[^/]*[A-Za-z])(?=[^/]*[0-9])[\w.~+-]{24,}(/|$)",
    re.IGNORECASE,
)
FAKE_SERVER = "micota-fake"  # what our fake server calls itself
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_url(url: str) -> None:
    """Refuse what is no address, or holds more than one. Raises ValueError; a refused value is not repeated."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url is no address: write it as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment or _KEY.search(parts.path):
        raise ValueError("url holds more than an address: a key goes into the variable that key_env names")


def is_fake_server(url: str) -> bool:
    """Whether our fake server answers there; it runs on the machine that asks, so no other one is asked."""
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK or parts.scheme != "http":
        return False
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=2)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/models")
        return str(connection.getresponse().getheader("Server")).startswith(FAKE_SERVER)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
