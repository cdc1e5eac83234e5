"""The built-in engine against a real Docker engine, with a program of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from docker.errors import NotFound

from gantry.deployment.engine import Engine, EngineError
from gantry.deployment.engine.state import exclusive
from gantry.deployment.engine.values import reveal

from .conftest import Deployed, ops

ALL_NEW = {
    "cloud": "create",
    "network": "create",
    "secret": "create",
    "service": "create",
    "volume": "create",
}


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def exists(deployed: Deployed) -> bool:
    try:
        return bool(deployed.inspect()["State"]["Running"])
    except NotFound:
        return False


def in_a_process(deployed: Deployed) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from gantry.deployment.engine import Engine; "
        "Engine(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])).up()"
    )
    words = [deployed.stack, str(deployed.root), str(deployed.home)]
    source = str(Path(__file__).parents[3] / "src")
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], env=os.environ | {"PYTHONPATH": source}
    )


def test_first_preview_changes_nothing_and_first_up_makes_everything(deployed: Deployed) -> None:
    foreseen = deployed.engine.preview()
    assert ops(foreseen) == {**ALL_NEW, f"enginetest-{deployed.stack}": "create"}
    assert not deployed.engine.state_file.exists()
    with pytest.raises(NotFound):
        deployed.inspect()

    result = deployed.engine.up()
    assert ops(result) == ops(foreseen)
    found = deployed.inspect()
    assert found["State"]["Health"]["Status"] == "healthy"
    assert list(found["NetworkSettings"]["Networks"]) == [f"{deployed.stack}-net"]
    aliases = found["NetworkSettings"]["Networks"][f"{deployed.stack}-net"]["Aliases"]
    assert "service" in aliases
    host = found["HostConfig"]
    assert (host["Memory"], host["CapDrop"], host["CapAdd"]) == (32 * 2**20, ["ALL"], ["CAP_CHOWN"])
    assert (host["Init"], host["NetworkMode"]) == (False, "bridge")
    assert host["PortBindings"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "0"}]
    outputs = deployed.engine.outputs()
    assert outputs["password"] == "[secret]"
    assert outputs["length"] == len("hush-hush")
    assert deployed.engine.outputs(show_secrets=True)["password"] == "hush-hush"

    again = deployed.engine.up()
    assert not again.changes


def test_uploads_bear_their_mode(deployed: Deployed) -> None:
    deployed.engine.up()
    assert "-r--r-----" in deployed.run("ls", "-ln", "/etc/gantry")


def test_secrets_are_not_in_the_state_and_need_the_passphrase(deployed: Deployed) -> None:
    deployed.engine.up()
    assert "hush-hush" not in deployed.state_text
    assert deployed.engine.state_file.stat().st_mode & 0o777 == 0o600
    (deployed.home / "pulumi-passphrase").write_text("another")
    with pytest.raises(EngineError, match=r"passphrase .* does not open"):
        deployed.engine.preview()


def test_updates_and_replacements(deployed: Deployed, images: tuple[str, str]) -> None:
    deployed.engine.up()
    first = deployed.inspect()["Id"]

    deployed.configure(memory=48)
    assert ops(deployed.engine.up()) == {"service": "update"}
    assert (deployed.inspect()["Id"], deployed.inspect()["HostConfig"]["Memory"]) == (
        first,
        48 * 2**20,
    )

    deployed.configure(image=images[1])
    assert ops(deployed.engine.preview()) == {"service": "replace"}
    assert ops(deployed.engine.up()) == {"service": "replace"}
    second = deployed.inspect()
    assert second["Id"] != first
    assert second["Config"]["Image"] == images[1]

    deployed.configure(shade="green")
    expected = {"network": "replace", "service": "replace"}
    assert ops(deployed.engine.preview()) == expected
    assert ops(deployed.engine.up()) == expected
    assert list(deployed.inspect()["NetworkSettings"]["Networks"]) == [f"{deployed.stack}-net"]
    assert not deployed.engine.up().changes


def test_dynamic_resource_lives_and_dies(deployed: Deployed, tmp_path: Path) -> None:
    path, other = Path(deployed.config["file"]), tmp_path / "other.txt"
    deployed.engine.up()
    assert path.read_text() == "hush-hush"

    deployed.configure(text="psst")
    assert ops(deployed.engine.up()) == {"secret": "update", "service": "replace"}
    assert path.read_text() == "psst"

    deployed.configure(file=str(other))
    assert ops(deployed.engine.up())["secret"] == "replace"
    assert (path.exists(), other.read_text()) == (False, "psst")

    other.unlink()
    assert ops(deployed.engine.refresh()) == {"secret": "delete"}
    assert ops(deployed.engine.up())["secret"] == "create"

    deployed.configure(text="forbidden")
    with pytest.raises(EngineError, match="text: this text is forbidden"):
        deployed.engine.up()
    deployed.engine.destroy()
    assert not other.exists()


def test_dynamic_failure_is_one_line_and_keeps_the_rest(deployed: Deployed) -> None:
    deployed.configure(text="broken")
    with pytest.raises(
        EngineError, match=r"infra/dynamics.py:\d+: RuntimeError: the disk is on fire"
    ):
        deployed.engine.up()
    assert f"{deployed.stack}-net" in deployed.state_text
    deployed.configure(text="mended")
    result = ops(deployed.engine.up())
    assert result == {"secret": "create", "service": "create"}


def test_refresh_sees_what_happened_outside(deployed: Deployed) -> None:
    deployed.engine.up()
    looked_at = deployed.engine.refresh()
    assert not looked_at.changes
    assert len(looked_at.steps) == len(ALL_NEW) - 1, "all but the component"
    deployed.client.remove_container(f"{deployed.stack}-service", force=True)
    assert not deployed.engine.up().changes
    assert ops(deployed.engine.refresh()) == {"service": "delete"}
    assert ops(deployed.engine.up()) == {"service": "create"}

    identity = deployed.inspect()["Id"]
    deployed.client.stop(identity, timeout=0)
    assert ops(deployed.engine.up(refresh=True)) == {"service": "update"}
    assert (deployed.inspect()["Id"], deployed.inspect()["State"]["Running"]) == (identity, True)


def test_destroy_keeps_the_data_and_up_finds_it_again(deployed: Deployed) -> None:
    deployed.engine.up()
    result = ops(deployed.engine.destroy())
    assert result["volume"] == "forget"
    assert deployed.volumes() == {f"{deployed.stack}-data"}
    assert not deployed.engine.state_file.exists()
    assert not deployed.client.networks(names=[f"{deployed.stack}-net"])
    assert ops(deployed.engine.up())["volume"] == "create"


def test_what_is_not_registered_any_more_is_deleted_but_not_if_protected(
    deployed: Deployed,
) -> None:
    deployed.configure(extra="second")
    deployed.engine.up()
    assert f"{deployed.stack}-second" in deployed.volumes()
    deployed.configure(extra="renamed")
    assert not ops(deployed.engine.up())
    deployed.configure(extra="")
    assert ops(deployed.engine.up()) == {"third": "delete"}
    assert f"{deployed.stack}-second" not in deployed.volumes()

    deployed.configure(extra="protected")
    deployed.engine.up()
    deployed.configure(extra="")
    with pytest.raises(EngineError, match="docker:Volume second is protected"):
        deployed.engine.up()
    deployed.configure(extra="second")
    deployed.engine.up()


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("unknown type", "docker:index/remoteImage:RemoteImage is not supported"),
        ("invoke", "docker:index/getNetwork:getNetwork is not supported"),
        ("provider", "pulumi:providers:docker is not supported"),
        ("option", "Volume second: option ignoreChanges is not supported"),
        ("property", "second: property driver is not supported"),
        ("property of a block", r"property networksAdvanced.ipv4Address is not supported"),
        ("no name", "second: give it a name"),
    ],
)
def test_unknown_things_are_refused_by_name_before_anything_is_made(
    deployed: Deployed, extra: str, says: str
) -> None:
    deployed.configure(extra=extra)
    with pytest.raises(EngineError, match=says):
        deployed.engine.up()
    assert not deployed.engine.state_file.exists()
    assert not deployed.volumes()


def test_error_in_the_program_is_one_line_and_keeps_what_was_made(deployed: Deployed) -> None:
    deployed.configure(extra="error")
    with pytest.raises(
        EngineError, match=r"^the program failed: infra/__main__.py:\d+: ZeroDivisionError"
    ):
        deployed.engine.up()
    assert deployed.inspect()["State"]["Running"]
    deployed.configure(extra="second")
    assert set(ops(deployed.engine.up()).values()) <= {"create"}


def test_unhealthy_container_fails_with_its_last_words_and_is_waited_for_again(
    deployed: Deployed,
) -> None:
    deployed.configure(health="test -e /data/ready || ls /nowhere", patience=3)
    with pytest.raises(EngineError, match=r"is (unhealthy|starting) and running"):
        deployed.engine.up()
    identity = deployed.inspect()["Id"]
    deployed.run("sh", "-c", ": > /data/ready")
    deployed.configure(patience=20)
    assert ops(deployed.engine.up()) == {"service": "update"}
    assert deployed.inspect()["Id"] == identity


def test_killed_in_a_dynamic_create_the_next_up_goes_on(deployed: Deployed) -> None:
    deployed.configure(seconds=60)
    process = in_a_process(deployed)
    marker = Path(deployed.config["file"]).with_suffix(".begun")
    until(marker.exists)
    until(lambda: len(deployed.client.networks(names=[f"{deployed.stack}-net"])) == 1)
    until(lambda: f'"{deployed.stack}-data"' in deployed.state_text)
    with pytest.raises(EngineError, match=f"process {process.pid}"):
        deployed.engine.up()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert '"creating"' in deployed.state_text
    deployed.configure(seconds=0)
    result = ops(deployed.engine.up())
    assert result["secret"] == result["service"] == "create"
    assert any("secret was interrupted" in message for message in deployed.recorder.messages)
    assert not deployed.engine.up().changes


def test_killed_while_a_container_is_made_the_next_up_makes_it_anew(deployed: Deployed) -> None:
    deployed.configure(health="false", patience=60)
    process = in_a_process(deployed)
    until(lambda: exists(deployed))
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = deployed.inspect()["Id"]
    deployed.configure(health="true")
    assert ops(deployed.engine.up()) == {"service": "create"}
    assert deployed.inspect()["Id"] != half


def test_killed_while_a_container_is_made_destroy_leaves_nothing(deployed: Deployed) -> None:
    deployed.configure(health="false", patience=60)
    process = in_a_process(deployed)
    until(lambda: exists(deployed))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deployed.engine.destroy()
    assert not exists(deployed)
    assert not deployed.client.networks(names=[f"{deployed.stack}-net"])
    assert not deployed.engine.state_file.exists()


def test_deletion_that_was_interrupted_is_looked_into(deployed: Deployed) -> None:
    deployed.engine.up()
    state = json.loads(deployed.state_text)
    service = next(r for r in state["resources"] if r["urn"].endswith("::service"))
    state["pending_operations"] = [{"resource": service, "type": "deleting", "since": 1.0}]
    deployed.engine.state_file.write_text(json.dumps(state))
    assert not deployed.engine.preview().changes
    deployed.client.remove_container(f"{deployed.stack}-service", force=True)
    assert ops(deployed.engine.up()) == {"service": "replace"}
    assert not deployed.engine.up().changes


def test_interrupt_does_not_wait_for_health(deployed: Deployed) -> None:
    deployed.configure(health="false", patience=60)
    process = in_a_process(deployed)
    until(lambda: exists(deployed))
    process.send_signal(signal.SIGINT)
    process.wait(timeout=15)
    assert '"creating"' not in deployed.state_text
    deployed.configure(health="true")
    assert ops(deployed.engine.up()) == {"service": "replace"}


def test_interrupt_waits_for_the_running_step(deployed: Deployed) -> None:
    deployed.configure(seconds=3)
    process = in_a_process(deployed)
    until(Path(deployed.config["file"]).with_suffix(".begun").exists)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert process.returncode != 0
    assert Path(deployed.config["file"]).exists()
    assert '"creating"' not in deployed.state_text
    assert "secret" not in ops(deployed.engine.preview())


def test_a_container_of_somebody_else_is_left_alone(
    deployed: Deployed, images: tuple[str, str]
) -> None:
    name = f"{deployed.stack}-service"
    other = deployed.client.create_container(images[0], ["sleep", "9"], name=name)["Id"]
    with pytest.raises(EngineError, match="is not of this stack"):
        deployed.engine.up()
    assert deployed.inspect()["Id"] == other


def test_lock_says_who_holds_it(deployed: Deployed) -> None:
    lock = deployed.engine.state_file.with_suffix(".lock")
    lock.parent.mkdir()
    with (
        exclusive(lock, deployed.stack),
        pytest.raises(EngineError, match=f"by process {os.getpid()}"),
    ):
        deployed.engine.up()


def test_stack_that_the_pulumi_cli_holds_is_refused(deployed: Deployed) -> None:
    path = deployed.home / "state" / ".pulumi" / "stacks" / "enginetest" / f"{deployed.stack}.json"
    path.parent.mkdir(parents=True)
    held = {"checkpoint": {"latest": {"resources": [{"urn": "x", "custom": True}]}}}
    path.write_text(json.dumps(held))
    with pytest.raises(EngineError, match="is deployed with the Pulumi CLI"):
        deployed.engine.up()


def test_export_is_a_deployment_of_version_3(deployed: Deployed) -> None:
    deployed.engine.up()
    hidden = deployed.engine.export()
    assert hidden["version"] == 3
    assert "hush-hush" not in json.dumps(hidden)
    shown = deployed.engine.export(show_secrets=True)
    assert "hush-hush" in json.dumps(shown)
    resources = shown["deployment"]["resources"]
    known: set[str] = set()
    for resource in resources:
        needed = {resource.get("parent"), *resource.get("dependencies", [])} - {None}
        assert needed <= known
        known.add(resource["urn"])
        if resource["custom"] and not resource["type"].startswith("pulumi:providers:"):
            assert resource["provider"].rsplit("::", 1)[0] in known


def test_unknown_stack_is_named_with_those_that_exist(deployed: Deployed) -> None:
    with pytest.raises(EngineError, match=rf"no stack nowhere .* the stacks are {deployed.stack}"):
        Engine("nowhere", deployed.root, deployed.home).preview()


def test_secret_outputs_stay_secret_downstream(deployed: Deployed) -> None:
    result = deployed.engine.up()
    assert reveal(result.outputs["password"]) == "hush-hush"
    assert result.outputs["password"] != "hush-hush"
