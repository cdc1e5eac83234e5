"""The way to the cloud side: registration, polls, outages, log stream, HTTP API, TLS."""

import base64
import datetime
import ipaddress
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until

FOREVER = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.02; done"


def test_a_device_registers_once_and_keeps_its_config(device: Device, cloud: Cloud) -> None:
    device.start()
    wait_until("it registered", lambda: "deviceId" in device.config)
    config = device.config
    assert config["deviceId"] == 77
    assert "apiKey" not in config
    assert len(config["uuid"]) == 32
    assert config["somethingNew"] == {"kept": True}
    assert config["mixpanelToken"] == "never used"
    assert cloud.devices == {config["uuid"]: config["deviceApiKey"]}
    assert cloud.registrations[0]["device_type"] == "generic-amd64"
    wait_until("it polled", lambda: cloud.polls)
    device.signal(signal.SIGTERM)
    device.start()
    wait_until("it polled again", lambda: 304 in cloud.polls)
    assert len(cloud.registrations) == 1
    assert device.config == config


def test_power_lost_in_registration_leads_to_the_same_device(device: Device, cloud: Cloud) -> None:
    cloud.after_register = device.kill
    device.start()
    wait_until("it was killed", device.has_ended)
    uuid = device.config["uuid"]
    assert "deviceId" not in device.config
    cloud.after_register = lambda: None
    device.start()
    wait_until("it registered", lambda: "deviceId" in device.config)
    assert device.config["uuid"] == uuid
    assert list(cloud.devices) == [uuid]
    assert len(cloud.registrations) == 2


def test_a_missing_or_broken_config_is_waited_for(device: Device, cloud: Cloud) -> None:
    config = device.config
    (device.boot / "config.json").unlink()
    device.start()
    wait_until("it is told", lambda: "put the fleet's config.json there" in device.log())
    assert device.get("/ping").text == "OK"
    assert device.get("/v1/healthy").status_code == 200
    assert device.get("/v1/device?apikey=").status_code == 401
    (device.boot / "config.json").write_text('{"uuid": ')
    wait_until("it is told", lambda: "is not valid JSON" in device.log())
    device.write_config(config)
    wait_until("it registered", lambda: cloud.registrations)


def test_the_http_api_wants_a_key(device: Device, cloud: Cloud, registry: Registry) -> None:
    cloud.streams = False
    device.start()
    wait_until("it polled", lambda: cloud.polls)
    labels = {"io.balena.features.supervisor-api": "1"}
    image = registry.push("sleep 999")
    services = {"main": {"image": image, "labels": labels, "composition": {}}}
    cloud.apps = device.app("abc1", services)
    time.sleep(1.0)
    assert cloud.polls == [200]  # without announcements, nothing is known yet
    database = sqlite3.connect(device.home / "data" / "database.sqlite")
    query = "SELECT value FROM fact WHERE name = 'supervisor_keys'"
    key = json.loads(database.execute(query).fetchone()[0])["everything"]
    database.close()
    address = f"http://127.0.0.1:{device.port}/v1/update"
    assert device.get("/v1/device").status_code == 401
    assert device.get("/v1/device", headers={"Authorization": "Bearer no"}).status_code == 401
    assert httpx2.post(address).status_code == 401
    assert httpx2.post(f"{address}?apikey={key}", json={"force": True}).status_code == 204
    container = wait_until("it runs", device.service)
    environment = dict(each.split("=", 1) for each in container.attrs["Config"]["Env"])
    assert environment["RESIN_SUPERVISOR_API_KEY"] not in ("", key)
    key = environment["RESIN_SUPERVISOR_API_KEY"]
    assert environment["BALENA_SUPERVISOR_PORT"] == str(device.port)
    for scheme in ("Bearer", "ApiKey"):
        answer = device.get("/v1/device", headers={"Authorization": f"{scheme} {key}"})
        assert answer.status_code == 200
    wait_until("settled", lambda: device.get(f"/v1/device?apikey={key}").json()["commit"] == "abc1")
    body = device.get(f"/v1/device?apikey={key}").json()
    assert body["status"] == "Idle"
    assert body["api_port"] == device.port
    assert body["download_progress"] is None
    assert (body["update_pending"], body["update_failed"]) == (False, False)


def test_nothing_is_lost_while_the_cloud_side_is_away(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    wait_until("lines", lambda: len(cloud.messages(serviceName="main")) > 50)
    cloud.stop()
    time.sleep(3.0)
    assert device.service() is not None
    reports = len(cloud.reports)
    cloud.start()
    seen = len(cloud.messages(serviceName="main"))
    wait_until("lines", lambda: len(cloud.messages(serviceName="main")) > seen + 200)
    # Lines of a request that broke come twice at most; by their ids they are one.
    unique = {line["id"]: line["message"] for line in cloud.lines if "serviceName" in line}
    lines = list(unique.values())
    assert lines == [f"line {n + 1}" for n in range(len(lines))]
    cloud.apps = device.app("bbb2", {"main": {"image": registry.push("sleep 999")}})
    app = f"uuid{device.app_id}"

    def done() -> bool:
        return bool(cloud.reported().get("apps", {}).get(app, {}).get("release_uuid") == "bbb2")

    wait_until("the next release", done)
    assert "supervisor_version" in next(iter(cloud.reports[reports].values()))  # told in full


def test_killed_supervisors_lose_no_line(device: Device, cloud: Cloud, registry: Registry) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    for _ in range(2):
        seen = len(cloud.messages(serviceName="main"))
        wait_until("lines", lambda: len(cloud.messages(serviceName="main")) > seen + 60)  # noqa: B023
        device.signal(signal.SIGKILL)
        device.start()
    seen = len(cloud.messages(serviceName="main"))
    wait_until("lines", lambda: len(cloud.messages(serviceName="main")) > seen + 60)
    unique = {line["id"]: line["message"] for line in cloud.lines if "serviceName" in line}
    lines = list(unique.values())
    assert lines == [f"line {n + 1}" for n in range(len(lines))]


def test_a_flood_while_offline_is_dropped_and_counted(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    flood = registry.push("echo first; sleep 4; seq 1 30000; echo last; sleep 999")
    cloud.apps = device.app("aaa1", {"main": {"image": flood}})
    device.start()
    wait_until("the first line", lambda: "first" in cloud.messages(serviceName="main"))
    cloud.stop()
    container = wait_until("it runs", device.service)
    wait_until("the flood is over", lambda: b"last" in container.logs(tail=1))
    time.sleep(10.0)  # it is read slowly meanwhile, and beyond what is held back
    cloud.start()
    wait_until("the last line", lambda: "last" in cloud.messages(serviceName="main"))
    notice = next(each for each in cloud.messages(isSystem=True) if "dropped" in each)
    dropped = int(notice.split()[0])
    kept = {line["id"] for line in cloud.lines if line.get("message", "").isdecimal()}
    assert dropped > 0
    assert abs(dropped + len(kept) - 30000) < 20  # system lines may be among the dropped


def test_a_broken_database_is_set_aside(device: Device, cloud: Cloud, registry: Registry) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push("sleep 999")}})
    device.start()
    container = wait_until("it runs", device.service)
    device.signal(signal.SIGKILL)
    database = device.home / "data" / "database.sqlite"
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(b"not a database at all" * 1000)
    device.start()
    wait_until("it is told", lambda: "begun afresh" in device.log())
    polls = len(cloud.polls)
    wait_until("it polled", lambda: len(cloud.polls) > polls)
    time.sleep(1.0)
    assert device.service() == container
    assert database.with_name("database.sqlite.broken").exists()


def test_errors_of_the_api_are_waited_out(device: Device, cloud: Cloud) -> None:
    cloud.status, cloud.retry_after = 503, "1"
    device.start()
    wait_until("it is told", lambda: "503" in device.log())
    cloud.status = None
    wait_until("it polled", lambda: 200 in cloud.polls)


@pytest.fixture
def secure_cloud(tmp_path: Path) -> Iterator[tuple[Cloud, str]]:
    """A cloud side with a certificate of its own authority, and that authority's PEM in base64."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test fleet")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "certificate.pem").write_bytes(pem)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    files = {
        "ssl_certfile": str(tmp_path / "certificate.pem"),
        "ssl_keyfile": str(tmp_path / "key.pem"),
    }
    one = Cloud(files)
    one.start()
    yield one, base64.b64encode(pem).decode()
    one.stop()


def test_the_fleets_own_authority_is_trusted_when_config_says_so(
    secure_cloud: tuple[Cloud, str], tmp_path: Path, engine: docker.DockerClient
) -> None:
    cloud, root_ca = secure_cloud
    device = Device(tmp_path, engine, cloud, "127.0.0.1:1")
    try:
        device.start()
        wait_until("it does not trust", lambda: "CERTIFICATE_VERIFY_FAILED" in device.log())
        assert not cloud.registrations
        device.write_config(device.config | {"balenaRootCA": root_ca})
        wait_until("it registered", lambda: cloud.registrations)
        wait_until("it polled", lambda: 200 in cloud.polls)
    finally:
        device.clean_up()
