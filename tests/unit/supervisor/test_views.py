"""What the HTTP API shows of a device's state: the family's bodies, events, figures."""

import dataclasses
from typing import Any

from gantry.supervisor.desired import DesiredService, desired_state
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.exposition import exposition, of_applications, of_figures, of_process
from gantry.supervisor.keys import EVERYTHING, Scope
from gantry.supervisor.locks import LockHolder, LockKind
from gantry.supervisor.progress import DownloadWay, Received
from gantry.supervisor.state import Container, ContainerState, CurrentState, EngineImage
from gantry.supervisor.target import read_target
from gantry.supervisor.views import (
    Picture,
    application_state,
    applications_state,
    environment,
    lock_view,
    state_status,
)
from gantry.supervisor.watch import Kind, Look, look

DEVICE = DeviceFacts(
    uuid="d" * 32,
    name_at_init="quiet-robot",
    device_type="raspberrypi3-64",
    architecture="aarch64",
    os_version="Debian",
    api_url="https://api.example",
    device_key="key",
    supervisor_keys={},
    supervisor_port=48484,
    bridge_address="172.17.0.1",
    docker_socket="/var/run/docker.sock",
    runtime_directory="/tmp/balena-supervisor",
    instance="device",
)
NOON = 1_541_505_934
SCOPE = Scope(7)


def app(app_id: int, name: str, *services: str) -> dict[str, Any]:
    return {
        "id": app_id,
        "name": name,
        "releases": {
            f"commit{app_id}": {
                "id": app_id * 10,
                "services": {
                    each: {
                        "id": index + 1,
                        "image_id": app_id * 100 + index,
                        "image": f"r/v2/{each}@sha256:{app_id}",
                    }
                    for index, each in enumerate(services)
                },
            }
        },
    }


TARGET = read_target(
    {"d": {"apps": {"u7": app(7, "bots", "main", "web"), "u8": app(8, "other", "main")}}}, "d"
)
DESIRED = desired_state(TARGET, DEVICE)


def running(service: DesiredService, state: ContainerState = ContainerState.RUNNING) -> Container:
    return Container(
        f"id {service.app_id} {service.service}",
        service.container_name,
        service.app_id,
        service.service,
        service.commit,
        service.config_hash,
        state,
        image=service.image,
        service_id=service.service_id,
        image_id=service.image_id,
        release_id=service.release_id,
        created=NOON,
    )


SERVICES = {(app.id, each.service): each for app in DESIRED.apps for each in app.services}
PICTURE = Picture(
    apps=TARGET.apps,
    current=CurrentState(
        containers=tuple(running(each) for each in SERVICES.values()),
        images=tuple(EngineImage(f"sha256:{e.image}", (e.image,)) for e in SERVICES.values()),
    ),
    desired=DESIRED,
    progress={},
    received={},
    doing={},
    running={7: "commit7", 8: "commit8"},
)
WEB = SERVICES[7, "web"]
# The second service of application 7 is on its way.
DOWNLOADING = dataclasses.replace(
    PICTURE,
    current=CurrentState(
        containers=tuple(each for each in PICTURE.current.containers if each.service != "web"),
        images=tuple(e for e in PICTURE.current.images if WEB.image not in e.references),
    ),
    progress={WEB.image: 42},
    received={WEB.image: Received(DownloadWay.DELTA, 1_500, 2_000)},
)


def test_the_state_of_all_applications() -> None:
    body = applications_state(DOWNLOADING, EVERYTHING)
    assert body["bots"] == {
        "appId": 7,
        "appUuid": "u7",
        "commit": "commit7",
        "updateStatus": "downloading",
        "services": {
            "main": {
                "status": "Running",
                "image": "r/v2/main@sha256:7",
                "downloadProgress": None,
                "releaseId": 70,
            },
            "web": {
                "status": "Downloading",
                "image": "r/v2/web@sha256:7",
                "downloadProgress": 42,
                "releaseId": 70,
            },
        },
    }
    assert body["other"]["updateStatus"] == "done"
    assert list(applications_state(PICTURE, SCOPE)) == ["bots"]


def test_an_application_without_release_is_shown_with_nothing() -> None:
    target = read_target({"d": {"apps": {"u7": {"id": 7, "name": "bots"}}}}, "d")
    desired = desired_state(target, DEVICE)
    picture = dataclasses.replace(PICTURE, apps=target.apps, desired=desired, running={})
    bots = applications_state(picture, SCOPE)["bots"]
    assert (bots["commit"], bots["updateStatus"], bots["services"]) == (None, "done", {})


def test_the_state_of_one_application_is_by_image() -> None:
    assert application_state(DOWNLOADING, 7) == {
        "local": {
            "7": {
                "services": {
                    "700": {"status": "Running", "releaseId": 70, "download_progress": None},
                    "701": {"status": "Downloading", "releaseId": 70, "download_progress": 42},
                }
            }
        },
        "commit": "commit7",
    }
    assert application_state(PICTURE, 9) is None


def test_two_containers_of_an_image_are_a_handover() -> None:
    old = dataclasses.replace(running(WEB), id="old", name="old")
    current = dataclasses.replace(PICTURE.current, containers=(*PICTURE.current.containers, old))
    body = application_state(dataclasses.replace(PICTURE, current=current), 7)
    assert body is not None
    assert body["local"]["7"]["services"]["701"]["status"] == "Handing over"


def test_the_status_shows_the_first_application_of_the_key() -> None:
    body = state_status(DOWNLOADING, SCOPE)
    assert body == {
        "appState": "applying",
        "overallDownloadProgress": 42,
        "containers": [
            {
                "status": "Running",
                "serviceName": "main",
                "appId": 7,
                "imageId": 700,
                "serviceId": 1,
                "containerId": "id 7 main",
                "createdAt": "2018-11-06T12:05:34.000Z",
            }
        ],
        "images": [
            {
                "name": "r/v2/main@sha256:7",
                "appId": 7,
                "serviceName": "main",
                "imageId": 700,
                "dockerImageId": "sha256:r/v2/main@sha256:7",
                "status": "Downloaded",
                "downloadProgress": None,
            },
            {
                "name": "r/v2/web@sha256:7",
                "appId": 7,
                "serviceName": "web",
                "imageId": 701,
                "status": "Downloading",
                "downloadProgress": 42,
            },
        ],
        "release": "commit7",
    }
    settled = state_status(PICTURE, Scope(8))
    assert (settled["appState"], settled["overallDownloadProgress"]) == ("applied", None)
    assert [each["appId"] for each in settled["containers"]] == [8]
    nothing = state_status(PICTURE, Scope(9))
    assert (nothing["containers"], nothing["images"], nothing["release"]) == ([], [], None)


def test_variables_are_shown_without_keys() -> None:
    variables = ["A=b=c", "RESIN_API_KEY=x", "BALENA_SUPERVISOR_API_KEY=y", "BALENA_APP_ID=7"]
    found = environment({"Config": {"Env": variables}})
    assert found == {"A": "b=c", "BALENA_APP_ID": "7"}
    assert environment({"Config": {"Env": None}}) == {}


def test_a_lock_is_shown_with_times() -> None:
    file = LockHolder(7, "main", LockKind.FILE, NOON + 0.4)
    assert lock_view(file) == {
        "appId": 7,
        "kind": "file",
        "service": "main",
        "holder": None,
        "lease": None,
        "since": "2018-11-06T12:05:34.000Z",
        "expires": None,
    }
    lease = lock_view(LockHolder(7, "", LockKind.LEASE, NOON, NOON + 60, "run", "abc"))
    assert (lease["service"], lease["holder"], lease["lease"]) == (None, "run", "abc")
    assert lease["expires"] == "2018-11-06T12:06:34.000Z"


def test_events_tell_what_changed_and_only_that() -> None:
    lock = LockHolder(7, "main", LockKind.FILE, NOON)
    first = look(PICTURE, (), SCOPE)
    told = list(first.since(Look({})))
    assert [each.kind for each in told] == [Kind.STATE, Kind.LOCKS]
    assert told[0].data["appName"] == "bots"
    assert list(look(PICTURE, (), SCOPE).since(first)) == []
    second = look(DOWNLOADING, (lock,), SCOPE)
    assert [each.kind for each in second.since(first)] == [Kind.STATE, Kind.PROGRESS, Kind.LOCKS]
    further = dataclasses.replace(DOWNLOADING, progress={WEB.image: 43})
    news = list(look(further, (lock,), SCOPE).since(second))
    assert [each.encode() for each in news] == [
        b'event: progress\ndata: {"appId": 7, "appName": "bots", "serviceName": "web", '
        b'"image": "r/v2/web@sha256:7", "downloadProgress": 43, '
        b'"way": "delta", "downloadedBytes": 1500, "totalBytes": 2000}\n\n'
    ]
    # Bytes alone are news too.
    more = dataclasses.replace(further, received={WEB.image: Received(DownloadWay.PULL, 7, None)})
    [pulled] = look(more, (lock,), SCOPE).since(look(further, (lock,), SCOPE))
    assert (pulled.data["way"], pulled.data["downloadedBytes"], pulled.data["totalBytes"]) == (
        "pull",
        7,
        None,
    )
    waiting = dataclasses.replace(DOWNLOADING, progress={}, received={})
    [still] = look(waiting, (lock,), SCOPE).since(look(further, (lock,), SCOPE))
    assert (still.data["way"], still.data["downloadedBytes"]) == (None, None)
    # What is another application's is nobody's business.
    assert list(look(further, (lock,), Scope(8)).since(look(PICTURE, (), Scope(8)))) == []


def test_figures_are_in_prometheus_form() -> None:
    lock = LockHolder(7, "main", LockKind.FILE, NOON)
    figures = {"cpu_usage": 12, "memory_total": 2, "cpu_temp": 51, "cpu_id": "text", "new": 3}
    text = exposition(
        [*of_process(), *of_figures(figures), *of_applications(DOWNLOADING, [lock], SCOPE)]
    )
    lines = text.splitlines()
    assert text.endswith("\n")
    assert "gantry_device_cpu_usage_ratio 0.12" in lines
    assert "gantry_device_memory_total_bytes 2097152" in lines
    assert 'gantry_application_settled{app_id="7",app="bots"} 0' in lines
    assert 'gantry_application_locks{app_id="7",app="bots"} 1' in lines
    assert 'gantry_service_up{app_id="7",app="bots",service="main"} 1' in lines
    assert 'gantry_service_up{app_id="7",app="bots",service="web"} 0' in lines
    assert 'gantry_service_download_ratio{app_id="7",app="bots",service="web"} 0.42' in lines
    of_web = '{app_id="7",app="bots",service="web",way="delta"}'
    assert f"gantry_service_download_bytes{of_web} 1500" in lines
    assert f"gantry_service_download_size_bytes{of_web} 2000" in lines
    assert 'app_id="8"' not in text
    # Each name's samples stand together, under its one HELP and TYPE.
    seen: list[str] = []
    for line in lines:
        kind, name, *_ = [*line.split(), "", ""] if line[0] == "#" else ("", line, "")
        name = line.split()[2] if kind == "#" else line.partition("{")[0].split()[0]
        if not seen or seen[-1] != name:
            seen.append(name)
    assert len(seen) == len(set(seen))
    resident = next(each for each in lines if each.startswith("process_resident_memory_bytes "))
    assert float(resident.split()[1]) > 1024**2


def test_labels_of_figures_are_escaped() -> None:
    odd = dataclasses.replace(TARGET.apps[0], name='a"b\\c\nd')
    picture = dataclasses.replace(PICTURE, apps=(odd,))
    assert 'app="a\\"b\\\\c\\nd"' in exposition(of_applications(picture, (), SCOPE))
