"""Figures of the whole: `make bench`. They are printed, as tables in Markdown, and never asserted.

    .venv/bin/python -m tests.benchmarks [--fleet devbots] [--only push,up,supervisor,announcement]

`push` needs a fleet that is up; it makes an application and a virtual device of its own there and
removes both. `up` deploys a fleet of its own, `benchbots`, and removes it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import announcement, machine, noop_up, push_to_running
from tests.benchmarks.fleet import BenchmarkError, application, fleet_that_is_up

PARTS = ("push", "up", "supervisor", "announcement")
# The aims for the supervisor's resident memory, in MB of 1024².
IDLE_MB, BUSY_MB = 35.0, 45.0
QUIET_LOAD = 1.0


def say(text: str) -> None:
    """What happens now goes to stderr; stdout has the tables alone."""
    print(f"  {text}", file=sys.stderr, flush=True)


def push(fleet_name: str, times: int) -> str:
    """From `git push` to the first line."""
    with tempfile.TemporaryDirectory() as folder, fleet_that_is_up(fleet_name) as fleet:
        checkout = Path(folder) / "application"
        say(f"an application and a virtual device in {fleet_name}")
        with application(fleet, checkout) as (_, device):
            found = push_to_running.measure(fleet, checkout, device, times, say)
    return push_to_running.report(found)


def up(times: int) -> str:
    """`up` without a change."""
    with tempfile.TemporaryDirectory() as folder:
        return noop_up.report(noop_up.measure(Path(folder), times, say))


def supervisor(seconds: float) -> str:
    """The supervisor alone, in its image, before a cloud of the tests."""
    say(f"the supervisor, idle for {seconds:.0f} s and busy for {seconds:.0f} s")
    # A process of its own, whose memory is its own. As a script it would take `requests` from here.
    program = "tests.benchmarks.supervisor_memory"
    done = subprocess.run(
        [sys.executable, "-m", program, "--json", "--seconds", str(seconds)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"{program} → {done.returncode}:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    rows = [
        _memory_row("idle", found["idle_rss_mb"], IDLE_MB, found["idle_cpu_percent"]),
        _memory_row("busy", found["busy_rss_mb"], BUSY_MB, found["busy_cpu_percent"]),
        _memory_row("busy, at most", found["busy_peak_rss_mb"], BUSY_MB, None),
    ]
    return machine.table(["supervisor", "resident", "aim", "of the aim", "of a core"], rows)


def _memory_row(name: str, resident: float, aim: float, cpu: float | None) -> list[str]:
    share = "" if cpu is None else f"{cpu:.2f} %"
    return [name, f"{resident:.1f} MB", f"{aim:.0f} MB", f"{resident / aim:.2f}", share]


def main() -> int:
    """Take the figures that were asked for; what cannot be taken is said, and the rest goes on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fleet", default="devbots", help="a fleet that is up; default: devbots")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--times", type=int, default=5, help="samples of each; default: 5")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each look at memory")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"--only {','.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    work = {
        "push": lambda: push(options.fleet, options.times),
        "up": lambda: up(options.times),
        "supervisor": lambda: supervisor(options.seconds),
        "announcement": lambda: announcement.report(announcement.measure(4 * options.times, say)),
    }
    print(f"{machine.describe()}; {time.strftime('%Y-%m-%d')}\n", flush=True)
    status = 0
    for name in wanted:
        before = machine.load()
        if before > QUIET_LOAD:
            say(f"the machine is busy (load {before:.1f}): figures will be too high")
        try:
            text = work[name]()
        except BenchmarkError as error:
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
            status = 1
            continue
        print(f"{text}\n\nLoad before and after: {before:.1f}, {machine.load():.1f}.\n", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
