"""The family's redsocks.conf and host-config bodies, read and written. Pure.

The body is that of `PATCH /v1/device/host-config`; the file's form is that of redsocks
(https://github.com/darkk/redsocks/blob/master/redsocks.conf.example).
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor.host.doorway import HostRequestError

TYPES = ("socks4", "socks5", "http-connect", "http-relay")
_FIELDS = ("type", "ip", "port", "login", "password")
_QUOTED = ("login", "password")
_DEFAULT_DNS = "8.8.8.8:53"
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
# Comments, quoted texts, punctuation, words.
_WORDS = re.compile(r'#.*|//.*|/\*[\s\S]*?\*/|"[^"]*"|[{}=;]|[^\s{}=;"]+')
_COMMENTS = ("#", "//", "/*")
_BASE = """base {
\tlog_debug = off;
\tlog_info = on;
\tlog = stderr;
\tdaemon = off;
\tredirector = iptables;
}
"""


@dataclass(frozen=True, slots=True)
class HostConfigChange:
    """What a body asks for. None: stays as it is; empty: back to the default.

    `proxy` are fields of redsocks.conf as texts, with `dns` as `address:port` or '' for none.
    """

    hostname: str | None = None
    proxy: Mapping[str, str] | None = None
    no_proxy: tuple[str, ...] | None = None


def read_change(body: Mapping[str, Any]) -> HostConfigChange:
    """What the body of `PATCH /v1/device/host-config` asks for.

    Raises:
        HostRequestError: it is not in order; the message says what to give.
    """
    network = body.get("network")
    if not isinstance(network, Mapping):
        raise HostRequestError('the body has no network: give {"network": {"hostname": …}}')
    hostname = None
    if "hostname" in network:
        hostname = str(network["hostname"] or "")
        if hostname and not _HOSTNAME.fullmatch(hostname):
            raise HostRequestError(
                f"hostname is {hostname[:80]!r}: use letters, digits and -, at most 63 of them"
            )
    proxy: dict[str, str] | None = None
    no_proxy = None
    if "proxy" in network:
        given = network["proxy"] or {}
        if not isinstance(given, Mapping):
            raise HostRequestError("proxy is no object: give type, ip and port, or {} for none")
        if "noProxy" in given:
            no_proxy = _no_proxy(given["noProxy"])
        # With noProxy alone, which proxy it is stays as it was.
        if set(given) != {"noProxy"}:
            proxy = _proxy(given)
    return HostConfigChange(hostname, proxy, no_proxy)


def _no_proxy(value: object) -> tuple[str, ...]:
    if not value:
        return ()
    if not isinstance(value, list):
        raise HostRequestError('noProxy is no list: give addresses, ["10.1.2.0/24"]')
    for each in value:
        try:
            ipaddress.IPv4Network(each, strict=False)
        except (ValueError, TypeError) as error:
            raise HostRequestError(
                f"noProxy: {each!r:.80} is no IPv4 address or network"
            ) from error
    return tuple(str(each) for each in value)


def _proxy(given: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in given.items():
        if name == "noProxy":
            continue
        if name == "dns":
            found["dns"] = _dns(value)
            continue
        if name not in _FIELDS:
            raise HostRequestError(
                f"proxy: {name[:80]!r} is none of {', '.join(_FIELDS)}, dns, noProxy"
            )
        if value is None or value == "":
            found[name] = ""
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise HostRequestError(f"proxy: {name} is no text")
        found[name] = str(value)
        _check(name, found[name])
    return found


def _check(name: str, value: str) -> None:
    """Raises HostRequestError; what may be a password is not said."""
    if name == "type" and value not in TYPES:
        raise HostRequestError(f"proxy: type is {value[:80]!r}: give one of {', '.join(TYPES)}")
    if name == "ip" and not _ADDRESS.fullmatch(value):
        raise HostRequestError(f"proxy: ip is {value[:80]!r}: give an IPv4 address or a host name")
    if name == "port" and not (
        value.isascii() and value.isdecimal() and len(value) < 6 and 0 < int(value) < 65536
    ):
        raise HostRequestError(f"proxy: port is {value[:80]!r}: give 1 to 65535")
    if name in _QUOTED and (not value.isprintable() or set(value) & set('"\\')):
        raise HostRequestError(f'proxy: {name} has " or \\ in it, or control characters')


def _dns(value: object) -> str:
    if value is True:
        return _DEFAULT_DNS
    if not value:
        return ""
    address, _, port = str(value).rpartition(":")
    try:
        ipaddress.IPv4Address(address)
        _check("port", port)
    except ValueError as error:
        raise HostRequestError(
            f"proxy: dns is {value!r:.80}: give true, false or ADDRESS:PORT"
        ) from error
    return f"{address}:{port}"


def merged(current: Mapping[str, str], change: Mapping[str, str]) -> dict[str, str]:
    """The proxy after a change; {} for none.

    Raises:
        HostRequestError: it lacks what a proxy needs.
    """
    if not change:
        return {}
    found = {name: value for name, value in {**current, **change}.items() if value}
    missing = [name for name in ("type", "ip", "port") if name not in found]
    if missing:
        raise HostRequestError(f"proxy has no {', '.join(missing)}: a proxy needs type, ip, port")
    return found


def parse_redsocks(text: str) -> dict[str, str]:
    """The proxy in a redsocks.conf, as `merged` gives it; {} where there is none in it."""
    words = [each[0] for each in _WORDS.finditer(text) if not each[0].startswith(_COMMENTS)]
    sections: dict[str, dict[str, str]] = {}
    name = ""
    for at, word in enumerate(words):
        if word == "{" and at:
            name = words[at - 1]
            sections[name] = {}
        elif word == "=" and name and 0 < at < len(words) - 1:
            sections[name][words[at - 1]] = words[at + 1].strip('"')
        elif word == "}":
            name = ""
    found = {key: each for key, each in sections.get("redsocks", {}).items() if key in _FIELDS}
    dns = sections.get("dnsu2t", {})
    if found and dns.get("remote_ip") and dns.get("remote_port"):
        found["dns"] = f"{dns['remote_ip']}:{dns['remote_port']}"
    return found


def redsocks_conf(proxy: Mapping[str, str]) -> str:
    """redsocks.conf for a proxy, in the family's form."""
    lines = [
        f'\t{name} = "{proxy[name]}";' if name in _QUOTED else f"\t{name} = {proxy[name]};"
        for name in _FIELDS
        if name in proxy
    ]
    text = (
        f"{_BASE}\nredsocks {{\n"
        + "\n".join([*lines, "\tlocal_ip = 127.0.0.1;", "\tlocal_port = 12345;"])
        + "\n}\n"
    )
    if "dns" in proxy:
        address, _, port = proxy["dns"].rpartition(":")
        text += (
            f"\ndnsu2t {{\n\tremote_ip = {address};\n\tremote_port = {port};\n"
            "\tlocal_ip = 127.0.0.1;\n\tlocal_port = 53;\n}\n"
        )
    return text


def parse_no_proxy(text: str) -> tuple[str, ...]:
    """The entries of a no_proxy file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line)


def host_config(hostname: str, proxy: Mapping[str, str], no_proxy: Iterable[str]) -> dict[str, Any]:
    """The body of `GET /v1/device/host-config`."""
    network: dict[str, Any] = {"hostname": hostname}
    listed = list(no_proxy)
    if proxy:
        network["proxy"] = {**proxy, **({"noProxy": listed} if listed else {})}
        # The published document has it here in the answer, and in `proxy` in the request.
        if "dns" in proxy:
            network["dns"] = proxy["dns"]
    return {"network": network}
