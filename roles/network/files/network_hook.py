#!/usr/bin/python3
"""Hook: name servers, NetworkManager's settings and the proxy, as the boot partition has them.

config.json: `dnsServers`, `country`, `os.network.connectivity`, `os.network.wifi`. The proxy is
`system-proxy/redsocks.conf` and `system-proxy/no_proxy`. All that it writes is on /run: nothing of
an earlier boot is left when a setting is taken out.
"""

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BOOT = Path(os.environ.get("GANTRY_BOOT", "/mnt/boot"))
BOOTED = os.environ.get("GANTRY_BOOTED") == "1"
RUN = Path("/run/gantry")
NETWORK_MANAGER = Path("/run/NetworkManager/conf.d/gantry-settings.conf")
# What redsocks listens on: the address that containers know from their resolver.
REDSOCKS = ("10.114.102.1", 12345)
# Never through a proxy: this host, private and link-local networks, multicast.
DIRECT = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
PROXY_TYPES = ("http-connect", "http-relay", "socks4", "socks5")
BASE = """base {
  daemon = off;
  log = stderr;
  log_info = off;
  redirector = iptables;
}
"""
# redsocks.conf: comments, texts in quotes, punctuation, words.
TOKEN = re.compile(r"""#.*|//.*|/\*[\s\S]*?\*/|"(?:\\.|[^"\\])*"|[{}=;]|[^\s{}=;"]+|\S""")
COMMENTS = ("#", "//", "/*")
# Sections of redsocks.conf that older examples have, and that are settled here.
IGNORED_SECTIONS = ("base", "dnstc", "dnsu2t", "redudp", "tcpdns")


class SettingError(ValueError):
    """A setting that is not in order; the message names it and what it must be."""


def replace(path: Path, text: str, mode: int = 0o644, group: str = "") -> bool:
    """Write a file whole; '' as text removes it. Returns whether that changed anything."""
    old = path.read_text() if path.is_file() else ""
    if old == text:
        return False
    if not text:
        path.unlink()
        return True
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    if group:
        shutil.chown(temporary, group=group)
    Path(temporary).chmod(mode)
    Path(temporary).replace(path)
    return True


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is the result's."""
    return subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=30
    )


def section(config: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """A nested object of config.json; {} where it is not set.

    Raises:
        SettingError: something else is there.
    """
    found: Any = config
    for key in path:
        found = found.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise SettingError(f"{'.'.join(path)} must be an object")
    return dict(found)


def server(text: str) -> str:
    """`1.1.1.1`, `1.1.1.1#5353` or an IPv6 address, as dnsmasq takes it."""
    address, mark, port = text.partition("#")
    try:
        ipaddress.ip_address(address)
        if mark and not 0 < int(port) < 65536:
            raise ValueError(port)
    except ValueError as error:
        raise SettingError(
            f"dnsServers: {text!r} is no address: list addresses with spaces between, "
            "each with #port if it is not 53"
        ) from error
    return text


def name_servers(config: Mapping[str, Any]) -> str:
    """What gantry-dns asks instead of the network's own servers, a line each."""
    wanted = str(config.get("dnsServers") or "")
    if wanted == "null":  # the family's word for: those of the network
        wanted = ""
    return "".join(f"server={server(each)}\n" for each in wanted.split())


def apply_name_servers(config: Mapping[str, Any]) -> str:
    """dnsServers."""
    text = name_servers(config)
    if not replace(RUN / "dns" / "preferred.conf", text):
        return ""
    if BOOTED:
        run("systemctl", "--no-block", "try-restart", "gantry-dns.service")
    count = len(text.splitlines())
    return f"{count} name servers of dnsServers" if count else "the network's name servers"


def connectivity(config: Mapping[str, Any]) -> str:
    """NetworkManager's check whether the internet is in reach; off without a URL."""
    wanted = section(config, "os", "network", "connectivity")
    uri = wanted.get("uri") or ""
    if not uri:
        return "[connectivity]\nenabled=false\n"
    if not re.fullmatch(r"https?://[^\s/]\S*", str(uri)):
        raise SettingError(f"os.network.connectivity.uri: {uri!r} is no http:// or https:// URL")
    interval = str(wanted.get("interval") or 3600)
    if not (interval.isdecimal() and 10 <= int(interval) <= 604800):
        raise SettingError(
            f"os.network.connectivity.interval: {interval!r} is no number of seconds, 10 to 604800"
        )
    response = str(wanted.get("response") or "")
    if "\n" in response:
        raise SettingError("os.network.connectivity.response must be one line")
    return f"[connectivity]\nenabled=true\nuri={uri}\ninterval={interval}\nresponse={response}\n"


def network_manager(config: Mapping[str, Any]) -> str:
    """NetworkManager's settings of config.json."""
    random = section(config, "os", "network", "wifi").get("randomMacAddressScan", False)
    if not isinstance(random, bool):
        raise SettingError("os.network.wifi.randomMacAddressScan must be true or false")
    return (
        f"{connectivity(config)}\n[device-gantry]\nmatch-device=type:wifi\n"
        f"wifi.scan-rand-mac-address={'yes' if random else 'no'}\n"
    )


def apply_network_manager(config: Mapping[str, Any]) -> str:
    """os.network."""
    changed = replace(NETWORK_MANAGER, network_manager(config))
    # At boot it is not running yet, and reads the file when it starts.
    if not changed or run("nmcli", "general", "reload", "conf").returncode:
        return ""
    return "NetworkManager's settings"


def apply_country(config: Mapping[str, Any]) -> str:
    """country: which channels and powers the radio may use."""
    country = str(config.get("country") or "").upper()
    if not country:
        return ""
    if not re.fullmatch(r"[A-Z]{2}", country):
        raise SettingError("country must be two letters, such as DE")
    current = RUN / "country"
    if (current.is_file() and current.read_text() == country) or not shutil.which("iw"):
        return ""
    # The domain is kept for radios that are found later, once the module is there.
    run("modprobe", "--quiet", "cfg80211")
    if run("iw", "reg", "set", country).returncode:
        return ""  # no radio here
    # Raspberry Pi OS blocks the radio until a country is set.
    run("rfkill", "unblock", "wlan")
    replace(current, country)
    return f"country {country}"


def redsocks_sections(text: str) -> list[tuple[str, dict[str, str]]]:
    """Sections of a redsocks.conf; values stay as they are written, in quotes or not.

    Raises:
        SettingError: no such file. Its values are not said, one may be a password.
    """
    found: list[tuple[str, dict[str, str]]] = []
    tokens = [each[0] for each in TOKEN.finditer(text) if not each[0].startswith(COMMENTS)]
    at = 0
    while at < len(tokens):
        if tokens[at + 1 : at + 2] != ["{"]:
            break
        name, values = tokens[at], {}
        at += 2
        while at + 3 < len(tokens) and tokens[at + 1] == "=" and tokens[at + 3] == ";":
            values[tokens[at]] = tokens[at + 2]
            at += 4
        if tokens[at : at + 1] != ["}"]:
            raise SettingError(
                f"system-proxy/redsocks.conf: section {name} is not made of `key = value;` "
                "up to a }"
            )
        found.append((name, values))
        at += 1
    if not found or at < len(tokens):
        raise SettingError(
            "system-proxy/redsocks.conf is not made of sections such as redsocks { … }"
        )
    return found


def redsocks_conf(text: str) -> str:
    """What redsocks runs with: the operator's proxy, and our own way of running.

    Raises:
        SettingError: not exactly one proxy, or one that is not complete.
    """
    proxies = []
    for name, values in redsocks_sections(text):
        if name == "redsocks":
            proxies.append(values)
        elif name not in IGNORED_SECTIONS:
            raise SettingError(f"system-proxy/redsocks.conf: section {name} is not known")
    if len(proxies) != 1:
        raise SettingError(f"system-proxy/redsocks.conf has {len(proxies)} proxies: one is wanted")
    proxy = proxies[0]
    missing = [key for key in ("type", "ip", "port") if key not in proxy]
    if missing:
        raise SettingError(f"system-proxy/redsocks.conf: redsocks has no {', '.join(missing)}")
    if proxy["type"].strip('"') not in PROXY_TYPES:
        raise SettingError(
            f"system-proxy/redsocks.conf: type must be one of {', '.join(PROXY_TYPES)}"
        )
    if not proxy["port"].isdecimal() or not 0 < int(proxy["port"]) < 65536:
        raise SettingError("system-proxy/redsocks.conf: port must be 1 to 65535")
    keys = [key for key in ("type", "ip", "port", "login", "password") if key in proxy]
    lines = [f"  {key} = {proxy[key]};" for key in keys]
    address, port = REDSOCKS
    own = [f"  local_ip = {address};", f"  local_port = {port};"]
    base = (
        "base {\n  daemon = off;\n  log = stderr;\n  log_info = off;\n  redirector = iptables;\n}\n"
    )
    return base + "redsocks {\n" + "\n".join(own + lines) + "\n}\n"


def direct(text: str) -> list[str]:
    """The networks that a no_proxy file names, and those that are never sent to a proxy."""
    networks = [ipaddress.IPv4Network(each) for each in DIRECT]
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        try:
            networks.append(ipaddress.IPv4Network(line, strict=False))
        except ValueError as error:
            raise SettingError(
                f"system-proxy/no_proxy: {line!r} is no IPv4 address or network (names do not do)"
            ) from error
    return [str(each) for each in ipaddress.collapse_addresses(networks)]


def rules(networks: list[str]) -> str:
    """nftables: TCP of the host and of its containers goes to redsocks, its own excepted."""
    address, port = REDSOCKS
    return f"""table ip gantry_proxy
delete table ip gantry_proxy
table ip gantry_proxy {{
    set direct {{
        type ipv4_addr
        flags interval
        elements = {{ {", ".join(networks)} }}
    }}
    chain to_redsocks {{
        ip daddr @direct return
        meta l4proto tcp dnat to {address}:{port}
    }}
    chain output {{
        type nat hook output priority -110;
        meta skuid redsocks return
        jump to_redsocks
    }}
    chain prerouting {{
        type nat hook prerouting priority -110;
        iifname {{ "docker0", "br-*", "supervisor0" }} jump to_redsocks
    }}
}}
"""


def apply_proxy(_config: Mapping[str, Any]) -> str:
    """system-proxy/."""
    folder = BOOT / "system-proxy"
    wanted = folder / "redsocks.conf"
    no_proxy = folder / "no_proxy"
    conf = rule = ""
    if wanted.is_file():
        conf = redsocks_conf(wanted.read_text(encoding="utf-8-sig"))
        listed = no_proxy.read_text(encoding="utf-8-sig") if no_proxy.is_file() else ""
        rule = rules(direct(listed))
    # Only redsocks and root read it: there may be a password in it.
    changed = replace(RUN / "proxy" / "redsocks.conf", conf, 0o640, "redsocks")
    changed = replace(RUN / "proxy" / "rules.nft", rule) or changed
    if not changed:
        return ""
    if BOOTED:
        verb = "restart" if conf else "stop"
        run("systemctl", "--no-block", verb, "gantry-proxy.service")
    return "the proxy of system-proxy/" if conf else "no proxy"


def main(config: Mapping[str, Any]) -> int:
    """Apply every part; one that is not in order does not keep the others from it."""
    parts: tuple[Callable[[Mapping[str, Any]], str], ...] = (
        apply_name_servers,
        apply_network_manager,
        apply_country,
        apply_proxy,
    )
    said, problems = [], []
    for part in parts:
        try:
            if message := part(config):
                said.append(message)
        except SettingError as error:
            problems.append(str(error))
        except (OSError, UnicodeDecodeError, LookupError, subprocess.SubprocessError) as error:
            problems.append(f"{part.__doc__} {error}")
    if said:
        print(f"network: {', '.join(said)}")
    if problems:
        print(f"network: {'; '.join(problems)}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(os.environ["GANTRY_CONFIG"]).read_text())))
