"""A server on this machine that answers as Hugging Face's hub does, with repositories of the test's own."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Files by "owner/name/file". `claims` are hashes and sizes that it says in place of the true ones."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def answer(self, with_content: bool) -> None:
        hub: Hub = self.server.hub
        hub.asked.append(f"{self.command} {self.path}")
        owner, name, resolve, revision, file = [*self.path.lstrip("/").split("/", 4), "", "", ""][:5]
        content = hub.files.get(f"{owner}/{name}/{file}")
        known = any(key.startswith(f"{owner}/{name}/") for key in hub.files)
        if content is None or resolve != "resolve" or revision not in ("main", COMMIT):
            self.send_response(404)
            missing = "EntryNotFound" if revision in ("main", COMMIT) else "RevisionNotFound"
            self.send_header("X-Error-Code", missing if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        digest, size = hub.claims.get(file, (hashlib.sha256(content).hexdigest(), len(content)))
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Content-Length", str(size if not with_content else len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serving() -> Iterator[Hub]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.hub = Hub(f"http://127.0.0.1:{running.server_port}")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running.hub
        running.shutdown()
        thread.join(60)
