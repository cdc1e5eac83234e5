"""The service's image, as a fleet runs it."""

import io
import json
import tarfile
import time
import uuid
from typing import Any

import docker

from gantry.deployment.images import build_image


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o400, 10001, 10001
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_it_runs_without_root_and_is_healthy_with_jetstream(nats: Any) -> None:
    image = build_image("logs", lambda _: None)
    client = docker.from_env()
    name = f"logs-test-service-{uuid.uuid4().hex[:8]}"
    network = client.networks.create(name)
    network.connect(nats.container, aliases=["nats"])
    config = {
        "fleet": "devbots",
        "host": "devbots.gantry.internal",
        "https_port": 8443,
        "api_url": "http://api:8080",
        "service_key": "service-key-of-the-logs-service",
        "nats_url": "nats://nats:4222",
        "nats_token": "token-of-the-tests",
    }
    container = client.containers.create(image.tag, name=name, network=name, cap_drop=["ALL"])
    try:
        content = json.dumps(config).encode()
        container.put_archive("/", archive("etc/gantry/logs.json", content))
        container.start()
        deadline = time.monotonic() + 40
        while (health := _health(container)) != "healthy":
            assert time.monotonic() < deadline, (health, container.logs().decode())
            time.sleep(0.5)
        assert container.exec_run(["id", "-u"]).output == b"10001\n"
    finally:
        container.remove(force=True)
        network.disconnect(nats.container)
        network.remove()
        client.close()


def _health(container: Any) -> str:
    container.reload()
    return str(container.attrs["State"]["Health"]["Status"])
