"""The smaller parts: queue, progress, logs, fence, emulation, settings."""

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gantry.builder import buildlog
from gantry.builder.buildx import BuildJob, command
from gantry.builder.cgroups import BuildCgroups
from gantry.builder.config import load
from gantry.builder.container import emulation, fence_rules
from gantry.builder.progress import Transcript
from gantry.builder.queue import BuildQueue
from gantry.configuration import ConfigError
from gantry.contracts.device_types import Architecture

SETTINGS = {
    "fleet": "devbots",
    "host": "devbots.gantry.internal",
    "https_port": 8443,
    "device_type": "raspberrypi3-64",
    "api_url": "http://api:8080",
    "service_key": "s3cret",
    "ca_certificate_pem": "PEM",
    "accepted_keys": ["g1t"],
    "limits": {"build_seconds": 60},
}


class TestQueue:
    """One build an application, a limit for all."""

    def test_an_application_builds_one_at_a_time_in_order(self) -> None:
        order: list[str] = []
        said: list[str] = []

        async def build(queue: BuildQueue, application: int, name: str) -> None:
            async with queue.turn(application, name, said.append):
                order.append(f"+{name}")
                await asyncio.sleep(0.05)
                order.append(f"-{name}")

        async def run() -> None:
            queue = BuildQueue(2)
            await asyncio.gather(
                *(build(queue, app, name) for app, name in ((1, "a"), (1, "b"), (2, "c")))
            )

        asyncio.run(run())
        assert order.index("-a") < order.index("+b")
        assert order.index("+c") < order.index("-a")
        assert said == ["waiting for another push to this fleet: a, since 0 s"]

    def test_the_limit_holds_for_all_applications(self) -> None:
        said: list[str] = []

        async def run() -> None:
            queue = BuildQueue(1)
            async with queue.turn(1, "a", said.append):
                waiting = asyncio.create_task(self._enter(queue, 2, said))
                await asyncio.sleep(0.05)
                assert not waiting.done()
            await waiting

        asyncio.run(run())
        assert said == ["waiting: the builder runs 1 builds, which is its limit: a"]

    def test_who_gives_up_waiting_blocks_nobody(self) -> None:
        async def run() -> None:
            queue = BuildQueue(1)
            async with queue.turn(1, "a", lambda _: None):
                waiting = asyncio.create_task(self._enter(queue, 1, []))
                await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            await asyncio.wait_for(self._enter(queue, 1, []), 1)

        asyncio.run(run())

    @staticmethod
    async def _enter(queue: BuildQueue, application: int, said: list[str]) -> None:
        async with queue.turn(application, "x", said.append):
            pass


class TestTranscript:
    """BuildKit's status as lines."""

    @staticmethod
    def feed(transcript: Transcript, status: object, *, indent: bool = True) -> list[str]:
        text = json.dumps(status, indent=2 if indent else None)
        return [line.text for raw in text.splitlines() for line in transcript.feed(raw)]

    @pytest.mark.parametrize("indent", [True, False])
    def test_a_step_and_its_output(self, indent: bool) -> None:
        transcript = Transcript()
        vertex = {"digest": "sha256:1", "name": "[2/2] RUN make", "started": "2026"}
        assert self.feed(transcript, {"vertexes": [vertex]}, indent=indent) == ["[2/2] RUN make"]
        assert self.feed(transcript, {"vertexes": [vertex]}, indent=indent) == []

        def log(data: bytes) -> dict[str, object]:
            entry = {"vertex": "sha256:1", "stream": 2, "data": base64.b64encode(data).decode()}
            return {"logs": [entry]}

        assert self.feed(transcript, log(b"one\ntw"), indent=indent) == ["one"]
        assert self.feed(transcript, log(b"o\n10%\r90%\nrest"), indent=indent) == ["two", "90%"]
        assert [each.text for each in transcript.finish()] == ["rest"]

    def test_internal_steps_are_left_out(self) -> None:
        vertex = {"digest": "1", "name": "[internal] load build context", "started": "2026"}
        assert self.feed(Transcript(), {"vertexes": [vertex]}) == []

    @pytest.mark.parametrize("cached", [True, False])
    @pytest.mark.parametrize("states", [["started", "completed"], ["completed"]])
    def test_a_step_is_said_once_however_much_of_it_is_seen(
        self, cached: bool, states: list[str]
    ) -> None:
        transcript = Transcript()
        vertex: dict[str, object] = {"digest": "2", "name": "[2/3] RUN apt", "started": "2026"}
        lines = []
        for state in states:
            vertex = {**vertex, state: "2026", "cached": cached}
            lines += self.feed(transcript, {"vertexes": [vertex]})
        assert lines == ["[2/3] RUN apt" + " (cached)" * cached]

    def test_a_step_that_failed_is_said_with_its_error(self) -> None:
        transcript = Transcript()
        vertex = {"digest": "2", "name": "RUN x", "started": "2026", "completed": "2026"}
        failed = {**vertex, "error": "exit code: 1"}
        said = [self.feed(transcript, {"vertexes": [failed]}) for _ in range(2)]
        assert said == [["RUN x: exit code: 1"], []]

    def test_the_first_error_is_the_reason(self) -> None:
        transcript = Transcript()
        failed = {"digest": "1", "name": "[2/2] RUN false", "error": "exit code: 1"}
        self.feed(transcript, {"vertexes": [failed]})
        transcript.feed("ERROR: failed to solve: other")
        assert transcript.failure() == "[2/2] RUN false: exit code: 1"

    def test_an_error_without_a_step(self) -> None:
        transcript = Transcript()
        transcript.feed("ERROR: failed to solve: dockerfile parse error on line 1")
        assert transcript.failure() == "dockerfile parse error on line 1"


class TestLogs:
    """Kept logs."""

    def test_readable_while_it_grows_and_after(self, tmp_path: Path) -> None:
        log = buildlog.BuildLog(tmp_path, "build-x", 1_000_000)
        log.keep(7)
        for number in range(120):
            log.write(f"line {number}")
        assert "line 99" in (buildlog.read(tmp_path, 7) or "")
        log.close()
        assert "line 119" in (buildlog.read(tmp_path, 7) or "")
        assert "line 119" in log.tail()
        assert buildlog.read(tmp_path, 8) is None

    def test_the_limit_is_said(self, tmp_path: Path) -> None:
        log = buildlog.BuildLog(tmp_path, "build-x", 200)
        log.keep(7)
        for _ in range(50):
            log.write("x" * 20)
        log.close()
        text = buildlog.read(tmp_path, 7) or ""
        assert text.endswith("the log reached its limit: the rest is not kept\n")
        assert len(text) < 400

    def test_without_a_release_none_is_kept(self, tmp_path: Path) -> None:
        log = buildlog.BuildLog(tmp_path, "build-x", 200)
        log.close()
        assert list(tmp_path.iterdir()) == []

    def test_only_the_newest_are_kept(self, tmp_path: Path) -> None:
        for number in range(5):
            log = buildlog.BuildLog(tmp_path, "x", 200)
            log.keep(number)
            log.close()
        buildlog.prune(tmp_path, 2)
        assert len(list(tmp_path.iterdir())) == 2


def test_the_fence_refuses_all_but_names() -> None:
    rules = [" ".join(each) for each in fence_rules(["172.18.0.0/16"], 8443)]
    assert rules[0] == "DOCKER-USER -i docker0 -d 172.18.0.0/16 -j REJECT"
    incoming = [each for each in rules if each.startswith("INPUT")]
    assert incoming[-1] == "INPUT -i docker0 -j REJECT"
    assert [
        each for each in incoming if "--dport" in each and "--dport 53 -j ACCEPT" not in each
    ] == []


def test_the_engine_fetches_nothing_of_the_fleet_but_images() -> None:
    engine = "OUTPUT -m owner --gid-owner 10999 --suppl-groups -d"
    rules = [" ".join(each) for each in fence_rules(["172.18.0.0/16"], 8443)]
    assert [each for each in rules if each.startswith("OUTPUT")] == [
        f"{engine} 127.0.0.11/32 -j ACCEPT",
        f"{engine} 172.18.0.0/16 -p tcp --dport 8443 -j ACCEPT",
        f"{engine} 172.18.0.0/16 -j REJECT",
        f"{engine} 127.0.0.0/8 -j REJECT",
        f"{engine} 198.18.0.1/16 -j REJECT",
        f"{engine} 169.254.0.0/16 -j REJECT",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("enabled\ninterpreter /x\nflags: PF\n", None),
        ("enabled\ninterpreter /x\nflags: P\n", "without the flag F"),
        ("disabled\ninterpreter /x\nflags: PF\n", "switched off"),
        (None, "no qemu-arm"),
    ],
)
def test_emulation_is_asked_of_the_kernel(
    tmp_path: Path, content: str | None, problem: str | None
) -> None:
    if content:
        (tmp_path / "qemu-arm").write_text(content)
    found = emulation(Architecture.RPI, Architecture.AMD64, tmp_path).problem
    assert (problem in found) if problem and found else found is problem


def test_a_build_has_no_attestations_and_its_own_group(tmp_path: Path) -> None:
    job = BuildJob(
        tmp_path, tmp_path / "Dockerfile", "linux/arm64", ["a:1"], {"A": "b c"}, {}, "final", True,
        "/gantry-x-builder/application-1",
    )  # fmt: skip
    words = command(job, tmp_path / "m")
    for word in ("--provenance=false", "--build-arg=A=b c", "--target=final", "--no-cache"):
        assert word in words
    assert "--cgroup-parent=/gantry-x-builder/application-1" in words


def test_a_tree_does_not_choose_whose_caches_it_mounts(tmp_path: Path) -> None:
    args = {"BUILDKIT_CACHE_MOUNT_NS": "another's"}
    job = BuildJob(tmp_path, tmp_path / "Dockerfile", "linux/arm64", ["a:1"], args)
    assert not [each for each in command(job, tmp_path / "m") if "CACHE_MOUNT" in each]
    job = replace(job, cache_namespace="own")
    found = [each for each in command(job, tmp_path / "m") if "CACHE_MOUNT" in each]
    assert found == ["--build-arg=BUILDKIT_CACHE_MOUNT_NS=own"]


@pytest.mark.parametrize("unified", [True, False])
def test_groups_of_both_versions(tmp_path: Path, unified: bool) -> None:
    """Plain files in place of a kernel's: the names and the values are what is tested."""
    if unified:
        (tmp_path / "cgroup.controllers").write_text("memory")
    else:
        (tmp_path / "memory").mkdir()
        (tmp_path / "pids").mkdir()
    groups = BuildCgroups("gantry-x-builder", tmp_path)
    groups.prepare()
    path = groups.limited(7, 1000)
    assert path == "/gantry-x-builder/application-7"
    if unified:
        assert (tmp_path / path[1:] / "memory.max").read_text() == "1000"
        assert (tmp_path / path[1:] / "pids.max").read_text() == "8192"
        (tmp_path / path[1:] / "memory.events").write_text("oom 1\noom_kill 1\n")
    else:
        folder = tmp_path / "memory" / path[1:]
        assert (folder / "memory.limit_in_bytes").read_text() == "1000"
        assert (tmp_path / "pids" / path[1:] / "pids.max").read_text() == "8192"
        (folder / "memory.max_usage_in_bytes").write_text("999")
    assert groups.ran_out(path)


class TestSettings:
    """builder.json."""

    def test_defaults(self, tmp_path: Path) -> None:
        (tmp_path / "b.json").write_text(json.dumps(SETTINGS))
        config = load(tmp_path / "b.json")
        assert config.registry == "registry.devbots.gantry.internal:8443"
        assert config.limits.concurrent_builds == 2
        assert config.own_type.architecture is Architecture.AARCH64

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"https_port": 0}, "https_port"),
            ({"device_type": "toaster"}, "unknown device type 'toaster'"),
            ({"surprise": 1}, "surprise"),
            ({"limits": {"build_seconds": 1}}, "limits.build_seconds"),
        ],
    )
    def test_what_is_wrong_is_named_and_no_secret_is_told(
        self, tmp_path: Path, change: dict[str, object], named: str
    ) -> None:
        (tmp_path / "b.json").write_text(json.dumps({**SETTINGS, **change}))
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / "b.json")
        assert named in str(caught.value)
        assert "s3cret" not in str(caught.value)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot read"):
            load(tmp_path / "missing.json")
