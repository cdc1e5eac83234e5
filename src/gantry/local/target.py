"""What was built as a local target. Pure.

Name, id and commit are those of the family's CLI, so that either takes over from the other.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gantry.builder.plan import BuildPlan
from gantry.client.errors import UsageError

APP_ID = "1"
_APP_NAME = "localapp"
_COMMIT = "10ca12e1ea5e"
# A name that no registry has: such an image is here or nowhere.
_REPOSITORY = "gantry-local"


def image_name(service: str, image_id: str) -> str:
    """The name of a built image. Another content is another name, which the device can tell."""
    return f"{_REPOSITORY}/{service.lower()}:{image_id.removeprefix('sha256:')[:12]}"


def local_state(
    current: Mapping[str, Any],
    plan: BuildPlan,
    images: Mapping[str, str],
    environment: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """The body of `POST /v2/local/target-state`.

    `current` is the state that the device has, `images` and `environment` are by service.
    """
    contracts = {each.service: each.contract for each in plan.builds if each.contract}
    services: dict[str, Any] = {}
    for number, name in enumerate(sorted(plan.services), start=1):
        composition = dict(plan.composition["services"][name])
        own = composition.pop("environment", None) or {}
        services[str(number)] = {
            **composition,
            "labels": composition.get("labels") or {},
            "environment": {**own, **environment.get(name, {})},
            "serviceName": name,
            "serviceId": number,
            "imageId": number,
            "image": images[name],
            "running": True,
            **({"contract": contracts[name]} if name in contracts else {}),
        }
    app = {
        "name": _APP_NAME,
        "commit": _COMMIT,
        "releaseId": 1,
        "services": services,
        "volumes": plan.composition.get("volumes") or {},
        "networks": plan.composition.get("networks") or {},
    }
    return {"local": {**dict(current.get("local") or {}), "apps": {APP_ID: app}}}


def environment_of(options: Iterable[str], services: Iterable[str]) -> dict[str, dict[str, str]]:
    """Variables by service, from `NAME=VALUE` (of all) and `SERVICE:NAME=VALUE`.

    Raises:
        UsageError: an option is neither.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in services}
    for option in options:
        name, equals, value = option.partition("=")
        service, colon, rest = name.partition(":")
        if not equals or not name or (colon and not rest):
            raise UsageError(f"--env {option!r}: write NAME=VALUE or SERVICE:NAME=VALUE")
        if not colon:
            for each in found.values():
                each[name] = value
        elif service in found:
            found[service][rest] = value
        else:
            raise UsageError(
                f"--env {option!r}: there is no service {service!r}: {', '.join(sorted(found))}"
            )
    return found
