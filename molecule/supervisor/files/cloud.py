"""The cloud side of a device, as far as its supervisor needs it: two fleets, each with its
provisioning key. What registers is in /root/registered.json. tests/e2e has the real api."""

import http.server
import json
import threading
import zlib
from pathlib import Path
from typing import Any

REGISTERED = Path("/root/registered.json")
# What devices are to run, once there is such a file: `apps` of the target state.
APPS = Path("/root/apps.json")
# Which supervisor devices are to run, once there is such a file: `supervisor` of the target state.
SUPERVISOR = Path("/root/supervisor.json")
# Every log line that arrived, one a line.
LINES = Path("/root/lines.json")
_LOCK = threading.Lock()
FLEETS = {"key-of-fleet-1": 1, "key-of-fleet-2": 2}


def registered() -> list[dict[str, Any]]:
    """Every registration, in their order."""
    return json.loads(REGISTERED.read_text()) if REGISTERED.exists() else []


class Handler(http.server.BaseHTTPRequestHandler):
    """Registers devices, tells them what to run, takes their lines."""

    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _take_lines(self) -> None:
        """A stream of chunks of gzip, each line a JSON object."""
        inflate = zlib.decompressobj(wbits=31)
        text = b""
        while size := int(self.rfile.readline() or b"0", 16):
            text += inflate.decompress(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        with _LOCK, LINES.open("ab") as file:
            file.write(text)
        self._answer(201, {})

    def do_POST(self) -> None:
        """Register, or take log lines."""
        if self.path.endswith("/log-stream"):
            self._take_lines()
            return
        body = self._body()
        asked = json.loads(body)
        if FLEETS.get(self._key()) != asked["application"]:
            self._answer(401, {"error": "no such key"})
            return
        known = registered()
        if any(each["uuid"] == asked["uuid"] for each in known):
            self._answer(409, {"error": "that uuid is registered"})
            return
        REGISTERED.write_text(json.dumps([*known, asked]))
        answer = {"id": len(known) + 1, "uuid": asked["uuid"], "api_key": asked["api_key"]}
        self._answer(201, answer)

    def do_GET(self) -> None:
        """The target of a device that shows its own key."""
        uuid = self.path.removeprefix("/device/v3/").partition("/")[0]
        keys = {each["uuid"]: each["api_key"] for each in registered()}
        if not self.path.endswith("/state"):
            self._answer(404, {"error": "no such thing"})
        elif keys.get(uuid) != self._key():
            self._answer(401, {"error": "no such device"})
        else:
            apps = json.loads(APPS.read_text()) if APPS.exists() else {}
            target = {"name": "quiet-robot", "config": {}, "apps": apps}
            if SUPERVISOR.exists():
                target["supervisor"] = json.loads(SUPERVISOR.read_text())
            self._answer(200, {uuid: target})

    def do_PATCH(self) -> None:
        """Take a report."""
        self._body()
        self._answer(200, {})

    def log_message(self, *_: object) -> None:
        """Nothing: it would fill the journal."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
