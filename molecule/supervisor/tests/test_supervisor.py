"""A device's supervisor from its host's side: run, watched, updated, brought back, removed."""

import json
import re
import subprocess
import time

import pytest

DEVICE, CHANGED, IMAGE = "supervisor-registered", "supervisor-changed", "supervisor-image"
NAME = "127.0.0.1:5000/gantry/amd64-supervisor"
FIRST = f"{NAME}:0.1.0"
UPDATE = "gantry-supervisor-update"
CAP_SYS_RESOURCE = 24
HEALTHY = "from urllib.request import urlopen; urlopen('http://127.0.0.1:%d/v1/healthy', timeout=5)"


def wait_for(check, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.3)
    return None


@pytest.fixture
def device(on):
    host = on(DEVICE)
    assert wait_for(lambda: is_healthy(host)), host.run(f"journalctl -n 40 -u {UNIT}").stdout
    return host


UNIT = "gantry-supervisor.service"


def is_healthy(host, port=48484):
    return host.run("python3 -c %s", HEALTHY % port).rc == 0


def knows_that_it_is_well(host):
    """Whether the supervisor's watcher has seen it healthy, and told systemd so."""
    status = f"systemctl show {UNIT} -p StatusText --value"
    return host.check_output(status) == f"healthy, {FIRST}"


def config_of(host):
    return json.loads(host.file("/mnt/boot/config.json").content_string)


def container(host):
    """Id and image of the supervisor's container that runs; None where none does."""
    form = "{{.Id}} {{.Config.Image}} {{.State.Running}}"
    found = host.run("docker inspect -f %s gantry_supervisor", form)
    words = found.stdout.split()
    return tuple(words[:2]) if found.rc == 0 and words[2] == "true" else None


def main_pid(host):
    return int(host.check_output(f"systemctl show {UNIT} -p MainPID --value"))


@pytest.fixture
def bystander(device):
    """An application, which must run on whatever becomes of the supervisor."""
    if not device.check_output("docker images --quiet tools"):
        device.check_output("tools-image")
    device.run("docker rm -f bystander")
    device.check_output("docker run --detach --name bystander tools sleep infinity")
    form = "'{{.State.Pid}} {{.State.StartedAt}} {{.State.Running}}'"
    before = device.check_output(f"docker inspect -f {form} bystander")
    yield before
    assert device.check_output(f"docker inspect -f {form} bystander") == before


def make(host, tag, *lines):
    """An image of the supervisor with more lines in its Dockerfile."""
    text = "\n".join((f"FROM {FIRST}", *lines))
    host.check_output("printf %%s %s | docker build --quiet --tag %s:%s -", text, NAME, tag)
    return f"{NAME}:{tag}"


def test_it_runs_and_systemd_knows_that_it_is_well(device):
    assert device.check_output(f"systemctl is-enabled {UNIT}") == "enabled"
    assert device.check_output("systemctl is-system-running") == "running"
    assert wait_for(lambda: knows_that_it_is_well(device), 30)


def test_config_json_has_all_that_was_there_and_an_identity(device):
    assert wait_for(lambda: "deviceId" in config_of(device))
    config = config_of(device)
    assert device.file("/mnt/boot/config.json").mode == 0o600
    assert set(config) == {
        "apiEndpoint",
        "appUpdatePollInterval",
        "applicationId",
        "deviceApiKey",
        "deviceId",
        "deviceType",
        "hostname",
        "registered_at",
        "registryEndpoint",
        "somethingNew",
        "uuid",
    }
    assert config["somethingNew"] == {"kept": [1, 2]}
    # The role was applied twice: a second time to a registered device.
    assert len(json.loads(device.file("/root/registered.json").content_string)) == 1


def test_its_container_has_what_it_needs_and_no_more(device):
    [found] = json.loads(device.check_output("docker inspect gantry_supervisor"))
    root = device.check_output("docker info --format '{{.DockerRootDir}}'")
    assert {each["Destination"]: (each["Source"], each["RW"]) for each in found["Mounts"]} == {
        "/mnt/boot": ("/mnt/boot", True),
        "/var/run/docker.sock": ("/var/run/docker.sock", True),
        "/data": ("/mnt/data/supervisor", True),
        "/run/gantry/host": ("/run/gantry/host", False),
        "/tmp/balena-supervisor": ("/tmp/balena-supervisor", True),
        "/mnt/data": ("/mnt/data", True),
        "/mnt/engine/image": (f"{root}/image", False),
        "/mnt/engine/overlay2": (f"{root}/overlay2", False),
    }
    # What deltas take from is there, and cannot be written to.
    assert device.check_output("docker exec gantry_supervisor ls /mnt/engine/overlay2").split()
    assert device.run("docker exec gantry_supervisor touch /mnt/engine/overlay2/x").failed
    host = found["HostConfig"]
    assert (host["NetworkMode"], host["Privileged"]) == ("host", False)
    assert host["Memory"] == 192 * 1024 * 1024
    assert host["LogConfig"]["Type"] == "none"
    assert host["CapAdd"] is None
    # Where root may not raise anybody over others (in some containers), it has no score.
    [bounding] = re.findall(r"CapBnd:\s*(\w+)", device.file("/proc/1/status").content_string)
    score = -800 if int(bounding, 16) >> CAP_SYS_RESOURCE & 1 else 0
    assert host["OomScoreAdj"] == score
    pid = found["State"]["Pid"]
    assert int(device.file(f"/proc/{pid}/oom_score_adj").content_string) == score
    assert device.file("/mnt/data/supervisor").mode == 0o700
    assert device.file("/etc/gantry/supervisor.json").mode == 0o600


ASK = """
import asyncio, json
from pathlib import Path
from gantry.supervisor.config import ConfigFile
from gantry.supervisor.host import JournalQuery
from gantry.supervisor.host.device import DeviceHost
from gantry.supervisor.host.door import Door
door = Door(Path("/run/gantry/host/door.sock"))
host = DeviceHost(door, ConfigFile(Path("/mnt/boot/config.json")))
async def ask():
    await host.blink()
    lines = b"".join([piece async for piece in host.journal(JournalQuery(
        unit="gantry-supervisor.service", format="cat"))])
    return {**await host.host_config(), **await host.facts(), "journal": lines.decode()}
print(json.dumps(asyncio.run(ask())))
"""


def test_its_host_answers_at_the_door_and_nobody_else_comes_in(device):
    answer = json.loads(device.check_output("docker exec gantry_supervisor python3 -c %s", ASK))
    name = device.check_output("hostname")
    assert answer["network"] == {"hostname": name}
    assert (answer["hostname"], answer["variant"]) == (name, "production")
    assert "registered as device 1" in answer["journal"]
    socket, folder = device.file("/run/gantry/host/door.sock"), device.file("/run/gantry/host")
    assert (socket.user, socket.mode) == ("root", 0o600)
    assert (folder.user, folder.mode) == ("root", 0o700)
    # Whoever asked is told; nothing is left of it.
    assert wait_for(
        lambda: not device.check_output("systemctl list-units -q --plain 'gantry-host@*'")
    )
    assert device.check_output("systemctl is-system-running") == "running"


def test_the_archive_was_loaded_once(device):
    assert device.file("/mnt/data/preload").listdir() == []


def test_what_it_says_is_in_its_units_journal(device):
    said = device.check_output(f"journalctl -o cat -u {UNIT} -t gantry-supervisor")
    assert "registered as device 1" in said
    assert f"started {FIRST}" in said


def test_no_key_is_in_the_journal_or_on_a_command_line(device):
    config = config_of(device)
    journal = device.check_output("journalctl -o cat")
    lines = device.check_output("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'")
    for secret in (config["deviceApiKey"], "key-of-fleet-1"):
        assert secret not in journal
        assert secret not in lines


def test_one_that_ends_is_started_again(device, bystander):
    before = container(device)
    device.check_output("docker kill gantry_supervisor")
    assert wait_for(lambda: container(device) not in (None, before))
    assert wait_for(lambda: is_healthy(device))
    # Of its end, only what has ended.
    assert "No such container" not in device.check_output(f"journalctl -o cat -u {UNIT}")


def test_one_that_is_stuck_is_started_again(device, bystander):
    # One that has never been well has minutes to become so: the watcher must have seen it well.
    assert wait_for(lambda: knows_that_it_is_well(device), 30)
    before = container(device)
    pid = device.check_output("docker inspect -f '{{.State.Pid}}' gantry_supervisor")
    device.check_output("kill -STOP %s", pid)
    assert wait_for(lambda: container(device) not in (None, before), 120)
    assert wait_for(lambda: is_healthy(device))
    assert "Watchdog timeout" in device.check_output(f"journalctl -o cat -u {UNIT}")


def test_its_watcher_may_be_killed(device, bystander):
    before = main_pid(device)
    device.check_output(f"kill -KILL {before}")
    assert wait_for(lambda: main_pid(device) not in (0, before))
    assert wait_for(lambda: is_healthy(device))
    assert device.check_output("docker ps -q --filter name=gantry_supervisor | wc -l") == "1"


def test_it_runs_on_while_the_engine_is_restarted(device, bystander):
    before, pid = container(device), main_pid(device)
    device.check_output("systemctl restart containerd docker")
    said = f"journalctl -o cat -u {UNIT}"
    assert wait_for(lambda: container(device) is not None)
    time.sleep(5)
    assert (container(device), main_pid(device)) == (before, pid), device.check_output(said)
    assert is_healthy(device)


def test_a_setting_of_config_json_is_taken_up(device, bystander):
    config = config_of(device)

    def write(**changes):
        text = json.dumps({**config, **changes})
        device.check_output("printf %%s %s > /mnt/boot/config.json", text)

    write(listenPort=48485)
    assert wait_for(lambda: is_healthy(device, 48485))
    assert not is_healthy(device)
    write()
    assert wait_for(lambda: is_healthy(device))
    assert config_of(device) == config


def test_a_broken_config_json_stops_nothing_that_runs(device):
    before = container(device)
    content = device.file("/mnt/boot/config.json").content_string
    device.check_output("printf '{' > /mnt/boot/config.json")
    time.sleep(20)
    assert container(device) == before
    device.check_output("printf %%s %s > /mnt/boot/config.json", content)


@pytest.fixture
def registry(device):
    """The fleet's registry, which wants the device's own name and key."""
    config = config_of(device)
    accounts = {"pusher": "word", f"d_{config['uuid']}": config["deviceApiKey"]}
    script = (
        "import crypt, json, sys\n"
        "for name, word in json.load(sys.stdin).items():\n"
        "    print(f'{name}:' + crypt.crypt(word, crypt.mksalt(crypt.METHOD_BLOWFISH)))\n"
    )
    device.check_output(
        "printf %%s %s | python3 -W ignore -c %s > /root/htpasswd", json.dumps(accounts), script
    )
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/mnt/data/registry"}},
        "http": {"addr": "127.0.0.1:5000"},
        "auth": {"htpasswd": {"realm": "fleet", "path": "/root/htpasswd"}},
    }
    device.check_output("printf %%s %s > /root/registry.yml", json.dumps(settings))
    device.check_output(
        "systemd-run --quiet --unit test-registry docker-registry serve /root/registry.yml"
    )
    assert wait_for(lambda: "127.0.0.1:5000" in device.check_output("ss -Hlnt"), 20)
    device.check_output("docker login --username pusher --password word 127.0.0.1:5000 2>&1")
    yield "127.0.0.1:5000"
    device.check_output("docker logout 127.0.0.1:5000; systemctl stop test-registry")


def images(host):
    return set(host.check_output(f"docker images --format '{{{{.Tag}}}}' {NAME}").split())


def test_an_update_pulls_runs_and_keeps_the_new_one(device, registry, bystander):
    before = config_of(device)
    second = make(device, "0.2.0", "LABEL release=2")
    device.check_output(f"docker push --quiet {second} && docker rmi {second}")
    device.check_output("docker logout 127.0.0.1:5000")
    said = device.run(f"{UPDATE} --version=0.2.0")
    assert said.rc == 0, said
    assert said.stdout.splitlines()[-1] == f"{second} runs now, {FIRST} ran before"
    assert container(device)[1] == second
    chosen = json.loads(device.file("/mnt/boot/supervisor.json").content_string)
    assert chosen["image"] == second
    assert wait_for(lambda: images(device) == {"0.2.0"}, 30), images(device)
    assert config_of(device) == before
    assert not device.file("/mnt/data/supervisor.before-update").exists
    again = device.run(f"{UPDATE} {second}")
    assert (again.rc, again.stdout) == (0, f"{second} runs already\n")
    # For the tests that follow: the first one is made of the second.
    device.check_output(f"docker tag {second} {FIRST}")


@pytest.mark.parametrize(
    ("entrypoint", "reason"),
    [
        ('["false"]', "the supervisor has ended with status 1"),
        ('["sleep", "infinity"]', "it was not healthy within 8 s"),
        ('["/no/such/program"]', "no such file or directory"),
    ],
)
def test_one_that_is_not_healthy_is_not_kept(device, bystander, entrypoint, reason):
    old = container(device)[1]
    config = config_of(device)
    bad = make(device, "bad", "STOPSIGNAL SIGKILL", f"ENTRYPOINT {entrypoint}")
    said = device.run(f"{UPDATE} --seconds=8 {bad}")
    assert said.rc == 1
    assert f"{bad} was not kept" in said.stderr
    assert reason in said.stderr
    assert f"{old} runs again" in said.stderr
    assert container(device)[1] == old
    assert is_healthy(device)
    assert config_of(device) == config
    assert wait_for(lambda: "bad" not in images(device), 40), images(device)


def test_one_that_cannot_be_had_changes_nothing(device, bystander):
    before = container(device)
    said = device.run(f"{UPDATE} --version=9.9.9")
    assert said.rc == 1
    assert f"{NAME}:9.9.9 cannot be pulled" in said.stderr
    assert container(device) == before


def test_an_update_goes_on_without_the_program_that_asked_for_it(device, bystander):
    third = make(device, "0.3.0", "LABEL release=3")
    device.check_output(f"systemd-run --quiet --collect --unit test-update {UPDATE} {third}")
    assert wait_for(lambda: device.file("/run/gantry/supervisor-trial.json").exists, 60)
    busy = device.run(f"{UPDATE} {third}")
    assert (busy.rc, "another update is under way" in busy.stderr) == (1, True)
    device.check_output("systemctl kill -s KILL test-update")
    chosen = "/mnt/boot/supervisor.json"
    assert wait_for(lambda: third in device.file(chosen).content_string, 120)
    assert container(device)[1] == third


def test_power_lost_in_an_update_is_the_old_one_again(device):
    old, config = container(device)[1], config_of(device)
    name = device.ansible.get_variables()["ansible_host"]
    bad = make(device, "bad", 'ENTRYPOINT ["sleep", "infinity"]')
    device.check_output(
        f"systemd-run --quiet --collect --unit test-update {UPDATE} --seconds=600 {bad}"
    )
    assert wait_for(lambda: (container(device) or ("", ""))[1] == bad, 60)
    device.check_output("touch /mnt/data/supervisor/of-the-new-one; sync")
    for verb in ("kill", "start"):
        subprocess.run(["docker", verb, name], check=True, capture_output=True)
    assert wait_for(lambda: is_healthy(device), 180)
    assert container(device)[1] == old
    assert config_of(device) == config
    assert not device.file("/mnt/data/supervisor/of-the-new-one").exists
    device.run(f"docker rmi {bad}")


def test_the_one_that_the_target_names_takes_over(device, registry, bystander):
    fourth = make(device, "0.4.0", "LABEL release=4")
    device.check_output(f"docker push --quiet {fourth}")
    digest = device.check_output("docker inspect -f '{{index .RepoDigests 0}}' %s", fourth)
    device.check_output(f"docker rmi {fourth}; docker logout 127.0.0.1:5000")
    wanted = json.dumps({"version": "0.4.0", "image": digest})
    device.check_output("printf %%s %s > /root/supervisor.json", wanted)
    chosen = "/mnt/boot/supervisor.json"
    assert wait_for(lambda: digest in device.file(chosen).content_string, 60)
    assert container(device)[1] == digest
    told = device.file("/run/gantry/supervisor-update.json")
    assert wait_for(lambda: told.exists, 60)
    result = json.loads(told.content_string)
    assert (result["image"], result["state"]) == (digest, "updated")


@pytest.fixture
def counting(device, registry):
    """An application that counts aloud, as the fleet has it run."""
    if not device.check_output("docker images --quiet tools"):
        device.check_output("tools-image")
    name = "127.0.0.1:5000/v2/counting"
    device.check_output(f"docker tag tools {name} && docker push --quiet {name}")
    form = "{{index .RepoDigests 0}}"
    digest = device.check_output("docker inspect -f %s %s", form, name)
    device.check_output(f"docker rmi {name}")
    script = "n=0; while sleep 0.1; do n=$((n+1)); echo line $n; done"
    service = {
        "id": 1,
        "image_id": 1,
        "image": digest,
        "environment": {},
        "labels": {},
        "running": True,
        "composition": {"command": ["sh", "-c", script], "stop_grace_period": "1s"},
    }
    release = {"id": 1, "services": {"main": service}, "volumes": {}, "networks": {}}
    app = {
        "id": 1,
        "name": "bots",
        "slug": "admin/bots",
        "class": "fleet",
        "is_host": False,
        "releases": {"c0ffee": release},
    }
    device.check_output("printf %%s %s > /root/apps.json", json.dumps({"uuid1": app}))
    yield
    device.check_output("rm /root/apps.json")
    assert wait_for(lambda: not applications(device))


def applications(host):
    return host.check_output("docker ps --quiet --filter label=io.gantry.instance=device")


def lines(host):
    """What the application said, as it arrived at the cloud side: each line once, by its id."""
    found = {}
    for each in host.file("/root/lines.json").content_string.splitlines():
        line = json.loads(each)
        if not line.get("isSystem"):
            found[line["id"]] = line["message"]
    return list(found.values())


def test_lines_of_applications_arrive_once_whoever_is_restarted(device, counting):
    assert wait_for(lambda: applications(device))
    app = applications(device)
    assert wait_for(lambda: device.file("/root/lines.json").exists and len(lines(device)) > 20)
    for command in ("gantry-supervisor", "docker", "systemd-journald"):
        device.check_output(f"systemctl restart {command}")
        time.sleep(5)
    assert wait_for(lambda: is_healthy(device))
    so_far = len(lines(device))
    assert wait_for(lambda: len(lines(device)) > so_far + 50)
    assert applications(device) == app
    said = lines(device)
    assert said == [f"line {number}" for number in range(1, len(said) + 1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "give an image or --version"),
        ("a:1 --version=2", "give an image or --version"),
    ],
)
def test_a_wrong_command_is_told_what_to_give(device, arguments, words):
    said = device.run(f"{UPDATE} {arguments}")
    assert said.rc == 2
    assert words in said.stderr


def test_a_device_that_left_its_fleet_has_nothing_of_it(on):
    host = on(CHANGED)
    assert config_of(host) == {
        "appUpdatePollInterval": 5000,
        "deviceType": "generic-amd64",
        "hostname": "quiet-robot",
        "somethingNew": {"kept": [1, 2]},
    }
    for command in (
        "docker ps --all --quiet --filter label=io.gantry.instance",
        "docker ps --all --quiet --filter name=gantry_supervisor",
        "docker volume ls --quiet --filter label=io.gantry.instance",
        "docker network ls --quiet --filter label=io.gantry.instance",
        "docker images --quiet '127.0.0.1:5000/*/*'",
    ):
        assert host.check_output(command) == "", command
    left = (
        "/etc/gantry/supervisor.json",
        "/etc/tmpfiles.d/gantry-supervisor.conf",
        f"/etc/systemd/system/{UNIT}",
        f"/usr/local/sbin/{UPDATE}",
    )
    data = (
        "/mnt/data/supervisor",
        "/mnt/boot/supervisor.json",
        "/usr/local/lib/gantry/gantry_supervisor",
    )
    assert [each for each in (*left, *data) if host.file(each).exists] == []
    assert host.check_output("systemctl is-system-running") == "running"


def test_what_was_not_the_fleets_runs_on(on):
    host = on(CHANGED)
    form = "'{{.State.Pid}} {{.State.StartedAt}}'"
    now = host.check_output(f"docker inspect -f {form} bystander")
    assert now == host.file("/root/bystander").content_string.strip()


def test_an_image_is_built_with_a_supervisor_that_waits_for_its_fleet(on):
    host = on(IMAGE)
    assert host.check_output(f"systemctl is-enabled {UNIT}") == "enabled"
    settings = json.loads(host.file("/etc/gantry/supervisor.json").content_string)
    assert (settings["version"], settings["architecture"]) == ("0.1.0", "amd64")
    assert not host.file("/mnt/boot/supervisor.json").exists
