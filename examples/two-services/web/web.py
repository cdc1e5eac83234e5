"""Shows the worker's last readings: on `/` for people, on `/readings` as JSON."""

import json
import os
import signal
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8080
WORKER_URL = os.environ.get("WORKER_URL", "http://worker:8081")
DEVICE = os.environ.get("RESIN_DEVICE_NAME_AT_INIT", "this device")


def fetch_readings() -> list[dict[str, Any]]:
    """The readings that the worker has, oldest first."""
    url = f"{WORKER_URL}/readings.ndjson"
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
        return [json.loads(line) for line in answer.read().splitlines() if line.strip()]


class Handler(BaseHTTPRequestHandler):
    """Two pages; an error when the worker is away."""

    def do_GET(self) -> None:
        """Serves one page."""
        if self.path not in ("/", "/readings"):
            self._answer(404, "text/plain", "there is / and /readings\n")
            return
        try:
            readings = fetch_readings()
        except (OSError, ValueError) as error:
            self._answer(502, "text/plain", f"the worker does not answer: {error}\n")
            return
        if self.path == "/readings":
            self._answer(200, "application/json", json.dumps(readings))
            return
        lines = [f"{each['number']:>6}  {each['time']}  load {each['load']}" for each in readings]
        self._answer(200, "text/plain", "\n".join([f"Readings of {DEVICE}:", *lines, ""]))

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # As its container's first process it would not heed SIGTERM, and be killed after ten seconds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"web: listening on port {PORT}, readings come from {WORKER_URL}", flush=True)
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
