"""Several applications on one device, and services that share a network, on a real engine."""

import platform
from typing import Any

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until

FOREVER = "trap 'exit 0' TERM; echo begun $NAME; while true; do sleep 0.2; done"


def second_app(device: Device, commit: str, services: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Another application of the same device."""
    [app] = device.app(commit, services).values()
    return {f"second{device.app_id}": {**app, "id": device.app_id + 1, "name": "others"}}


def test_applications_side_by_side_do_not_meddle(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    image = registry.push(
        "mkdir -p /srv; echo $NAME > /srv/name; httpd -p 8000 -h /srv;"
        "while true; do echo $NAME sees $(wget -qO- http://main:8000/name); sleep 1; done"
    )

    def services(name: str) -> dict[str, dict[str, Any]]:
        return {"main": {"image": image, "environment": {"NAME": name}}}

    cloud.apps = device.app("aaa1", services("one")) | second_app(device, "bbb2", services("two"))
    device.start()
    # Names are an application's own, though both services have the same.
    wait_until("both see themselves", lambda: {"one sees one", "two sees two"} <= said(cloud))
    assert not {"one sees two", "two sees one"} & said(cloud)
    [one] = of_app(device, device.app_id)
    [two] = of_app(device, device.app_id + 1)
    # A lock holds its own application alone.
    runtime = device.home / "runtime" / "services"
    (runtime / str(device.app_id) / "main" / "updates.lock").touch()
    cloud.apps = device.app("aaa1", services("1")) | second_app(device, "bbb2", services("2"))
    wait_until(
        "the other is replaced", lambda: of_app(device, device.app_id + 1) not in ([], [two])
    )
    assert of_app(device, device.app_id) == [one]
    # One that the device leaves is ended, whatever becomes of the other.
    cloud.apps = device.app("aaa1", services("1"))
    wait_until("the other is gone", lambda: not of_app(device, device.app_id + 1))
    assert of_app(device, device.app_id) == [one]


def said(cloud: Cloud) -> set[str]:
    return set(cloud.messages(serviceName="main"))


def of_app(device: Device, app_id: int) -> list[str | None]:
    """Ids of the running containers of an application."""
    return [
        each.id
        for each in device.containers(running=True)
        if each.labels["io.balena.app-id"] == str(app_id)
    ]


def test_a_service_in_the_network_of_another_is_made_anew_with_it(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    server = registry.push("mkdir -p /srv; echo $NAME > /srv/name; httpd -f -p 8000 -h /srv")
    client = registry.push(
        "while true; do echo saw $(wget -qO- http://127.0.0.1:8000/name); sleep 1; done"
    )

    def services(name: str) -> dict[str, dict[str, Any]]:
        joined = {"network_mode": "service:vpn"}
        return {
            "app": {"image": client, "composition": joined},
            "vpn": {"image": server, "environment": {"NAME": name}},
        }

    cloud.apps = device.app("aaa1", services("n1"))
    device.start()
    wait_until("it sees the other", lambda: "saw n1" in cloud.messages(serviceName="app"))
    cloud.apps = device.app("aaa1", services("n2"))
    wait_until("it sees the next one", lambda: "saw n2" in cloud.messages(serviceName="app"))


def test_fields_that_are_not_known_are_told_and_the_release_runs(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    composition = {"container_name": "mine", "cpus": 0.5, "tmpfs": ["/t:size=1m"], "init": True}
    labels = {"io.balena.update.strategy": "sudden"}
    image = registry.push("echo > /t/x && echo written; " + FOREVER)
    service = {"image": image, "composition": composition, "labels": labels}
    cloud.apps = device.app("aaa1", {"main": service})
    device.start()
    container = wait_until("it runs", device.service)
    host = container.attrs["HostConfig"]
    assert (host["NanoCpus"], host["Init"]) == (500_000_000, True)
    wait_until("it writes", lambda: "written" in cloud.messages(serviceName="main"))
    told = cloud.messages(isSystem=True)
    assert any("field 'container_name' of docker-compose.yml is not known" in e for e in told)
    assert any("is 'sudden': use one of download-then-kill" in each for each in told)


def test_a_contract_that_this_device_does_not_meet_keeps_its_release_away(
    device: Device, cloud: Cloud, registry: Registry
) -> None:
    system = platform.freedesktop_os_release()
    met = [
        {"type": "sw.os", "slug": system["ID"], "version": f">={system['VERSION_ID']}"},
        {"type": "sw.kernel", "slug": "linux", "version": ">=3"},
        {"or": [{"type": "sw.l4t"}, {"type": "arch.sw", "slug": "amd64"}]},
    ]
    image = registry.push(FOREVER)
    other = registry.push(FOREVER + " # two")

    def services(requires: list[dict[str, Any]], **more: Any) -> dict[str, dict[str, Any]]:
        contract = {"type": "sw.container", "slug": "x", "requires": requires}
        optional = {"io.balena.features.optional": "1"}
        needy = {"image": image, "contract": {**contract, "requires": [{"type": "sw.l4t"}]}}
        return {
            "main": {"image": image, "contract": contract, **more},
            "extra": {**needy, "labels": optional},
        }

    cloud.apps = device.app("aaa1", services(met))
    device.start()
    before = wait_until("it runs", device.service)
    assert len(device.containers()) == 1, "what is optional is left out"
    cloud.apps = device.app("bbb2", services([{"type": "sw.kernel", "version": "<1"}], image=other))
    sentence = "Release bbb2 cannot be run: service main: its contract requires sw.kernel <1"
    wait_until(
        "it is told", lambda: any(sentence in each for each in cloud.messages(isSystem=True))
    )

    def reported() -> bool:
        apps = cloud.reported().get("apps", {})
        release = apps.get(f"uuid{device.app_id}", {}).get("releases", {}).get("bbb2", {})
        return bool(release.get("update_status") == "rejected")

    wait_until("it is reported", reported)
    assert [each.id for each in device.containers(running=True)] == [before.id]
    cloud.apps = device.app("ccc3", services(met, image=other))
    wait_until(
        "the next release",
        lambda: (
            [each.attrs["Config"]["Image"] for each in device.containers(running=True)] == [other]
        ),
    )
