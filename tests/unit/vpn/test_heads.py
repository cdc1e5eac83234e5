"""Heads of HTTP requests: what is asked for, with which secret, within limits."""

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.vpn.errors import VpnError
from gantry.vpn.heads import (
    Head,
    Target,
    answer,
    connect_target,
    parse_head,
    proxy_secret,
    read_head,
)

UUID = "5ca1ab1e" * 4


def head(first: str, *fields: str) -> Head:
    return parse_head("\r\n".join((first, *fields, "", "")).encode())


def status_of(first: str, *fields: str) -> int:
    with pytest.raises(VpnError) as caught:
        connect_target(head(first, *fields))
    return caught.value.status


@pytest.mark.parametrize("domain", ["gantry", "balena", "resin", "GANTRY"])
def test_targets(domain: str) -> None:
    assert connect_target(head(f"CONNECT {UUID}.{domain}:22 HTTP/1.1")) == Target(UUID, 22)
    assert connect_target(head(f"CONNECT {UUID[:7]}.{domain}:65535 HTTP/1.0")).port == 65535


@pytest.mark.parametrize(
    "target",
    [
        "example.com:80",
        f"{UUID}:80",
        f"{UUID}.gantry",
        f"{UUID}.gantry:",
        f"{UUID}.gantry:0",
        f"{UUID}.gantry:65536",
        f"{UUID}.gantry:-1",
        f"{UUID}.gantry:8०",
        f"{UUID[:6]}.gantry:80",
        f"{UUID * 2}.gantry:80",
        f"x.{UUID}.gantry:80",
        f"{UUID}.gantry.example:80",
        f"http://{UUID}.gantry:80/",
        "[::1]:80",
        "100.64.0.2:80",
        "",
    ],
)
def test_other_targets_are_refused(target: str) -> None:
    assert status_of(f"CONNECT {target} HTTP/1.1") == 400


def test_other_methods_are_refused() -> None:
    assert status_of(f"GET {UUID}.gantry:80 HTTP/1.1") == 405


@pytest.mark.parametrize("raw", [b"\r\n\r\n", b"CONNECT\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_what_is_no_http_is_refused(raw: bytes) -> None:
    with pytest.raises(VpnError, match="HTTP/1"):
        parse_head(raw)


@pytest.mark.parametrize("field", ["no colon", ": no name", " folded: x", "a : b"])
def test_fields_that_are_none_are_refused(field: str) -> None:
    with pytest.raises(VpnError, match="none"):
        head("GET / HTTP/1.1", field)


def test_secrets() -> None:
    def secret(value: str) -> str:
        return proxy_secret(head("CONNECT x HTTP/1.1", f"Proxy-Authorization: {value}"))

    basic = base64.b64encode(b"anybody:t0ken:x").decode()
    assert secret("Bearer t0ken") == secret("bearer  t0ken ") == "t0ken"
    assert secret(f"Basic {basic}") == "t0ken:x"
    wrong = ["", "Bearer", "Bearer ", "Basic", "Basic !", "Digest x", "t0ken", "Bearer ü"]
    wrong += ["Basic " + base64.b64encode(each).decode() for each in (b"user", b"user:", b"\xff:x")]
    for each in wrong:
        with pytest.raises(VpnError) as caught:
            secret(each)
        assert caught.value.status == 407


def read(content: bytes, limit: int = 100, seconds: float = 5) -> Head | None:
    async def run() -> Head | None:
        reader = asyncio.StreamReader(limit)
        reader.feed_data(content)
        if seconds == 5:
            reader.feed_eof()
        return await read_head(reader, seconds)

    return asyncio.run(run())


def test_heads_are_read_within_limits() -> None:
    found = read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody")
    assert found
    assert found.raw == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert read(b"") is read(b"GET / HT") is None
    for content, seconds, status in (
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 200, 5, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 200 + b"\r\n\r\n", 5, 431),
        (b"GET /", 0.05, 408),
    ):
        with pytest.raises(VpnError) as caught:
            read(content, seconds=seconds)
        assert caught.value.status == status


@given(st.binary(max_size=300))
def test_no_bytes_are_anything_but_a_head_or_a_refusal(content: bytes) -> None:
    try:
        found = parse_head(content + b"\r\n\r\n")
    except VpnError as error:
        assert error.status == 400  # noqa: PT017 - either outcome is right
    else:
        assert len(found.first) == 3


def test_answers_say_how_long_they_are() -> None:
    text = answer(407, "wer da?\n")
    first, _, body = text.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
    assert b"Proxy-Authenticate: Basic" in first
    assert b"Content-Length: %d\r\n" % len(body) in first
    assert b"Retry-After" in answer(503, "later")
