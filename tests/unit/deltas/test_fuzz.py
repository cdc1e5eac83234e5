"""A fuzzer at what reads and applies deltas: a minute here, longer in the soak tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("seconds", [60, pytest.param(900, marks=pytest.mark.soak)])
@pytest.mark.timeout(1200)
def test_whatever_the_bytes_a_delta_is_refused_or_right(seconds: int, tmp_path: Path) -> None:
    options = [
        f"-max_total_time={seconds}",
        "-rss_limit_mb=512",
        "-timeout=20",
        "-max_len=20480",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.delta", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 200,
    )
    inputs = {path.name: path.read_bytes().hex() for path in tmp_path.iterdir()}
    assert done.returncode == 0, f"{done.stderr[-4000:]}\n{inputs}"
    found = re.search(r"Done (\d+) runs", done.stderr)
    assert found, done.stderr[-2000:]
    assert int(found[1]) > 100
