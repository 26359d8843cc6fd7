"""The web server on this machine alone: who may ask, what a browser may do with the pages, and the addresses.

Response text is hostile. It is shown as text; no page holds a script or a style; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import escape

from micota.errors import MicotaError
from micota.report.render import environment
from micota.report.texts import TEMPLATES
from micota.viewer import accuracy_page, data_pages
from micota.viewer.pages import PAGES, View
from micota.viewer.response_pages import flat, lines

HERE = Path(__file__).parent
HOSTS = ("127.0.0.1", "localhost")
POLICY = "; ".join([
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
    "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
])  # fmt: skip
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
FILES = ("htmx.min.js", "view.js", "static.js", "view.css", "view.svg")


class Guard:
    """Lets in who names this machine and knows the token, to read; sets the headers of every reply.

    A foreign page that has its own name resolve to 127.0.0.1 sends that name as Host, and is refused by it.
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        from starlette.responses import PlainTextResponse

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        if scope["type"] == "http":
            refused = self._refused(scope)
            app = PlainTextResponse(refused[1], refused[0]) if refused else self.app
            await app(scope, receive, headed)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)

    def _refused(self, scope: Any) -> tuple[int, str] | None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0].rpartition(":")[0 if ":" in hosts[0] else 2] not in HOSTS:
            return 400, "This page is only at 127.0.0.1.\n"
        token = scope["path"].split("/")[1] if "/" in scope["path"] else ""
        if not secrets.compare_digest(token.encode(errors="replace"), self.token.encode()):
            return 403, "The address lacks the token that micota view printed.\n"
        return None if scope["method"] in ("GET", "HEAD") else (405, "This page can only be read.\n")


Link = Callable[..., str | None]


def render(view: View, page: str, query: Mapping[str, Any], link: Link, static: bool = False) -> str:
    """A page as HTML; `link(page, query)` gives the address of another one, None where there is none."""
    context = {"page_name": page, "view": view, "query": query, "link": link, "flat": flat, "static": static}
    template = environment(escape, HERE / "templates").get_template(f"{page}.html")
    return template.render(**context, **PAGES[page](view, query)).lstrip()


def file(name: str) -> str:
    """A script or the style sheet; the latter is that of the report with what the pages need beside."""
    text = (HERE / "static" / name).read_text(encoding="utf-8")
    return (TEMPLATES / "report.css").read_text(encoding="utf-8") + text if name == "view.css" else text


def application(view: View, token: str) -> Any:
    """The web application (ASGI) of a view; every address begins with the token."""
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
    from starlette.routing import Mount, Route

    def link(page: str, query: Mapping[str, Any] | None = None) -> str:
        words = urlencode(query or {}, doseq=True)
        return f"/{token}/{page}" + (f"?{words}" if words else "")

    def asked(request: Any) -> dict[str, list[str]]:
        return {
            name: found
            for name in request.query_params
            if (found := [*filter(None, request.query_params.getlist(name))])
        }

    def shown(request: Any) -> Any:
        page = request.path_params["page"]
        if page == "lengths.png":
            return Response(data_pages.png(view.answers.files.results), media_type="image/png")
        if page in FILES:
            return PlainTextResponse(file(page), media_type=TYPES[page.rpartition(".")[2]])
        if page not in PAGES:
            return PlainTextResponse("There is no such page.\n", 404)
        return HTMLResponse(render(view, page, asked(request), link))

    def refused(request: Any, error: Exception) -> Any:
        return PlainTextResponse(f"{error}\n", 400)

    def download(request: Any) -> Any:
        named = {"content-disposition": 'attachment; filename="responses.jsonl"'}
        return StreamingResponse(lines(view.answers, asked(request)), media_type="application/x-ndjson", headers=named)

    def first(request: Any) -> Any:
        return RedirectResponse(link("responses" if view.base else "lineage"))

    routes = [Route("/", first), Route("/responses.jsonl", download), Route("/{page}", shown)]
    return Guard(
        Starlette(routes=[Mount(f"/{token}", routes=routes)], exception_handlers={MicotaError: refused}), token
    )


def serve(view: View, port: int, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `say` is given the address. Port 0 is any free one."""
    import socket

    import uvicorn

    token, stop = secrets.token_urlsafe(24), threading.Event()
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(100)  # who comes at once waits for the server
        except OSError as error:
            raise MicotaError(f"port {port} of 127.0.0.1: {error.strerror}", fix="--port 0 takes a free one") from None
        say(f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/")
        reader = threading.Thread(target=view.follow, args=[stop], daemon=True)
        reader.start()
        threading.Thread(target=accuracy_page.prepare, daemon=True).start()
        config = uvicorn.Config(application(view, token), log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listener])
        stop.set()
