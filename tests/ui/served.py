"""A page on this machine that mounts a view without Jupyter: its questions go to a real `Screen` by HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from workbench.view.crossing import Answer
from workbench.view.script import script, style

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>view</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/view.css">
<style>body { margin: 0; background: Canvas; color-scheme: light dark; }</style>
<body><div id="place"></div><script type="module" src="/mount.js"></script></body></html>"""

MOUNT = """
import { render } from "/widget.js";
class Model {
  constructor(options) { this.options = options; this.heard = []; }
  get() { return this.options; }
  on(name, callback) { this.heard.push(callback); }
  off(name, callback) { this.heard = this.heard.filter((one) => one !== callback); }
  async send(question) {
    const bytes = await (await fetch("/ask", { method: "POST", body: JSON.stringify(question) })).arrayBuffer();
    const sizes = new Uint32Array(bytes, 4, new Uint32Array(bytes, 0, 1)[0]);
    let at = Math.ceil((4 + 4 * sizes.length) / 8) * 8;
    const views = [];
    for (const size of sizes) {
      views.push(new DataView(bytes, at, size));
      at += Math.ceil(size / 8) * 8;
    }
    const [first, ...buffers] = views;
    const message = JSON.parse(new TextDecoder().decode(first));
    for (const callback of this.heard) callback({ ...message, id: question.id }, buffers);
  }
}
const options = JSON.parse(decodeURIComponent(location.hash.slice(1)) || "{}");
window.model = new Model(options);
window.stop = await render({ model: window.model, el: document.getElementById("place") });
"""

Answering = Callable[[dict[str, Any]], Answer]


@contextmanager
def serving(answering: Answering, page: str = PAGE) -> Iterator[str]:
    """The address of the page."""
    files = {
        "/": ("text/html", page),
        "/mount.js": ("text/javascript", MOUNT),
        "/widget.js": ("text/javascript", script("widget")),
        "/view.css": ("text/css", style()),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, text = files.get(self.path, ("", ""))
            self.reply(200 if kind else 404, kind or "text/plain", text.encode())

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(200, "application/octet-stream", answering(question).packed())

        def reply(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
