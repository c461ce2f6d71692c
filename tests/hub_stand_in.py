"""A stand-in of the Hugging Face hub's API: repositories in memory, for tests of uploads and downloads.

It answers the requests that huggingface_hub makes for `create_repo`, `upload_folder` and `snapshot_download`.
"""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SHA = "0" * 40  # the commit of every repository


class Hub(ThreadingHTTPServer):
    """The server. `repositories` maps OWNER/NAME to {file: content}, and `requests` lists method and path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def _answer(self, content: object, code: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"POST {self.path}")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.server.repositories.setdefault(name, {})
            self._answer({"url": f"{self.server.address}/{name}"})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for file in json.loads(body)["files"]]  # fmt: skip
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self._repository()[value["path"]] = base64.b64decode(value["content"])
            address = f"{self.server.address}/{self._name()}/commit/{SHA}"
            self._answer({"success": True, "commitOid": SHA, "commitUrl": address})
        else:
            self._answer({})

    def _name(self) -> str:
        """OWNER/NAME in the request's path."""
        return "/".join(self.path.removeprefix("/api/models").strip("/").split("/")[:2])

    def _repository(self) -> dict[str, bytes]:
        return self.server.repositories[self._name()]

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        path = unquote(self.path.split("?")[0])
        try:
            files = self._repository()
        except KeyError:
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return
        if "/resolve/" in path:
            content = files[path.split("/resolve/")[1].partition("/")[2]]
            self._answer(content, headers={"ETag": hashlib.sha256(content).hexdigest(), "X-Repo-Commit": SHA})
        elif "/tree/" in path:
            tree = [{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()]  # fmt: skip
            self._answer(tree)
        else:
            siblings = [{"rfilename": name} for name in files]
            self._answer({"id": "OWNER/NAME", "sha": SHA, "private": False, "siblings": siblings, "tags": []})

    do_HEAD = do_GET


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A context manager that serves an empty hub on this machine."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
