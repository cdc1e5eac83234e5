"""Pushes that become images in the registry, and pushes that do not."""

import threading
import time
from typing import Any

import httpx2
import pytest

from gantry.contracts.build import BuildMessage, BuildResult, Phase, ReleaseStatus
from tests.integration.builder.standin import USER_TOKEN

BASE = "FROM gantry/amd64-raspios:bookworm\n"
HELLO = {
    "Dockerfile.template": (
        "FROM gantry/%%RESIN_ARCH%%-raspios:bookworm\n"
        "RUN echo built for %%BALENA_MACHINE_NAME%% on $(uname -m)\n"
        "COPY hello.sh /hello.sh\n"
        'CMD ["sh", "/hello.sh"]\n'
    ),
    "hello.sh": "echo hello one\n",
    "contract.yml": "slug: hello\nrequires:\n- {type: sw.os, slug: debian, version: '>=12'}\n",
}
Rig = Any


@pytest.fixture(scope="module")
def first(rig: Rig) -> tuple[BuildResult, list[str]]:
    result, lines = rig.result(HELLO, commit="c0ffee01" * 5)
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    return result, lines


def test_a_template_becomes_a_release(rig: Rig, first: tuple[BuildResult, list[str]]) -> None:
    result, lines = first
    assert result.services == ["main"]
    assert result.size > 10_000_000
    assert set(result.seconds) == {each.value for each in Phase}
    assert "[main] built for generic-amd64 on x86_64" in lines
    release = rig.api.releases[result.release_id]
    assert release["status"] == "success"
    assert release["composition"]["services"]["main"]["privileged"] is True
    [image] = release["images"]
    assert image["digest"].startswith("sha256:")
    assert image["size"] == result.size
    assert "gantry/amd64-raspios" in image["dockerfile"]
    assert image["contract"] == {
        "type": "sw.container",
        "slug": "hello",
        "requires": [{"type": "sw.os", "slug": "debian", "version": ">=12"}],
    }
    assert "built for generic-amd64" in release["build_log"]


def test_a_changed_line_builds_from_the_cache(rig: Rig) -> None:
    rig.settled()
    one, _ = rig.result(HELLO)
    two, lines = rig.result({**HELLO, "hello.sh": "echo hello two\n"})
    assert two.status is ReleaseStatus.SUCCESS, [two.error, *lines]
    assert any("RUN echo built for" in each and "(cached)" in each for each in lines), lines
    digests = [rig.api.releases[each.release_id]["images"][0]["digest"] for each in (one, two)]
    assert digests[0] != digests[1]


def test_a_commit_is_built_once(rig: Rig, first: tuple[BuildResult, list[str]]) -> None:
    result, lines = rig.result(HELLO, commit=first[0].commit)
    assert (result.status, result.release_id) == (ReleaseStatus.SUCCESS, first[0].release_id)
    assert "was built before" in lines[-1]
    assert rig.api.releases[first[0].release_id]["builder"] == f"builder.{rig.host}"


def test_the_log_is_kept_for_those_who_may_see_the_release(
    rig: Rig, first: tuple[BuildResult, list[str]]
) -> None:
    url = f"{rig.url}/v3/builds/{first[0].release_id}/log"
    answer = httpx2.get(url, headers={"Authorization": f"Bearer {USER_TOKEN}"})
    assert answer.status_code == 200
    assert "built for generic-amd64 on x86_64" in answer.text
    assert httpx2.get(url).status_code == 401
    assert httpx2.get(url, headers={"Authorization": "Bearer other"}).status_code == 401


def test_services_of_a_composition_are_built_and_named(rig: Rig) -> None:
    files = {
        "docker-compose.yml": (
            "services:\n"
            "  web: {build: ./web, ports: ['80:8080'], depends_on: [db], pull_policy: always}\n"
            "  db: {image: 'gantry/amd64-raspios:bookworm', command: sleep infinity}\n"
        ),
        "web/Dockerfile": f"{BASE}RUN echo in $(cat /etc/debian_version)\n",
    }
    result, lines = rig.result(files, application_id=2)
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    assert result.services == ["web", "db"]
    assert any("pull_policy has no meaning" in each for each in lines)
    assert any(each.startswith("[web] in 12.") for each in lines)
    release = rig.api.releases[result.release_id]
    assert {each["digest"] for each in release["images"]} != {""}
    assert release["composition"]["services"]["web"]["ports"] == ["80:8080"]


def test_a_failing_step_fails_the_release_with_its_reason(rig: Rig) -> None:
    result, lines = rig.result({"Dockerfile": f"{BASE}RUN echo oh no >&2; exit 3\n"})
    assert result.status is ReleaseStatus.FAILED
    assert result.error is not None
    assert "exit code: 3" in result.error
    assert "[main] oh no" in lines
    release = rig.api.releases[result.release_id]
    assert release["status"] == "failed"
    assert "exit code: 3" in release["error"]
    assert "oh no" in release["build_log"]


def test_nothing_to_build_is_rejected_with_what_is_accepted(rig: Rig) -> None:
    before = len(rig.api.releases)
    result, _ = rig.result({"README.md": "hello\n"})
    assert result.status is ReleaseStatus.FAILED
    assert result.error is not None
    assert "README.md" in result.error
    assert "Dockerfile.template" in result.error
    assert "requirements.txt" in result.error
    assert len(rig.api.releases) == before


def test_a_step_that_takes_too_much_memory_is_named(rig: Rig) -> None:
    hungry = f'{BASE}RUN python3 -c "x = bytearray(1200 * 1024**2); print(len(x))"\n'
    result, lines = rig.result({"Dockerfile": hungry}, application_id=3)
    assert result.status is ReleaseStatus.FAILED, lines
    assert result.error is not None
    assert "512 MiB of memory" in result.error


def test_hanging_up_ends_the_build(rig: Rig) -> None:
    events = rig.build({"Dockerfile": f"{BASE}RUN sleep 987\n"}, application_id=4)
    for event in events:
        if isinstance(event, BuildMessage) and "RUN sleep 987" in event.message:
            break
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and "sleep 987" not in rig.processes():
        time.sleep(0.1)
    assert "sleep 987" in rig.processes()
    events.close()
    deadline = time.monotonic() + 10
    release = list(rig.api.releases.values())[-1]
    while time.monotonic() < deadline and release["status"] == "running":
        time.sleep(0.1)
    assert release["status"] == "cancelled"
    assert "sleep 987" not in rig.processes()


def test_a_second_push_waits_and_says_for_what(rig: Rig) -> None:
    slow = {"Dockerfile": f"{BASE}RUN sleep 10\n"}
    results = []
    started = threading.Event()

    def push() -> None:
        for event in rig.build(slow, application_id=5, commit="a" * 40, username="anna"):
            started.set()
            results.append(event)

    thread = threading.Thread(target=push)
    thread.start()
    assert started.wait(10)
    result, lines = rig.result(
        {"Dockerfile": f"{BASE}RUN true\n"}, application_id=5, commit="b" * 40
    )
    thread.join()
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    assert any("waiting for another push to this fleet: aaaaaaaaaaaa of anna" in e for e in lines)
    assert result.seconds["queue"] > 1
    assert results[-1].status is ReleaseStatus.SUCCESS
    # Ten seconds without output are not ten seconds of silence.
    assert any(isinstance(e, BuildMessage) and "still at it" in e.message for e in results)


def test_a_refusing_api_is_quoted(rig: Rig) -> None:
    rig.api.refusal = "this commit has a release already"
    try:
        result, _ = rig.result(HELLO)
    finally:
        rig.api.refusal = ""
    assert result.status is ReleaseStatus.FAILED
    assert result.release_id is None
    assert "this commit has a release already" in result.error


def test_builds_reach_the_internet_but_not_the_fleet(rig: Rig) -> None:
    address = rig.url.removeprefix("http://")
    host, port = address.split(":")
    script = (
        "import socket\\n"
        "socket.create_connection(('deb.debian.org', 80), 10); print('archive reached')\\n"
        f"for name, port in (('{host}', {port}), ('198.18.0.1', {port}), ('{rig.gateway}', "
        f"{rig.api_port})):\\n"
        "    try: socket.create_connection((name, port), 2); print('REACHED', name)\\n"
        "    except OSError: pass"
    )
    result, lines = rig.result(
        {"Dockerfile": f'{BASE}RUN printf "{script}" > /t.py && python3 /t.py\n'},
        application_id=6,
        nocache=1,
    )
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    assert "[main] archive reached" in lines
    assert not [each for each in lines if each.startswith("[main] REACHED")]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "198.18.0.1", "own", "gateway"])
def test_add_fetches_nothing_of_the_fleet(rig: Rig, host: str) -> None:
    """The engine itself fetches what ADD names, from inside the fleet's network."""
    if host == "gateway":
        url = f"http://{rig.gateway}:{rig.api_port}/ping"
    else:
        url = f"{rig.url}/ping" if host == "own" else f"http://{host}:8080/ping"
    result, _ = rig.result({"Dockerfile": f"{BASE}ADD {url} /x\n"}, application_id=10)
    assert result.status is ReleaseStatus.FAILED
    assert "refused" in (result.error or "") or "unreachable" in (result.error or ""), result.error


def test_applications_do_not_share_cache_mounts(rig: Rig) -> None:
    """One application must not put files into another's image by way of a cache folder."""
    mount = "--mount=type=cache,id=pip,target=/c"
    dockerfile = f"{BASE}RUN {mount} ls /c; touch /c/from-$WHO\n"
    lines = []
    for application_id, who in ((8, "a"), (9, "b"), (9, "b2")):
        files = {"Dockerfile": dockerfile.replace("$WHO", who)}
        result, said = rig.result(files, application_id=application_id)
        assert result.status is ReleaseStatus.SUCCESS, [result.error, *said]
        lines.append([each for each in said if "from-" in each and "RUN" not in each])
    assert lines == [[], [], ["[main] from-b"]]


def test_only_services_may_ask(rig: Rig) -> None:
    answer = httpx2.post(f"{rig.url}/v3/build", headers={"Authorization": "Bearer guess"})
    assert answer.status_code == 401
    assert "key" in answer.json()["error"]


def test_it_has_exactly_the_capabilities_that_it_names(rig: Rig) -> None:
    host = rig.container.attrs["HostConfig"]
    assert set(host["CapAdd"]) == {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "MKNOD"}
    assert not host["Privileged"]
    assert [each for each in rig.container.attrs["Mounts"] if "docker.sock" in str(each)] == []
    assert rig.api.recovered == [f"builder.{rig.host}"]


def test_a_stopped_builder_cancels_what_runs_and_keeps_what_it_has(rig: Rig) -> None:
    """The last test: it stops and starts the builder."""
    events = rig.build({"Dockerfile": f"{BASE}RUN sleep 986\n"}, application_id=8)
    for event in events:
        if isinstance(event, BuildMessage) and "RUN sleep 986" in event.message:
            break
    rig.container.stop(timeout=60)
    rig.container.reload()
    assert rig.container.attrs["State"]["ExitCode"] != 137, "it had to be killed"
    assert list(rig.api.releases.values())[-1]["status"] == "cancelled"
    with pytest.raises(httpx2.HTTPError):
        list(events)
    rig.restart()
    result, lines = rig.result({**HELLO, "hello.sh": "echo three\n"})
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    assert any("RUN echo built for" in each and "(cached)" in each for each in lines), lines
    assert len(rig.api.recovered) == 2
