"""How fast the emulated machine makes layers of deltas: figures for docs/benchmarks.md."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gantry.deltas.create import LayerTar, create
from gantry.deployment.paths import cache_home
from tests.benchmarks.deltas.ours import NO_CONFIG
from tests.benchmarks.deltas.pairs import digest_of, prepare
from tests.fleet_under_test import ROOT
from tests.vm.machine import HOST_ADDRESS, Machine

LIBRARY = ("__init__.py", "deltas")
# The system has no other program that fetches.
GET = """get() { python3 -c 'import shutil, sys, urllib.request as r
shutil.copyfileobj(r.urlopen(sys.argv[1]), sys.stdout.buffer)' "$1"; }"""

# What a boot has begun is done: at most three minutes.
SETTLED = """systemctl is-system-running --wait > /dev/null || true
for _ in $(seq 36); do
    read -r load _ < /proc/loadavg
    [ "${load%.*}" != 0 ] || break
    sleep 5
done"""


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which the machine finds it: SSH is slow there."""
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tmp_path, f"http://{HOST_ADDRESS}:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["wheels", "security"])
def test_a_deltas_apply_is_measured(
    machine: Machine, shared: tuple[Path, str], name: str, tmp_path: Path
) -> None:
    """Bytes of tar a second, beside what a pull does once it has come: unpack, hash, write."""
    machine.wait_for_login("pi")
    (pair,) = prepare([name], cache_home() / "deltas-pairs", print)
    (old,), (new,) = pair.old, pair.new
    source, target = digest_of(old), digest_of(new)
    folder, address = shared
    create([LayerTar(source, old)], [LayerTar(target, new)], NO_CONFIG, folder / "delta")
    (folder / "old.tar").symlink_to(old)
    (folder / "new.tar").symlink_to(new)
    machine.library(ROOT / "src" / "gantry", LIBRARY)
    machine.ssh(
        f"{GET}; set -e; mkdir old; get {address}/delta > delta"
        f"; get {address}/old.tar | sudo tar -x -p --delay-directory-restore -C old"
        f"; get {address}/new.tar | gzip -1 > new.tar.gz",
        user="pi",
    )
    machine.ssh(SETTLED, user="pi")
    size = new.stat().st_size
    apply = f"python3 -OO -s -m gantry.deltas.apply delta {target} --source {source}=old"
    for what, command in (
        ("applied", f"sudo env PYTHONPATH=. sh -c '{apply} > out.tar'"),
        ("pulled: gzip and SHA-256", "gzip -dc new.tar.gz | sha256sum"),
        ("pulled: files", "mkdir new; sudo tar -xf out.tar -C new"),
    ):
        took = machine.ssh(f"sync; TIMEFORMAT=%R; time {{ {command}; }}", user="pi").stderr
        seconds = float(took.split()[-1])
        print(f"    {name}, {what}: {seconds:.1f} s, {size / seconds / 1e6:.1f} MB a second")
    found = machine.ssh("sha256sum < out.tar", user="pi").stdout
    assert f"sha256:{found.split()[0]}" == target
    machine.ssh("sudo rm -r old new gantry out.tar new.tar.gz delta", user="pi")
