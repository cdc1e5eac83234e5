"""Deltas that would be too large: found out early, and not where they are not."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from gantry.deltas.create import Options, Progress, Summary, TooLargeError, create
from tests.layers import Member, dice, layer, tar_of

CONFIG = "sha256:" + 64 * "c"
MB = 10**6


def noise(seed: int, length: int) -> bytes:
    return dice(seed).randbytes(length)


def words(seed: int, length: int) -> bytes:
    """Text that packs to about a fifth."""
    chance = dice(seed)
    known = [chance.randbytes(4).hex() for _ in range(500)]
    return " ".join(chance.choices(known, k=length // 9)).encode()


def layer_of(**files: bytes) -> bytes:
    return tar_of([Member(name, content=content) for name, content in files.items()])


class Making:
    """One delta, its file, and the progress that was told."""

    def __init__(self, folder: Path, sources: Sequence[bytes], targets: Sequence[bytes]) -> None:
        self._sources = [layer(folder, each) for each in sources]
        self._targets = [layer(folder, each) for each in targets]
        (folder / "out").mkdir()
        self.out = folder / "out" / "delta"
        self.told: list[Progress] = []

    def made(self, limit: int | None) -> Summary:
        options = Options(workers=1, limit=limit)
        return create(self._sources, self._targets, CONFIG, self.out, options, self.told.append)

    def stopped(self, limit: int) -> TooLargeError:
        with pytest.raises(TooLargeError) as caught:
            self.made(limit)
        assert caught.value.limit == limit < caught.value.size
        assert str(limit) in str(caught.value)
        # Nothing is left behind.
        assert not list(self.out.parent.iterdir())
        return caught.value


def test_noise_is_not_looked_at_twice(tmp_path: Path) -> None:
    old, new = noise(1, MB), noise(1, MB - 9) + b"otherwise"
    making = Making(tmp_path, [layer_of(a=old)], [layer_of(a=new, b=noise(2, 6 * MB))])
    assert making.stopped(4 * MB).size < 6 * MB
    # Before the first patch.
    assert not making.told


def test_new_content_that_packs_well_is_packed(tmp_path: Path) -> None:
    making = Making(tmp_path, [layer_of(a=b"old")], [layer_of(b=words(1, 2 * MB))])
    size = making.made(MB).size
    assert size < MB
    making.out.unlink()
    assert making.made(size).size == size
    making.out.unlink()
    making.stopped(size - 1)


def test_a_half_that_is_new_counts_as_a_half(tmp_path: Path) -> None:
    known = noise(1, 3 * MB)
    making = Making(tmp_path, [layer_of(a=known)], [layer_of(a=known, b=noise(2, 3 * MB))])
    making.stopped(2 * MB)
    assert 3 * MB < making.made(4 * MB).size < 3.01 * MB


def test_files_that_have_become_others_are_found_out_on_the_way(tmp_path: Path) -> None:
    old = {f"file{n}": noise(n, 600_000) for n in range(12)}
    new = {f"file{n}": noise(n + 50, 600_000) for n in range(12)}
    making = Making(tmp_path, [layer_of(**old)], [layer_of(**new)])
    making.stopped(2 * MB)
    assert 0 < making.told[-1].done < making.told[-1].total


def test_what_is_there_twice_counts_once(tmp_path: Path) -> None:
    twice = noise(1, MB)
    making = Making(tmp_path, [layer_of(a=b"old")], [layer_of(b=twice, c=twice)])
    assert making.made(int(1.5 * MB)).size < 1.02 * MB


def test_all_layers_count(tmp_path: Path) -> None:
    targets = [layer_of(b=noise(n, MB)) for n in range(3)]
    making = Making(tmp_path, [layer_of(a=b"old")], targets)
    making.stopped(2 * MB)
    assert not making.told
    making.made(int(3.1 * MB))
