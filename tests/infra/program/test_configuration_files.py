"""The configuration files that containers are given are what their services read."""

import json
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gantry.api.config import Config as ApiConfig
from gantry.builder.config import BuilderConfig
from gantry.contracts.storage import S3Storage
from gantry.deltas.server.config import Config as DeltasConfig
from gantry.git.config import GitConfig
from gantry.logs.config import Config as LogsConfig
from gantry.registry.settings import load as load_collector
from gantry.vpn.config import Config as VpnConfig

from .conftest import Registered, Run

HOST = "testbots.gantry.internal"


def test_api(fleet: Registered) -> None:
    files = fleet.files("api")
    assert set(files) == {"/etc/gantry/api.json"}
    config = ApiConfig.model_validate_json(files["/etc/gantry/api.json"])
    assert config.registry == f"registry.{HOST}:8443"
    assert config.database_url.get_secret_value().endswith("@postgres:5432/gantry")
    token = x509.load_pem_x509_certificate(config.token_certificate_pem.encode())
    authority = x509.load_pem_x509_certificate(config.ca_certificate_pem.encode())
    token.verify_directly_issued_by(authority)


def test_git(fleet: Registered) -> None:
    files = fleet.files("git")
    assert set(files) == {"/etc/gantry/git.json", "/etc/gantry/ssh_host_ed25519_key"}
    config = GitConfig.model_validate_json(files["/etc/gantry/git.json"])
    assert (config.host, config.git_port) == (HOST, 2222)


def test_builder(fleet: Registered, run: Run) -> None:
    document = json.loads(fleet.files("builder")["/etc/gantry/builder.json"])
    config = BuilderConfig.model_validate(document)
    assert config.limits.memory_bytes == 4 * 1024**3
    assert len(config.accepted_keys) == 1
    smaller = run("smallbots", builds='{"memory": 1, "concurrent": 1}').files("builder")
    limits = BuilderConfig.model_validate_json(smaller["/etc/gantry/builder.json"]).limits
    assert (limits.memory_bytes, limits.concurrent_builds) == (1024**3, 1)


def test_logs_and_nats(fleet: Registered) -> None:
    config = LogsConfig.model_validate_json(fleet.files("logs")["/etc/gantry/logs.json"])
    nats = json.loads(fleet.files("nats")["/etc/gantry/nats.conf"])
    assert config.nats_token is not None
    assert nats["authorization"]["token"] == config.nats_token.get_secret_value()
    assert nats["jetstream"]["max_memory_store"] == 64 * 1024**2


def test_registry(fleet: Registered) -> None:
    files = fleet.files("registry")
    assert set(files) == {"/etc/gantry/registry.yml", "/etc/gantry/token.crt"}
    config = yaml.safe_load(files["/etc/gantry/registry.yml"])
    assert config["auth"]["token"]["realm"] == f"https://api.{HOST}:8443/auth/v1/token"
    api = ApiConfig.model_validate_json(fleet.files("api")["/etc/gantry/api.json"])
    assert files["/etc/gantry/token.crt"] == api.token_certificate_pem
    assert config["auth"]["token"]["service"] == api.registry


def test_collector(fleet: Registered, run: Run, tmp_path: Path) -> None:
    files = fleet.files("collector")
    assert set(files) == {"/etc/gantry/collector.json"}
    file = tmp_path / "collector.json"
    file.write_text(files["/etc/gantry/collector.json"])
    settings = load_collector(file)
    api = ApiConfig.model_validate_json(fleet.files("api")["/etc/gantry/api.json"])
    assert api.service_keys.collector
    assert settings.service_key == api.service_keys.collector.get_secret_value()
    assert (settings.service, settings.storage) == (api.registry, None)
    assert (settings.deltas_service, settings.deltas_url) == (api.delta, "http://deltas:8080")
    assert (api.registry_space.every_hours, api.registry_space.grace_seconds) == (0, 86400)
    space = '{"collectEveryHours": 24, "keepReleases": 3, "keepDays": 0.5, "lingerMinutes": 2}'
    other = run("otherbots", registry=space).files("api")
    found = ApiConfig.model_validate_json(other["/etc/gantry/api.json"]).registry_space
    assert (found.every_hours, found.keep_releases, found.keep_days) == (24, 3, 0.5)
    assert found.linger_seconds == 120


def test_deltas(fleet: Registered, run: Run) -> None:
    files = fleet.files("deltas")
    assert set(files) == {"/etc/gantry/deltas.json"}
    config = DeltasConfig.model_validate_json(files["/etc/gantry/deltas.json"])
    api = ApiConfig.model_validate_json(fleet.files("api")["/etc/gantry/api.json"])
    assert (config.service, config.registry) == (api.delta, api.registry)
    assert api.service_keys.deltas == config.service_key
    assert config.token_certificate_pem == api.token_certificate_pem
    registry = yaml.safe_load(fleet.files("registry")["/etc/gantry/registry.yml"])
    token = registry["auth"]["token"]
    assert (config.realm, config.issuer) == (token["realm"], token["issuer"])
    assert config.bucket is None
    settings = '{"workers": 2, "memory": 300, "seconds": 60, "cache": 9, "storage": 4, "days": 7}'
    other = run("otherbots", deltas=settings).files("deltas")["/etc/gantry/deltas.json"]
    limits = DeltasConfig.model_validate_json(other).limits
    assert (limits.workers, limits.memory_bytes, limits.seconds) == (2, 300 * 1024**2, 60)
    assert (limits.pair_bytes, limits.cache_bytes) == (9 * 1024**3 // 2, 9 * 1024**3)
    assert (limits.storage_bytes, limits.days) == (4 * 1024**3, 7)


def test_vpn(fleet: Registered) -> None:
    files = fleet.files("vpn-1")
    names = ("vpn.json", "vpn-ca.crt", "vpn.crt", "vpn.key", "tls.crt", "tls.key")
    assert set(files) == {f"/etc/gantry/{each}" for each in names}
    document = json.loads(files["/etc/gantry/vpn.json"])
    VpnConfig.model_validate(document)
    api = ApiConfig.model_validate_json(fleet.files("api")["/etc/gantry/api.json"])
    assert api.service_keys.vpn
    assert document == {
        "fleet": "testbots",
        "host": HOST,
        "server": "vpn-1",
        "api_url": "http://api:8080",
        "service_key": api.service_keys.vpn.get_secret_value(),
        "address": "100.64.0.1",
        "network": "100.64.0.0/10",
        "rate_bytes_per_second": 0,
        "max_devices": 2133,
        "max_tunnels": 1066,
        "peers": {},
    }
    assert api.vpn_port == 1194


def test_the_vpns_certificate_is_what_devices_demand(fleet: Registered) -> None:
    files = fleet.files("vpn-1")
    assert files["/etc/gantry/tls.crt"] == files["/etc/gantry/vpn.crt"]
    assert files["/etc/gantry/tls.key"] == files["/etc/gantry/vpn.key"]
    certificate = x509.load_pem_x509_certificate(files["/etc/gantry/vpn.crt"].encode())
    authority = x509.load_pem_x509_certificate(files["/etc/gantry/vpn-ca.crt"].encode())
    certificate.verify_directly_issued_by(authority)
    extensions = certificate.extensions
    # `remote-cert-tls server` wants both, `verify-x509-name … name` the common name.
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == f"vpn.{HOST}"
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"vpn.{HOST}", f"tunnel.{HOST}"]


def test_balancer(fleet: Registered, run: Run) -> None:
    assert set(fleet.files("balancer")) == {"/etc/gantry/haproxy.cfg"}
    assert "X-Gantry-Balancer}" not in fleet.files("proxy")["/etc/gantry/Caddyfile"]
    shared = run(vpn='{"sharePort": true}')
    files = shared.files("balancer")
    assert set(files) == {f"/etc/gantry/{each}" for each in ("haproxy.cfg", "tls.pem", "ca.crt")}
    proxy = shared.files("proxy")
    assert files["/etc/gantry/tls.pem"] == (
        proxy["/etc/gantry/tls.crt"] + proxy["/etc/gantry/tls.key"]
    )
    api = ApiConfig.model_validate_json(shared.files("api")["/etc/gantry/api.json"])
    assert api.vpn_port == api.https_port == 8443


@pytest.mark.parametrize("name", [HOST, f"*.{HOST}", f"*.devices.{HOST}"])
def test_the_proxys_certificate_has_the_names(fleet: Registered, name: str) -> None:
    files = fleet.files("proxy")
    assert set(files) == {"/etc/gantry/Caddyfile", "/etc/gantry/tls.crt", "/etc/gantry/tls.key"}
    certificate = x509.load_pem_x509_certificate(files["/etc/gantry/tls.crt"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name in names.get_values_for_type(x509.DNSName)


def test_a_bucket_takes_the_volumes_place(run: Run) -> None:
    storage = {
        "kind": "s3",
        "bucket": "testbots-images",
        "endpoint": "http://s3.example.org:9000",
        "accessKey": "an-access-key",
        "secretKey": "a-secret-key",
    }
    fleet = run("testbots", storage=json.dumps(storage))
    assert set(fleet.of("Bucket")) == {"registry-bucket"}
    container = fleet.of("Container")["registry"]
    assert not container["volumes"]
    assert {each["name"] for each in container["networksAdvanced"]} == {
        "gantry-testbots-internal",
        "gantry-testbots-egress",
    }
    deltas = fleet.of("Container")["deltas"]
    # Its index and its work are on the volume still.
    assert [each["containerPath"] for each in deltas["volumes"]] == ["/var/lib/gantry/deltas"]
    assert deltas["networksAdvanced"][1]["name"] == "gantry-testbots-egress"
    made = DeltasConfig.model_validate_json(fleet.files("deltas")["/etc/gantry/deltas.json"])
    assert made.bucket
    assert made.bucket.as_storage() == S3Storage(
        "testbots-images", "us-east-1", "an-access-key", "a-secret-key",
        "http://s3.example.org:9000", "deltas",
    )  # fmt: skip
    driver = yaml.safe_load(fleet.files("registry")["/etc/gantry/registry.yml"])["storage"]["s3"]
    assert driver["regionendpoint"] == "http://s3.example.org:9000"
    assert driver["secure"] is False


@pytest.mark.parametrize("memory", [192, 768, 4096])
def test_a_vpn_server_has_as_many_as_its_memory_has_room_for(run: Run, memory: int) -> None:
    fleet = run(memory=json.dumps({"vpn": memory}))
    assert fleet.of("Container")["vpn-1"]["memory"] == memory
    config = VpnConfig.model_validate_json(fleet.files("vpn-1")["/etc/gantry/vpn.json"])
    # What each takes: docs/vpn.md. The service itself and openvpn take the rest.
    kibibytes = 184 * config.max_devices + (160 + 80) * config.max_tunnels
    assert 0.6 * (memory - 128) < kibibytes / 1024 <= memory - 128
    text = fleet.files("balancer")["/etc/gantry/haproxy.cfg"]
    servers = [each.split() for each in text.splitlines() if each.startswith("\tserver vpn-")]
    limits = {
        words[2]: words[words.index("maxconn") + 1 :][:1] for words in servers if "maxconn" in words
    }
    # Some more come through, who are to hear that there is no room.
    assert limits == {"vpn-1:3129": [str(config.max_tunnels + 100)]}


def test_newcomers_of_one_address_have_a_limit_that_can_be_lifted(run: Run) -> None:
    for vpn, rate in (("{}", "299"), ('{"connectionsPerMinute": 40}', "39")):
        text = run(vpn=vpn).files("balancer")["/etc/gantry/haproxy.cfg"]
        assert f"reject if openvpn {{ sc1_gpc0_rate gt {rate} }}" in text
    text = run(vpn='{"connectionsPerMinute": 0}').files("balancer")["/etc/gantry/haproxy.cfg"]
    assert "reject if openvpn" not in text
    assert "accept if openvpn" in text
