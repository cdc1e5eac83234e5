"""The api's stand-in: a real HTTP server that speaks the contract of `/services/builder` and signs
registry tokens. Tests look at what it was told, and make it refuse."""

import base64
import json
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HOST = "test.gantry.internal"
PORT = 8443
REGISTRY = f"registry.{HOST}:{PORT}"
BUILDER_KEY = "service-key-of-the-builder"
USER_TOKEN = "token-of-a-user"


@dataclass(frozen=True)
class Authority:
    """The fleet's CA, and what it signed."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_certificate("test CA", key, None, ()), key)

    def issue(self, *names: str) -> tuple[str, str]:
        """`(certificate, key)` as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return _pem(_certificate(names[0], key, self, names)), _key_pem(key)

    @property
    def pem(self) -> str:
        return _pem(self.certificate)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: Authority | None, names: tuple[str, ...]
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names or (name,)])
    signer = issuer.key if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(alternative, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(*[True] + 4 * [False] + [issuer is None] * 2 + 2 * [False]),
            critical=True,
        )
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class StandIn:
    """What the api was told, and what it is to answer."""

    token_certificate: str
    token_key: str
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    repositories: dict[tuple[int, str], str] = field(default_factory=dict)
    recovered: list[str] = field(default_factory=list)
    supervisors: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    # Repositories that were pushed to, and leases of pushes that are not over.
    pushed: list[str] = field(default_factory=list)
    pushing: set[int] = field(default_factory=set)

    def create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refusal:
            return 409, {"error": self.refusal}
        for known, release in self.releases.items():
            if release["commit"] == body["commit"] and release["status"] == "success":
                return 200, {"release_id": known, "images": [], "already": True}
        release_id = len(self.releases) + 1
        images = []
        for service in body["services"]:
            key = (body["application_id"], service)
            repository = self.repositories.setdefault(key, f"v2/{uuid.uuid4().hex}")
            image_id = 100 * release_id + len(images)
            images.append({"image_id": image_id, "service": service, "repository": repository})
        self.releases[release_id] = {**body, "status": "running"}
        return 201, {"release_id": release_id, "images": images}

    def token(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """All that is asked for, as the builder may."""
        scopes = [each.split(":") for each in query.get("scope", ())]
        access = [{"type": t, "name": n, "actions": a.split(",")} for t, n, a in scopes]
        now = int(time.time())
        claims = {"iss": f"api.{HOST}", "sub": "builder", "aud": REGISTRY, "access": access}
        claims |= {"iat": now, "nbf": now - 30, "exp": now + 3600, "jti": uuid.uuid4().hex}
        der = x509.load_pem_x509_certificate(self.token_certificate.encode()).public_bytes(
            Encoding.DER
        )
        headers = {"x5c": [base64.b64encode(der).decode()]}
        token = jwt.encode(claims, self.token_key, algorithm="ES256", headers=headers)
        return {"token": token, "access_token": token, "expires_in": 3600}


def _handler(state: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _body(self) -> dict[str, Any]:
            return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            authorization = self.headers.get("Authorization", "")
            if url.path == "/auth/v1/token":
                expected = base64.b64encode(f"builder:{BUILDER_KEY}".encode()).decode()
                if authorization != f"Basic {expected}":
                    return self._answer(401, {"error": "who are you?"})
                return self._answer(200, state.token(parse_qs(url.query)))
            known = authorization == f"Bearer {USER_TOKEN}"
            return self._answer(200 if known else 401, {"d": [{"id": 1}] if known else []})

        def do_POST(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {BUILDER_KEY}":
                return self._answer(401, {"error": "not the builder"})
            body = self._body()
            if self.path == "/services/builder/recover":
                state.recovered.append(body["builder"])
                return self._answer(200, {})
            if self.path == "/services/builder/supervisors":
                state.supervisors.append(body)
                return self._answer(200, {"release_id": 1})
            if self.path == "/services/builder/pushes":
                state.pushed.append(body["repository"])
                state.pushing.add(len(state.pushed))
                return self._answer(201, {"push": len(state.pushed), "seconds": 120})
            return self._answer(*state.create(body))

        def do_PUT(self) -> None:
            push = int(self.path.rpartition("/")[2])
            self._answer(204 if push in state.pushing else 404, {})

        def do_DELETE(self) -> None:
            state.pushing.discard(int(self.path.rpartition("/")[2]))
            self._answer(204, {})

        def do_PATCH(self) -> None:
            release_id = int(self.path.rpartition("/")[2])
            state.releases[release_id] |= self._body()
            self._answer(200, {})

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


def serve(
    state: StandIn,
    context: ssl.SSLContext | None = None,
    address: tuple[str, int] = ("0.0.0.0", 0),  # noqa: S104
) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(address, _handler(state))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
