"""Give the engine the fleet's certificate authority, from config.json's `balenaRootCA`."""

import base64
import json
from pathlib import Path
from urllib.parse import urlsplit

CONFIG = Path("/mnt/boot/config.json")
CERTIFICATES = Path("/etc/docker/certs.d")


def registry_of(config: dict[str, object]) -> str:
    """`registry.<host>:<port>`: named by the configuration, else beside the api."""
    named = config.get("registryEndpoint")
    if isinstance(named, str) and named:
        return named
    api = urlsplit(str(config["apiEndpoint"]))
    host = str(api.hostname).removeprefix("api.")
    return f"registry.{host}:{api.port}" if api.port else f"registry.{host}"


def main() -> None:
    config = json.loads(CONFIG.read_text())
    encoded = config.get("balenaRootCA")
    if not encoded:
        print("no balenaRootCA in config.json: the engine trusts public authorities only")
        return
    folder = CERTIFICATES / registry_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(base64.b64decode(encoded))
    print(f"the engine trusts the fleet's authority for {folder.name}")


if __name__ == "__main__":
    main()
