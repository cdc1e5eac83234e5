"""From `git push` to the build and back."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container

from gantry.contracts.build import BuildEvent, BuildMessage, BuildResult, Phase, ReleaseStatus
from tests.integration.git.conftest import (
    APPLICATION,
    BuildRequest,
    Client,
    Script,
    StandIn,
    run_in,
    successful,
    wait_until,
)

REPOSITORY = f"/data/repositories/{APPLICATION}.git"


def failing(_request: BuildRequest) -> Iterator[BuildEvent]:
    yield BuildMessage("no matching distribution", Phase.BUILD, "main", is_error=True)
    yield BuildResult(ReleaseStatus.FAILED, "", error="Step 2 of main failed with exit code 1.")


def branch_on_server(client: Client, tree: Path, ref: str = "refs/heads/main") -> str | None:
    end = client.git(tree, "ls-remote", "devbots", ref)
    assert end.returncode == 0, end.stderr
    return end.stdout.split()[0] if end.stdout else None


def processes(container: Container) -> str:
    return run_in(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


@pytest.fixture(autouse=True)
def fresh_repository(container: Container) -> None:
    assert container.exec_run(["rm", "-rf", REPOSITORY]).exit_code == 0


def test_a_push_to_main_builds(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree", {"Dockerfile": b"FROM x\n", "src/app.py": b"print(1)\n"})
    end = client.git(tree, "push", "devbots", "main")
    assert end.returncode == 0, end.stderr
    commit = client.git(tree, "rev-parse", "HEAD").stdout.strip()
    build = stand_in.last_build()
    assert build.files == {"Dockerfile": 7, "src/app.py": 9}
    assert build.query == {
        "application_id": "7",
        "application_uuid": APPLICATION,
        "slug": "admin/devbots",
        "device_type": "raspberrypi3-64",
        "user_id": "3",
        "username": "admin",
        "commit": commit,
        "nocache": "0",
    }
    said = [line.removeprefix("remote: ").rstrip() for line in end.stderr.splitlines()]
    assert f"Gantry: admin/devbots, main at {commit[:7]}, for raspberrypi3-64" in said
    assert "build   main | Step 1/1 : FROM scratch" in said
    assert "success: release 12 of admin/devbots: its devices download it now" in said
    assert f"  commit    {commit} (main)" in said
    assert "  size      123.4 MB" in said
    assert "  build     41.2 s" in said
    assert branch_on_server(client, tree) == commit


def test_both_forms_of_the_remote_work(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree")
    client.git(tree, "remote", "add", "scp", "admin@devbots.gantry.internal:admin/devbots.git")
    assert client.git(tree, "push", "scp", "main").returncode == 0
    client.commit(tree, {"a": b"a"})
    assert client.git(tree, "push", client.url("admin/devbots"), "main").returncode == 0
    assert len(stand_in.builds) == 2
    clone = client.folder / "clone"
    assert client.git(tree, "clone", "-q", client.url(), str(clone)).returncode == 0
    assert (clone / "a").read_bytes() == b"a"


def test_the_output_comes_as_it_happens(client: Client, stand_in: StandIn) -> None:
    read = [threading.Event() for _ in range(4)]
    in_time = []

    def script(request: BuildRequest) -> Iterator[BuildEvent]:
        for number, event in enumerate(read):
            yield BuildMessage(f"line {number}", Phase.BUILD)
            # The next line is not said before this one was read at the other end.
            in_time.append(event.wait(60))
        yield BuildResult(ReleaseStatus.SUCCESS, request.query["commit"], release_id=1)

    stand_in.script = script
    push = client.start(client.work_tree("tree"), "push", "devbots", "main")
    assert push.stderr is not None
    lines = (line for line in push.stderr if "| line " in line)
    for event, line in zip(read, lines, strict=False):
        assert f"line {read.index(event)}" in line
        event.set()
    push.stderr.read()
    assert push.wait(60) == 0
    push.stderr.close()
    assert in_time == [True] * 4


def test_a_failed_build_rejects_the_push(client: Client, stand_in: StandIn) -> None:
    stand_in.script = failing
    tree = client.work_tree("tree")
    end = client.git(tree, "push", "devbots", "main")
    assert end.returncode == 1
    assert "remote: build   main ! no matching distribution" in end.stderr
    assert "remote: error: Step 2 of main failed with exit code 1." in end.stderr
    assert "pre-receive hook declined" in end.stderr
    assert branch_on_server(client, tree) is None


def test_a_rejected_push_leaves_no_objects(
    client: Client, stand_in: StandIn, container: Container
) -> None:
    stand_in.script = failing
    tree = client.work_tree("tree", {"big": os.urandom(3_000_000)})
    assert client.git(tree, "push", "devbots", "main").returncode == 1
    size = run_in(container, f"du -sk {REPOSITORY}")
    assert int(size.split()[0]) < 500


def test_ctrl_c_ends_the_build(
    client: Client, stand_in: StandIn, slow: Script, container: Container
) -> None:
    stand_in.script = slow
    tree = client.work_tree("tree")
    push = client.start(tree, "push", "devbots", "main")
    build = stand_in.last_build()
    time.sleep(1)
    os.killpg(push.pid, signal.SIGINT)
    push.communicate(timeout=60)
    assert build.cancelled.wait(60), "the builder was not told"
    wait_until(lambda: "receive-pack" not in processes(container))
    assert branch_on_server(client, tree) is None
    left = run_in(container, f"ls {REPOSITORY}/objects")
    assert "tmp_objdir" not in left
    # The next push finds nothing in its way.
    stand_in.script = successful
    assert client.git(tree, "push", "devbots", "main").returncode == 0


def test_a_silent_client_that_dies_ends_the_build(
    client: Client, stand_in: StandIn, container: Container
) -> None:
    """The build says nothing, so that no failing write gives the client's end away."""
    going = True

    def silent(_request: BuildRequest) -> Iterator[BuildEvent]:
        yield BuildMessage("begin", Phase.BUILD)
        while going:
            time.sleep(0.1)
        yield BuildResult(ReleaseStatus.CANCELLED, "")

    stand_in.script = silent
    push = client.start(client.work_tree("tree"), "push", "devbots", "main")
    stand_in.last_build()
    time.sleep(0.5)
    os.killpg(push.pid, signal.SIGKILL)
    push.communicate(timeout=60)
    try:
        wait_until(lambda: "receive-pack" not in processes(container))
    finally:
        going = False


def test_other_branches_and_tags_are_stored(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree")
    client.git(tree, "tag", "v1")
    end = client.git(tree, "push", "devbots", "main:feature/x", "v1")
    assert end.returncode == 0
    assert "remote: stored, not built: feature/x, v1 (main and master are built)." in end.stderr
    assert stand_in.builds == []
    assert branch_on_server(client, tree, "refs/heads/feature/x") is not None


def test_master_builds_as_well(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree")
    assert client.git(tree, "push", "devbots", "main:master").returncode == 0
    assert len(stand_in.builds) == 1
    head = client.git(tree, "ls-remote", "--symref", "devbots", "HEAD").stdout
    assert head.startswith("ref: refs/heads/master")


def test_main_and_master_at_once_build_main(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree")
    client.git(tree, "branch", "master")
    commit = client.commit(tree, {"a": b"a"})
    end = client.git(tree, "push", "devbots", "main", "master")
    assert end.returncode == 0
    assert "main is built, master is stored only" in end.stderr
    assert [build.query["commit"] for build in stand_in.builds] == [commit]


def test_main_is_not_deleted_but_rewritten(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree")
    first = client.git(tree, "rev-parse", "HEAD").stdout.strip()
    client.commit(tree, {"a": b"a"})
    assert client.git(tree, "push", "devbots", "main").returncode == 0
    end = client.git(tree, "push", "devbots", ":main")
    assert end.returncode == 1
    assert "remote: error: main cannot be deleted" in end.stderr
    assert client.git(tree, "push", "--force", "devbots", f"{first}:main").returncode == 0
    assert stand_in.builds[-1].query["commit"] == first


def test_push_options(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree")
    end = client.git(tree, "push", "-o", "nocach", "devbots", "main")
    assert end.returncode == 1
    assert "unknown push option 'nocach': there is nocache." in end.stderr
    assert client.git(tree, "push", "-o", "nocache", "devbots", "main").returncode == 0
    assert stand_in.last_build().query["nocache"] == "1"


def test_the_second_push_waits_and_says_so(client: Client, stand_in: StandIn) -> None:
    running: list[float] = []
    second_waits = threading.Event()

    def script(request: BuildRequest) -> Iterator[BuildEvent]:
        assert not running, "two builds of one application at once"
        running.append(1)
        assert second_waits.wait(60)
        running.clear()
        yield BuildResult(ReleaseStatus.SUCCESS, request.query["commit"], release_id=1)

    stand_in.script = script
    tree, other = client.work_tree("tree"), client.work_tree("other")
    first = client.start(tree, "push", "devbots", "main")
    stand_in.last_build()
    second = client.start(other, "push", "--force", "devbots", "main")
    commit = client.git(tree, "rev-parse", "--short=7", "HEAD").stdout.strip()
    waiting = f"| waiting for admin's push of {commit} to admin/devbots to be built"
    assert second.stderr is not None
    assert any(waiting in line for line in second.stderr)
    second_waits.set()
    first_says, second_says = first.communicate(timeout=60)[1], second.communicate(timeout=60)[1]
    assert first.returncode == 0, first_says
    # What it was to replace is no longer there: force meant the state that it saw.
    assert second.returncode == 1
    assert "main has moved while this push waited: fetch it, then push again." in second_says
    assert client.git(other, "push", "--force", "devbots", "main").returncode == 0


def test_no_access_to_another_users_repository(client: Client) -> None:
    tree = client.work_tree("tree")
    end = client.git(tree, "ls-remote", client.url("mallory/bots.git"))
    assert end.returncode == 128
    assert "gantry: There is no application mallory/bots, or you may not pull it." in end.stderr
    end = client.git(tree, "push", client.url("mallory/bots.git"), "main")
    assert end.returncode == 128
    assert "or you may not push it." in end.stderr


@pytest.mark.parametrize(
    "path",
    [
        "../admin/devbots.git",
        "admin/../../etc.git",
        "admin/dev;id.git",
        "admin/$(id).git",
        "admin/dévbots.git",
        "admin/--upload-pack=id",
        "data/repositories/x/y.git",
        "devbots.git",
        "admin/a'b.git",
        "admin/" + "x" * 200,
    ],
)
def test_odd_names_are_refused(client: Client, path: str) -> None:
    end = client.ssh("git-receive-pack '" + path.replace("'", "'\\''") + "'")
    assert end.returncode == 1
    assert "gantry: " in end.stderr
    assert "is not a repository's name" in end.stderr or "is not offered" in end.stderr
    assert end.stdout == ""


def test_a_big_push_goes_through_in_bounded_memory(
    client: Client, stand_in: StandIn, container: Container
) -> None:
    """40 MB come; the processes' own memory, the service's 30 MiB among it, stays bounded."""
    tree = client.work_tree("tree", {f"blob{n}": os.urandom(20_000_000) for n in range(2)})
    push = client.start(tree, "push", "devbots", "main")
    peak = 0
    while push.poll() is None:
        status = run_in(container, "cat /proc/[0-9]*/status 2>/dev/null")
        anonymous = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
        peak = max(peak, sum(map(int, anonymous)) * 1024)
    push.communicate()
    assert push.returncode == 0
    assert stand_in.last_build().size > 40_000_000
    assert 10 * 1024**2 < peak < 150 * 1024**2


def test_a_push_beyond_the_limit_is_refused(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree", {f"blob{n}": os.urandom(17_000_000) for n in range(3)})
    end = client.git(tree, "push", "devbots", "main")
    assert end.returncode == 1
    assert "remote: fatal: pack exceeds maximum allowed size" in end.stderr
    assert stand_in.builds == []


def test_many_refs_at_once(client: Client, stand_in: StandIn) -> None:
    tree = client.work_tree("tree")
    commit = client.git(tree, "rev-parse", "HEAD").stdout.strip()
    packed = "".join(f"{commit} refs/tags/t{number:05}\n" for number in range(3000))
    (tree / ".git" / "packed-refs").write_text(packed)
    end = client.git(tree, "push", "devbots", "main", "--tags")
    assert end.returncode == 0, end.stderr[-500:]
    assert "and 2995 more (main and master are built)" in end.stderr
    assert len(stand_in.builds) == 1


def test_a_shallow_clone_can_push(client: Client, stand_in: StandIn) -> None:
    origin = client.work_tree("origin")
    client.commit(origin, {"a": b"a"})
    shallow = client.folder / "shallow"
    client.git(origin, "clone", "-q", "--depth=1", f"file://{origin}", str(shallow))
    assert client.git(shallow, "push", client.url(), "main").returncode == 0
    assert set(stand_in.last_build().files) == {"Dockerfile", "a"}


def test_what_archives_leave_out_is_built(client: Client, stand_in: StandIn) -> None:
    files = {".gitattributes": b"secret export-ignore\n", "secret": b"$Format:%H$\n", "d": b""}
    tree = client.work_tree("tree", files)
    assert client.git(tree, "push", "devbots", "main").returncode == 0
    assert set(stand_in.last_build().files) == set(files)


def test_without_a_builder_nothing_is_stored(client: Client, stand_in: StandIn) -> None:
    def vanish(_request: BuildRequest) -> Iterator[BuildEvent]:
        yield BuildMessage("begin", Phase.BUILD)

    stand_in.script = vanish
    tree = client.work_tree("tree")
    end = client.git(tree, "push", "devbots", "main")
    assert end.returncode == 1
    assert "remote: error: the builder went away before the build was done." in end.stderr
    assert "remote: The branch is as it was, and no device got anything." in end.stderr
    assert branch_on_server(client, tree) is None


def test_the_log_tells_of_each_push(client: Client, container: Container) -> None:
    tree = client.work_tree("tree")
    assert client.git(tree, "push", "devbots", "main").returncode == 0
    commit = client.git(tree, "rev-parse", "--short=12", "HEAD").stdout.strip()
    line = f"push by admin to admin/devbots: refs/heads/main@{commit}: stored"
    with contextlib.suppress(AssertionError):
        wait_until(lambda: line in container.logs().decode())
    assert line in container.logs().decode()
