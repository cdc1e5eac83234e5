"""A device's engine: what it is, what containers get of it, and what they live through."""

import json
import time

import pytest

RUNNING = [
    "container-engine-production",
    "container-engine-development",
    "container-engine-changed",
]
PRODUCTION, DEVELOPMENT, CHANGED = RUNNING
MOUNTS = "/run/gantry/engine/mounts"


def wait_for(check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.3)
    return None


def show(host, unit, name):
    return host.check_output("systemctl show %s -p %s --value", unit, name).strip()


def main_pid(host):
    return show(host, "docker.service", "MainPID")


def listening(host):
    """TCP sockets that are not the resolver's of the test."""
    lines = host.check_output("ss -Hlnt").splitlines()
    return {line.split()[3] for line in lines} - {"10.114.102.1:53"}


@pytest.fixture
def docker(on):
    """`docker …` on a host that has the image `tools`; its containers are removed at the end."""
    hosts = []

    def run(name, command):
        host = on(name)
        if name not in hosts:
            hosts.append(name)
            assert wait_for(lambda: host.run("docker version").rc == 0), "no engine answers"
            if not host.check_output("docker images --quiet tools"):
                host.check_output("tools-image")
        return host.check_output(f"docker {command}")

    yield run
    for name in hosts:
        on(name).run("docker ps -aq --filter name=test- | xargs -r docker rm -f")
        on(name).run("docker network prune -f")


@pytest.mark.parametrize("name", RUNNING)
def test_the_system_is_whole(on, name):
    host = on(name)
    assert wait_for(lambda: host.run("systemctl is-system-running").stdout.strip() == "running")
    assert show(host, "docker.service", "UnitFileState") == "enabled"
    for unit in ("containerd", "docker", "gantry-engine-mounts", "gantry-engine-watchdog"):
        assert show(host, f"{unit}.service", "ActiveState") == "active", unit
    assert show(host, "docker.service", "OOMScoreAdjust") == "-900"


@pytest.mark.parametrize("name", RUNNING)
def test_the_engine_is_as_it_was_asked_for(docker, name):
    info = json.loads(docker(name, "info --format '{{json .}}'"))
    wanted = {
        "Driver": "overlay2",
        "DockerRootDir": "/mnt/data/docker",
        "LoggingDriver": "journald",
        "LiveRestoreEnabled": True,
        "DefaultRuntime": "runc",
        "DefaultAddressPools": [{"Base": "10.114.128.0/17", "Size": 24}],
    }
    assert {key: info[key] for key in wanted} == wanted
    # systemd is the kernel's one writer of groups with version 2.
    assert info["CgroupDriver"] == {"1": "cgroupfs", "2": "systemd"}[info["CgroupVersion"]]


@pytest.mark.parametrize("name", RUNNING)
def test_all_data_is_on_the_data_partition(on, name):
    host = on(name)
    assert set(host.file("/mnt/data").listdir()) >= {"docker", "containerd"}
    assert not host.file("/var/lib/docker").exists
    assert host.run("find /var/lib/containerd -type f").stdout == ""


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        (PRODUCTION, set()),
        # All addresses of both kinds: Go reads 0.0.0.0 so.
        (DEVELOPMENT, {"*:2377"}),
        # It was a development device, and is none any more.
        (CHANGED, set()),
    ],
)
def test_the_engine_listens_on_the_network_in_development_only(on, name, ports):
    ssh = {"0.0.0.0:22", "[::]:22"}
    assert listening(on(name)) == ports | ssh


def address_of(host):
    return host.check_output("ip -4 -o address show eth0").split()[3].partition("/")[0]


def test_a_developer_reaches_the_engine_from_another_machine(on):
    address = address_of(on(DEVELOPMENT))
    other = on(CHANGED)
    found = other.check_output("docker -H tcp://%s:2377 info --format '{{.ID}}'", address)
    assert found == on(DEVELOPMENT).check_output("docker info --format '{{.ID}}'")
    closed = address_of(other)
    refused = on(DEVELOPMENT).run("docker -H tcp://%s:2377 info", closed)
    assert "Cannot connect to the Docker daemon" in refused.stderr + refused.stdout


def test_a_change_of_variant_leaves_applications_running(on):
    host = on(CHANGED)
    found = host.check_output("docker inspect -f '{{.State.Pid}} {{.State.StartedAt}}' kept")
    assert found == host.file("/root/kept").content_string.strip()


def test_what_containers_say_is_in_the_journal(on, docker):
    docker(PRODUCTION, "run --name test-says tools sh -c 'echo out; echo err >&2'")
    journal = on(PRODUCTION).check_output("journalctl -o cat -t test-says")
    # Two pipes: which of them the engine reads first is chance.
    assert sorted(journal.splitlines()) == ["err", "out"]
    assert sorted(docker(PRODUCTION, "logs test-says 2>&1").splitlines()) == ["err", "out"]
    assert docker(PRODUCTION, "logs test-says 2>/dev/null") == "out"


def test_no_line_is_lost_to_the_journals_limit(on, docker):
    # Without the unit's own limit, it is 10,000 lines in 30 s.
    docker(PRODUCTION, "run --name test-much tools seq 15000")
    count = on(PRODUCTION).check_output("journalctl -o cat -t test-much | grep -c .")
    assert count == "15000"


def test_containers_ask_the_devices_resolver(docker):
    resolve = "tools sh -c 'cat /etc/resolv.conf; getent hosts robot.test'"
    *settings, answer = docker(PRODUCTION, f"run --rm {resolve}").splitlines()
    assert [each for each in settings if "nameserver" in each] == ["nameserver 10.114.102.1"]
    assert answer.split() == ["192.0.2.9", "robot.test"]
    docker(PRODUCTION, "network create test-net")
    named = docker(PRODUCTION, f"run --rm --network test-net {resolve}").splitlines()[-1]
    assert named.split() == ["192.0.2.9", "robot.test"]


def test_networks_keep_away_from_those_that_people_have(on, docker):
    assert "10.114.101.1/24" in on(PRODUCTION).check_output("ip -br address show docker0")
    docker(PRODUCTION, "network create test-net")
    form = "'{{(index .IPAM.Config 0).Subnet}}'"
    assert docker(PRODUCTION, f"network inspect -f {form} test-net").startswith("10.114.1")


def test_the_engines_mounts_are_its_own(on, docker):
    host = on(PRODUCTION)
    docker(
        PRODUCTION, "run --detach --name test-mounts --publish 127.0.0.1:8099:80 tools sleep 900"
    )
    spaces = [
        host.check_output("readlink /proc/%s/ns/mnt", pid)
        for pid in ("1", main_pid(host), show(host, "containerd.service", "MainPID"))
    ]
    assert spaces[0] != spaces[1] == spaces[2]
    assert "/mnt/data/docker/overlay2" not in host.file("/proc/self/mounts").content_string
    inside = host.check_output("nsenter --mount=%s cat /proc/self/mounts", MOUNTS)
    assert "/mnt/data/docker/overlay2" in inside


def test_what_the_host_mounts_is_seen_by_containers(on, docker):
    host = on(PRODUCTION)
    host.check_output("mkdir -p /mnt/usb/stick")
    docker(PRODUCTION, "run --detach --name test-usb -v /mnt/usb:/usb:rslave tools sleep 900")
    host.check_output("mount -t tmpfs stick /mnt/usb/stick && touch /mnt/usb/stick/plugged-in")
    try:
        assert docker(PRODUCTION, "exec test-usb ls /usb/stick") == "plugged-in"
    finally:
        host.check_output("umount /mnt/usb/stick")
    assert docker(PRODUCTION, "exec test-usb ls /usb/stick") == ""


def test_what_one_container_mounts_is_seen_by_others_and_not_by_the_host(on, docker):
    host = on(PRODUCTION)
    host.check_output("mkdir -p /mnt/shared/inner")
    rights = "--cap-add SYS_ADMIN --security-opt apparmor=unconfined"
    docker(
        PRODUCTION,
        f"run --detach --name test-a -v /mnt/shared:/mnt:rshared {rights} tools "
        "sh -c 'mount -t tmpfs inner /mnt/inner; echo hello > /mnt/inner/file; sleep 900'",
    )
    docker(PRODUCTION, "run --detach --name test-b -v /mnt/shared:/mnt:rslave tools sleep 900")
    read = "docker exec test-b cat /mnt/inner/file"
    assert wait_for(lambda: host.run(read).stdout.strip() == "hello", 20)
    assert not host.file("/mnt/shared/inner/file").exists
    docker(PRODUCTION, "rm -f test-a test-b")
    host.run("nsenter --mount=%s umount /mnt/shared/inner", MOUNTS)


def state(host, container):
    form = "'{{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}} {{.State.Running}}'"
    return host.check_output(f"docker inspect -f {form} {container}")


@pytest.mark.parametrize(
    "ending",
    [
        "systemctl restart containerd.service docker.service",
        "kill -KILL $(systemctl show docker.service -p MainPID --value)",
    ],
)
def test_applications_live_through_the_engines_end(on, docker, ending):
    host = on(PRODUCTION)
    script = "'n=0; while sleep 0.2; do n=$((n+1)); echo line $n; done'"
    docker(PRODUCTION, f"run --detach --restart always --name test-app tools sh -c {script}")
    before, pid = state(host, "test-app"), main_pid(host)
    host.run(ending)
    assert wait_for(lambda: main_pid(host) not in ("0", pid))
    assert wait_for(lambda: host.run("docker version").rc == 0)
    assert state(host, "test-app") == before
    said = len(docker(PRODUCTION, "logs test-app").splitlines())
    assert wait_for(lambda: len(docker(PRODUCTION, "logs test-app").splitlines()) > said, 20)
    assert docker(PRODUCTION, "exec test-app cat /etc/nsswitch.conf") == "hosts: files dns"
    docker(PRODUCTION, "restart -t 0 test-app")
    assert state(host, "test-app").endswith("true")
    docker(PRODUCTION, "rm -f test-app")


def test_applications_come_back_after_a_reboot(on, docker, reboot):
    host = on(PRODUCTION)
    docker(PRODUCTION, "run --detach --restart always --name test-app tools sleep infinity")
    docker(PRODUCTION, "run --detach --restart unless-stopped --name test-two tools sleep infinity")
    reboot(host)
    assert wait_for(lambda: host.run("docker version").rc == 0)
    names = "ps --format '{{.Names}}' --filter status=running"
    assert wait_for(lambda: set(docker(PRODUCTION, names).splitlines()) >= {"test-app", "test-two"})


PULL = "docker pull registry.bots.test:8443/v2/app"


@pytest.fixture
def fleet(on, tmp_path):
    """A registry's address with a certificate of an authority that nobody knows, and that
    authority. It answers 404: whether it is trusted shows before it is asked for an image."""
    host = on(DEVELOPMENT)
    # Not 127.0.0.1, where the engine asks no registry for a certificate.
    address = address_of(host)
    request = (
        "cd /root && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-keyout fleet.key -out fleet.crt -subj /CN=fleet "
        "-addext subjectAltName=DNS:registry.bots.test 2>/dev/null && base64 -w0 fleet.crt"
    )
    authority = host.check_output(request)
    server = (
        "import http.server, ssl; context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);"
        "context.load_cert_chain('/root/fleet.crt', '/root/fleet.key');"
        "handler = http.server.SimpleHTTPRequestHandler;"
        f"server = http.server.HTTPServer(('{address}', 8443), handler);"
        "server.socket = context.wrap_socket(server.socket, server_side=True);"
        "server.serve_forever()"
    )
    host.check_output(f"echo {address} registry.bots.test >> /etc/hosts")
    host.check_output(
        "systemd-run --quiet --unit test-registry --property WorkingDirectory=/mnt python3 -c %s",
        server,
    )
    assert wait_for(lambda: f"{address}:8443" in listening(host), 20)
    yield authority
    host.check_output("systemctl stop test-registry; rm -f /mnt/boot/config.json")
    wait_for(lambda: not host.file("/etc/docker/certs.d/registry.bots.test:8443").exists, 20)


def test_the_engine_trusts_the_fleet_that_config_json_names(on, fleet):
    host = on(DEVELOPMENT)
    assert "x509" in host.run(PULL).stderr
    config = {"apiEndpoint": "https://api.bots.test:8443", "balenaRootCA": fleet}
    host.check_output("mkdir -p /mnt/boot")
    # As somebody does who edits the boot partition: nothing else is told.
    host.check_output("printf %%s %s > /mnt/boot/config.json", json.dumps(config))
    trusted = "/etc/docker/certs.d/registry.bots.test:8443/ca.crt"
    assert wait_for(lambda: host.file(trusted).exists, 30)
    refused = host.run(PULL)
    assert refused.rc != 0
    assert "x509" not in refused.stderr


def test_builds_leave_no_more_than_the_limit(on, docker):
    host = on(DEVELOPMENT)
    docker(DEVELOPMENT, "version")
    host.check_output("mkdir -p /root/build")
    for number in range(4):
        run = f"RUN sh -c 'seq 1 2300000 > /tmp/{number}; echo {time.time_ns()}'"
        host.check_output("printf %%s %s > /root/build/Dockerfile", f"FROM tools\n{run}\n")
        host.check_output("DOCKER_BUILDKIT=1 docker build --quiet --network none /root/build")

    def size():
        line = next(
            each
            for each in host.check_output("docker system df --format '{{json .}}'").splitlines()
            if json.loads(each)["Type"] == "Build Cache"
        )
        number = json.loads(line)["Size"]
        unit = number.lstrip("0123456789.")
        return float(number.removesuffix(unit)) * {"B": 1, "kB": 1e3, "MB": 1e6}.get(unit, 1e9)

    assert wait_for(lambda: size() <= 40e6, 90), size()


def test_a_stuck_engine_is_started_anew_and_not_for_ever(on, docker):
    host = on(DEVELOPMENT)
    docker(DEVELOPMENT, "run --detach --name test-app tools sleep infinity")
    before = state(host, "test-app")
    for _ in range(2):
        pid = main_pid(host)
        host.check_output("kill -STOP %s", pid)
        assert wait_for(lambda pid=pid: main_pid(host) not in ("0", pid), 120)
        assert wait_for(lambda: show(host, "docker.service", "ActiveState") == "active")
        assert wait_for(lambda: host.run("docker version").rc == 0)
    assert state(host, "test-app") == before
    pid = main_pid(host)
    host.check_output("kill -STOP %s", pid)
    try:
        said = "journalctl -o cat -u gantry-engine-watchdog"
        assert wait_for(lambda: "2 times within an hour: waiting" in host.check_output(said), 120)
        assert main_pid(host) == pid
    finally:
        host.check_output("kill -CONT %s", pid)
    assert wait_for(lambda: host.run("docker version").rc == 0)


def test_an_image_is_built_with_an_engine_that_starts_at_boot(on):
    host = on("container-engine-image")
    assert host.check_output("systemctl is-enabled docker.service") == "enabled"
    assert host.file("/etc/docker/daemon.json").mode == 0o644
    assert host.file("/usr/local/lib/gantry/config.d/45-registry-ca").mode == 0o755
    running = set(host.check_output("ps -e -o comm=").split())
    assert running - {"ps", "sh"} == {"sleep"}
