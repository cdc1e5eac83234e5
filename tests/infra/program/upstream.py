"""Stands in for a fleet's services: run in a container, by its text, with a name to tell.

HTTP on 8080, 8081 and 5000 says what it was asked; `/slow` writes a line, waits, and writes one
more; an upgrade is answered and what follows is sent back, until `bye`. TCP on 1194 says its name
and
sends back what comes, and so does TLS on 3129.
"""

import base64
import hashlib
import json
import socketserver
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = sys.argv[-1].encode()
CERTIFICATE, KEY = Path("/etc/gantry/tls.crt"), Path("/etc/gantry/tls.key")


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        while size > 0:
            size -= len(self.rfile.read(min(size, 1 << 20)))
        if self.headers.get("Upgrade"):
            return self.upgraded()
        self.send_response(200)
        self.send_header("Set-Cookie", "session=SECRET-COOKIE")
        if "slow" in self.path:
            return self.slow()
        asked = {
            "name": NAME.decode(),
            "port": self.server.server_port,  # type: ignore[attr-defined]
            "client_port": self.client_address[1],
            "host": self.headers["Host"],
            "path": self.path,
            "headers": dict(self.headers),
        }
        # The registry's answer to a push is empty.
        body = b"" if self.command == "PUT" else json.dumps(asked).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    do_POST = do_PUT = do_GET  # noqa: N815 - names that http.server looks for

    def slow(self) -> None:
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"first\n")
        self.wfile.flush()
        time.sleep(3)
        self.wfile.write(b"second\n")
        self.close_connection = True

    def upgraded(self) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", self.headers["Upgrade"])
        # RFC 6455, section 4.2.2.
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        digest = hashlib.sha1(key.encode(), usedforsecurity=False).digest()
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.wfile.flush()
        while (line := self.rfile.readline()) not in (b"", b"bye\n"):
            self.wfile.write(line)
            self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(NAME + b"\n")
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 50


class TlsServer(Server):
    def finish_request(self, request: Any, client_address: Any) -> None:
        trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trust.load_cert_chain(CERTIFICATE, KEY)
        with trust.wrap_socket(request, server_side=True) as stream:
            super().finish_request(stream, client_address)


servers = [ThreadingHTTPServer(("", port), Web) for port in (8080, 8081, 5000)]
servers.append(Server(("", 1194), Echo))  # type: ignore[arg-type]
if CERTIFICATE.exists():
    servers.append(TlsServer(("", 3129), Echo))  # type: ignore[arg-type]
for each in servers:
    threading.Thread(target=each.serve_forever).start()
