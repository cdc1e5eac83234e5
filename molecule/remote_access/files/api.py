#!/usr/bin/python3
"""Stands for the fleet's api, which is not part of a device: who may log in, by fingerprint.

/var/lib/api/allowed.json has it, {"SHA256:…": {"user": "…", "line": "…"}}; what was asked is in
/var/lib/api/asked, a line each.
"""

import http.server
import json
import ssl
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HOME = Path("/var/lib/api")
PATH = "/device/v3/0123456789abcdef0123456789abcdef/ssh-keys"
KEY = "Bearer 5ecre7-0f-th3-dev1ce"


class Handler(http.server.BaseHTTPRequestHandler):
    """GET /device/v3/{uuid}/ssh-keys."""

    def do_GET(self) -> None:
        """One answer."""
        url = urlsplit(self.path)
        fingerprint = parse_qs(url.query).get("fingerprint", [""])[0]
        known = self.headers.get("Authorization") == KEY and url.path == PATH
        with (HOME / "asked").open("a") as asked:
            asked.write(f"{fingerprint} {'known' if known else 'unknown'}\n")
        found = json.loads((HOME / "allowed.json").read_text()).get(fingerprint)
        self.send_response(200 if known and found else 404 if known else 401)
        self.end_headers()
        if known and found:
            self.wfile.write(json.dumps(found).encode())


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(HOME / "api.crt", HOME / "api.key")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
