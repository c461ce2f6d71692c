"""The server of the web page of `predict.py --serve`. predict.py calls `serve_page`.

Gradio has many addresses that this page doesn't need: for uploads, for files of this machine, for other web sites.
`Guard` closes all addresses except those of the page.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dassl.utils import InputError
from dassl.utils.stopping import Terminated
from inference.page import MAX_TOTAL, ServedRun

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL = "127.0.0.1"
LOOPBACK = (LOCAL, "localhost")  # names of this machine that others can't reach
#: Addresses that the page needs. An address that ends in "/" includes all addresses below it.
OPEN = (
    "/assets/",
    "/static/",
    "/config",
    "/favicon.ico",
    "/gradio_api/heartbeat/",
    "/gradio_api/queue/data",
    "/gradio_api/queue/join",
    "/gradio_api/startup-events",
    "/theme.css",
)
#: Largest request in bytes: base64 needs 4 characters for 3 bytes, and the class names need some space, too.
MAX_REQUEST = MAX_TOTAL * 4 // 3 + 2**20


class Guard:
    """ASGI middleware that only lets through requests that the page makes."""

    def __init__(self, app: "ASGIApp"):
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        status = refusal(scope) if scope["type"] == "http" else 0
        if not status:
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": status, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})


def refusal(scope: "Scope") -> int:
    """Return the HTTP status with which a request is refused, or 0 if it isn't."""
    path = scope["path"]
    if path != "/" and not any(path == each or (each.endswith("/") and path.startswith(each)) for each in OPEN):
        return 404
    if scope["method"] in ("GET", "HEAD"):
        return 0
    length = dict(scope["headers"]).get(b"content-length", b"")  # a body without a length could be endless
    if not length.isdigit():
        return 411
    return 413 if int(length) > MAX_REQUEST else 0


def serve_page(runs: Sequence[ServedRun], topk: int, host: str = LOCAL, port: int | None = None) -> None:
    """Show the page until the user stops the program.

    Args:
        topk: number of classes per image that is shown at first.
        host: address of this machine to which the server binds.
        port: None: the first free port from 7860.

    Raises:
        InputError: the server can't use the host or the port.
    """
    with PageServer(runs, topk, host, port) as address:
        try:
            print(f"The page is at {address}. Press Ctrl-C to stop.", file=sys.stderr)
            if host not in LOOPBACK:
                print(f"warning: everybody who can reach {host} can use the page", file=sys.stderr)
            threading.Event().wait()
        except (KeyboardInterrupt, Terminated):
            print("stopped", file=sys.stderr)


class PageServer:
    """A context manager that serves the page and gives its address. Arguments and errors as in `serve_page`."""

    def __init__(self, runs: Sequence[ServedRun], topk: int, host: str = LOCAL, port: int | None = None):
        self.runs, self.topk, self.host, self.port = runs, topk, host, port

    def __enter__(self) -> str:
        self._folder = tempfile.TemporaryDirectory(prefix="page-")
        _set_environment(self._folder.name)
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from inference.page_app import CSS, build_page

        # A web site whose name leads to this machine must not read the page. Its requests name the site as their host.
        hosts = [*LOOPBACK] if self.host in LOOPBACK else ["*"]
        self._blocks = build_page(self.runs, self.topk)
        try:
            _, address, _ = self._blocks.launch(
                server_name=self.host,
                server_port=self.port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
                run_history=False,
                footer_links=[],
                inbrowser=False,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=CSS,
                app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Guard)]},
            )
        except OSError as error:
            self._folder.cleanup()
            where = f"port {self.port} (--port)" if self.port else "a port from 7860"
            raise InputError(
                f"can't serve the page at {self.host} (--host) on {where}. Is the port in use, or the address wrong?"
            ) from error
        return str(address)

    def __exit__(self, *error: object) -> None:
        self._blocks.close(verbose=False)
        self._folder.cleanup()


def _set_environment(folder: str) -> None:
    """Set the environment variables that Gradio reads, so that only this module decides how the page is served."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = folder
    # Gradio asks its own server whether it is up, which must not go through a proxy.
    without = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, (without, *LOOPBACK)))
