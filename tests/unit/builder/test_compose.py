"""docker-compose.yml: what is taken, what is left out, what is refused."""

import contextlib
import json
import time
from typing import Any

import pytest

from gantry.builder import compose
from gantry.builder.plan import RejectedError

REGISTRY = "registry.devbots.gantry.internal:8443"


def parse(text: str) -> compose.Composition:
    return compose.parse(text, "docker-compose.yml", REGISTRY)


def service(text: str, rest: str = "volumes: {data: {}}\nnetworks: {back: {}}\n") -> dict[str, Any]:
    parsed = parse(f"services:\n  a: {{build: ., {text}}}\n  b: {{build: .}}\n{rest}")
    return dict(parsed.composition["services"]["a"])


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("environment: [A=1, 'B=x=y']", "environment", {"A": "1", "B": "x=y"}),
        ("environment: {A: true, B: null}", "environment", {"A": "true", "B": ""}),
        ("labels: [io.balena.features.dbus]", "labels", {"io.balena.features.dbus": ""}),
        ("ports: [80, '8080:80/udp']", "ports", ["80", "8080:80/udp"]),
        ("ports: [{target: 80, published: 8080}]", "ports", ["8080:80"]),
        ("volumes: ['data:/data:ro']", "volumes", ["data:/data:ro"]),
        ("volumes: [{source: data, target: /d}]", "volumes", ["data:/d"]),
        ("networks: [back]", "networks", {"back": {}}),
        ("depends_on: [b]", "depends_on", {"b": {"condition": "service_started"}}),
        ("restart: no", "restart", "no"),
        ("restart: on-failure:3", "restart", "on-failure:3"),
        ("privileged: true", "privileged", True),
        ("devices: ['/dev/ttyACM0:/dev/tty']", "devices", ["/dev/ttyACM0:/dev/tty"]),
        ("network_mode: 'service:b'", "network_mode", "service:b"),
        ("tmpfs: /run", "tmpfs", ["/run"]),
        ("command: sh -c 'echo $$HOME'", "command", "sh -c 'echo $HOME'"),
        ("command: ['a', 'b']", "command", ["a", "b"]),
        ("environment: {A: '${X:-y}'}", "environment", {"A": "y"}),
        ("cap_add: [SYS_RAWIO]", "cap_add", ["SYS_RAWIO"]),
    ],
)
def test_values_take_one_form(text: str, key: str, expected: object) -> None:
    assert service(text)[key] == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("volumes: ['/etc:/etc']", "folder of the host"),
        ("volumes: ['./src:/src']", "folder of the host"),
        ("volumes: ['other:/x']", "volume other is not"),
        ("volumes: [{type: bind, source: /a, target: /b}]", "type bind"),
        ("networks: [front]", "network front is not"),
        ("depends_on: [c]", "no service"),
        ("ports: ['a:b']", "host:container"),
        ("ports: ['80:99999']", "host:container"),
        ("privileged: 'yes'", "true or false"),
        ("restart: sometimes", "on-failure"),
        ("network_mode: 'container:x'", "service:<name>"),
        ("environment: [A]", "NAME=value"),
        ("env_file: .env", "env_file is not supported"),
        ("command: 'echo ${HOME}'", "no environment to take HOME"),
        ("devices: ['/etc/passwd']", "/dev/name"),
        ("healthcheck: {foo: 1}", "mapping with test"),
        ("network_mode: host, networks: [back]", "exclude each other"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=r"^docker-compose.yml: ") as caught:
        service(text)
    assert reason in str(caught.value)


def test_unknown_keys_are_named_and_left_out() -> None:
    parsed = parse(
        "x-common: 1\nservices: {a: {build: ., pull_policy: always, x-note: 1}}\nfoo: 1\n"
    )
    assert any("foo" in each for each in parsed.warnings)
    assert any("pull_policy" in each for each in parsed.warnings)
    assert len(parsed.warnings) == 2
    assert parsed.composition["services"]["a"] == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "[1, 2]",
        "services: {}",
        "services: {a: {}}",
        "services: {a: 1}",
        "services: {'../a': {build: .}}",
        "services: {a: {image: 'debian:12'}}",
        f"services: {{a: {{image: '{REGISTRY}/v2/0123'}}}}",
        f"services: {{a: {{image: '{REGISTRY}.evil/gantry/rpi-raspios:bookworm'}}}}",
        "services: {a: {build: {context: ., secrets: [x]}}}",
        "services: {a: {build: .}}\nvolumes: {v: {external: true}}",
        "services: &x {a: *x}",
    ],
)
def test_what_is_no_composition_is_refused(text: str) -> None:
    with pytest.raises(RejectedError):
        parse(text)


def test_anchors_cannot_multiply_without_end() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefg", "bcdefgh", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    with pytest.raises(RejectedError, match="anchors"):
        parse("\n".join([*lines, "services: {s: {build: .}}"]))


def test_a_base_of_the_registry_is_an_image() -> None:
    parsed = parse(f"services: {{a: {{image: '{REGISTRY}/gantry/rpi-raspios:bookworm'}}}}")
    assert parsed.images["a"].reference == "gantry/rpi-raspios:bookworm"


@pytest.mark.parametrize(
    "text",
    [
        "services: {a: {build: ., command: '" + "${a-" * 60_000 + "'}}",
        "services: {a: {build: ., command: '" + "${a-" * 60_000 + "$x'}}",
    ],
)
def test_open_braces_take_no_time(text: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(RejectedError):
        parse(text)
    # Quadratic time would be minutes.
    assert time.monotonic() - started < 60


def test_aliases_of_long_texts_do_not_multiply() -> None:
    text = f"x-a: &a {'x' * 200_000}\nservices: {{a: {{build: ., command: [{'*a, ' * 10_000}]}}}}\n"
    with pytest.raises(RejectedError, match="texts of more than 1024 KiB together"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "{a: 2020-99-99}",
        f"{{services: {{a: {{build: ., cpu_shares: {'9' * 5000}}}}}}}",
        f"{{services: {{a: {{build: ., ports: ['{'9' * 5000}']}}}}}}",
        "{services: {a: {build: .}}, volumes: {v: {driver_opts: {a: .nan}}}}",
        "{services: {a: {build: ., ulimits: {a: !!binary aGk=}}}}",
        "{services: {a: {build: ., networks: {x: 5}}}, networks: {x: }}",
        "{services: {a: {build: ., depends_on: {a: 5}}}}",
        "{services: {a: {build: ., pid: [1]}}}",
        '{services: {a: {build: {context: ., args: {A: "\\0"}}}}}',
        '{services: {a: {build: {context: ., args: {A: "\\ud800"}}}}}',
        '{services: {a: {build: {context: ., args: {"\\ud800": x}}}}}',
    ],
)
def test_values_that_cannot_be_are_rejected_and_are_no_fault_of_the_builder(text: str) -> None:
    with pytest.raises(RejectedError):
        parse(text)


def test_a_date_is_the_text_that_it_is_written_as() -> None:
    parsed = parse("{services: {a: {build: .}}, volumes: {v: {labels: {a: 2026-01-02}}}}")
    assert parsed.composition["volumes"]["v"]["labels"] == {"a": "2026-01-02"}
    json.dumps(parsed.composition)
