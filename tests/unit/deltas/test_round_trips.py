"""Whatever a layer is: what comes out is what was put in, bit for bit."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gantry.deltas import sources
from gantry.deltas.create import matching
from gantry.deltas.format import Order
from gantry.deltas.reader import Delta
from tests.layers import ROOT, Bytes, Member, dice, layer, made, tar_of

FORMATS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
PARTS = ("a", "b", "etc", "größe", "x" * 120, "y" * 60, "with space", ".wh", "-", "a.b")
OTHERS = (0, 33, 1000, 70_000, 3_000_000) if ROOT else (os.getuid(),)

names = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join)
times = st.one_of(
    st.integers(0, 2**33 - 1),
    st.sampled_from((0, 1_700_000_000)),
    st.floats(1, 2**31, allow_nan=False).map(lambda at: round(at, 6)),
)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Nothing, noise, text, zeros, and some of each: up to some 100 kB."""
    parts = draw(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.tuples(st.integers(0, 5), st.sampled_from((1, 511, 512, 513, 4000))).map(
                    lambda how: Bytes(dice(how[0]).randbytes(how[1]))
                ),
                st.sampled_from((512, 6000)).map(lambda size: Bytes(bytes(size))),
                st.sampled_from((b"import os\n", b"\0\1\2\3")).map(lambda text: Bytes(text * 40)),
            ),
            max_size=4,
        )
    )
    return Bytes(b"".join(parts))


@st.composite
def members(draw: st.DrawFn) -> Member:
    """One entry of whatever kind a layer may have."""
    name = draw(names)
    common = {
        "mode": draw(st.sampled_from((0o644, 0o755, 0o4755, 0o1777, 0o600, 0))),
        "mtime": draw(times),
        "uid": draw(st.sampled_from(OTHERS)),
        "gid": draw(st.sampled_from(OTHERS)),
    }
    kinds = ["file", "file", "file", "folder", "symlink", "fifo"]
    kind = draw(st.sampled_from([*kinds, "device", "whiteout", "opaque"] if ROOT else kinds))
    if kind == "file":
        pax = draw(
            st.sampled_from(({}, {}, {"SCHILY.xattr.user.note": "a=b\nc"}, {"comment": "z" * 600}))
        )
        return Member(name, content=draw(contents()), pax=pax, **common)
    if kind == "folder":
        return Member(name, tarfile.DIRTYPE, **common)
    if kind == "symlink":
        link = draw(st.sampled_from(("a", "../b", "/etc/passwd", "l" * 150)))
        return Member(name, tarfile.SYMTYPE, link=link, **common)
    if kind == "fifo":
        return Member(name, tarfile.FIFOTYPE, **common)
    if kind == "device":
        device = draw(st.sampled_from(((1, 3), (8, 0), (0, 0))))
        return Member(
            name, draw(st.sampled_from((tarfile.CHRTYPE, tarfile.BLKTYPE))), device=device
        )
    parent, _, last = name.rpartition("/")
    last = ".wh..wh..opq" if kind == "opaque" else f".wh.{last}"
    return Member(f"{parent}/{last}".lstrip("/"))


def sound(entries: list[Member]) -> list[Member]:
    """Without what no file system can hold: something below what is no folder."""
    kinds: dict[str, bool] = {}
    found = []
    for entry in entries:
        parents = [str(each) for each in Path(entry.name).parents][:-1]
        is_folder = entry.type == tarfile.DIRTYPE
        if any(kinds.get(each) is False for each in parents):
            continue
        if entry.name in kinds or (not is_folder and _below(entry.name, kinds)):
            continue
        kinds.update(dict.fromkeys(parents, True))
        kinds[entry.name] = is_folder
        hidden = entry.name.rpartition("/")[2].startswith(".wh.")
        if hidden and not entry.name.endswith(".opq"):
            named = entry.name.replace(".wh.", "", 1) if "/" not in entry.name else ""
            named = named or f"{entry.name.rpartition('/')[0]}/{entry.name.rpartition('/')[2][4:]}"
            if named in kinds:
                continue
            kinds[named] = False
        found.append(entry)
    return found


def _below(name: str, kinds: dict[str, bool]) -> bool:
    return any(each.startswith(f"{name}/") for each in kinds)


@st.composite
def layers(draw: st.DrawFn) -> list[Member]:
    """A layer's entries, some of them hard links to files before them."""
    entries = sound(draw(st.lists(members(), max_size=12)))
    files = [each for each in entries if each.type == tarfile.REGTYPE and ".wh." not in each.name]
    if files and draw(st.booleans()):
        target = draw(st.sampled_from(files))
        link = replace(target, name="zz-link", type=tarfile.LNKTYPE, content=b"", link=target.name)
        entries.append(link)
    return entries


@st.composite
def changed(draw: st.DrawFn, old: list[Member]) -> list[Member]:
    """A layer after some work: times, contents, names and order are others; some are gone."""
    found = []
    for entry in old:
        how = draw(st.sampled_from(("same", "time", "content", "renamed", "gone", "mode")))
        if how == "gone" or entry.type == tarfile.LNKTYPE:
            continue
        if how == "time":
            entry = replace(entry, mtime=draw(times))
        elif how == "mode":
            entry = replace(entry, mode=0o751)
        elif how == "renamed":
            entry = replace(entry, name=f"moved/{entry.name}")
        elif how == "content" and entry.content:
            at = draw(st.integers(0, len(entry.content)))
            some = draw(st.binary(max_size=20))
            entry = replace(
                entry, content=Bytes(entry.content[:at] + some + entry.content[at + 3 :])
            )
        found.append(entry)
    more = draw(st.lists(members(), max_size=3))
    return sound(draw(st.permutations(found)) + more)


@st.composite
def images(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """The layers of an old and of a new image."""
    old = draw(st.lists(layers(), min_size=0, max_size=3))
    new = [draw(changed(each)) for each in old] + draw(st.lists(layers(), max_size=1))
    form = draw(st.sampled_from(FORMATS))
    other = draw(st.sampled_from(FORMATS))
    return [tar_of(each, form) for each in old], [tar_of(each, other) for each in new]


def check(old: list[bytes], new: list[bytes]) -> None:
    """The way there and back."""
    with tempfile.TemporaryDirectory() as name:
        found = made(Path(name), old, new)
        delta = Delta.open(found.delta)
        assert [each.diff_id for each in delta.layers] == [each.diff_id for each in found.targets]
        for told, target in zip(delta.layers, found.targets, strict=True):
            wanted = target.path.read_bytes()
            assert told.size == len(wanted)
            assert found.rebuilt(target.diff_id) == wanted


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(images())
def test_layers_of_all_kinds_come_back_bit_for_bit(pair: tuple[list[bytes], list[bytes]]) -> None:
    check(*pair)


@settings(max_examples=15, deadline=None)
@given(st.lists(members(), max_size=4).map(sound), st.data())
def test_what_is_no_sound_tar_comes_back_as_well(
    entries: list[Member], data: st.DataObject
) -> None:
    """Cut, with bytes changed, or with others behind its end: a layer is what its diffID says."""
    content = bytearray(tar_of(entries))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    check([tar_of(entries)], [bytes(content[:cut]) + data.draw(st.binary(max_size=30))])


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize(("limit", "least"), [("NAMES_LIMIT", 8), ("NAMES_SIZE_LIMIT", 15)])
def test_no_walk_holds_more_names_than_a_reader_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, least: int, order: Order
) -> None:
    """From a limit below what the uppermost folder has to one that all fit in: of folders in
    folders, with entries and without."""
    paths = ["1/1", "a/b/c/e", "a/b/f", "a/b/g", "a-b/x", "a.b", "d/1", "d/2", "d/3", "zz"]
    if order is Order.FOLDERS:
        paths.sort(key=lambda path: path.split("/"))
    entries = [Member("a", tarfile.DIRTYPE), *(Member(each, content=b"x") for each in paths)]
    bases = set()
    for count in range(least, least + 11):
        for module in (matching, sources):
            monkeypatch.setattr(module, limit, count)
        changed = [*entries, Member("zzz")]
        found = made(tmp_path / str(count), [tar_of(entries)], [tar_of(changed)])
        (target,) = found.targets
        assert found.rebuilt(target.diff_id) == target.path.read_bytes()
        layer = found.open().find(target.diff_id)[0]
        bases.add((layer.base, layer.order))
    assert {(None, Order.FOLDERS), (0, order)} <= bases


def test_a_walk_goes_as_far_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind is told by name, and its content is not sent either."""
    for module in (matching, sources):
        monkeypatch.setattr(module, "NAMES_LIMIT", 300)
    chance = dice(5)
    many = [Member(f"m/{n:03}", content=chance.randbytes(200)) for n in range(400)]
    few = [Member(f"a/{n:03}", content=chance.randbytes(200)) for n in range(200)]
    found = made(tmp_path, [tar_of(few + many)], [tar_of([*few, *many, Member("z")])])
    (target,) = found.targets
    assert found.rebuilt(target.diff_id) == target.path.read_bytes()
    assert found.open().find(target.diff_id)[0].base == 0
    assert found.delta.stat().st_size < 6000


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_gnu_tar_writes_what_comes_back(tmp_path: Path, form: str) -> None:
    """With sparse files, hard links, long names and attributes, in each of its formats."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "text").write_text("hello\n" * 500)
    (tree / "folder" / "hard").hardlink_to(tree / "folder" / "text")
    (tree / "link").symlink_to("folder/text")
    with (tree / "sparse").open("wb") as file:
        for at in (0, 60_000, 150_000):
            file.seek(at)
            file.write(b"some" * 100)
        file.truncate(200_000)
    if form != "v7":
        (tree / ("n" * 90)).mkdir()
        (tree / ("n" * 90) / ("m" * 90)).write_bytes(b"deep")
    old = _gnu_tar(tree, form)
    (tree / "folder" / "text").write_text("hello\n" * 400 + "world\n")
    with (tree / "sparse").open("r+b") as file:
        file.seek(100_000)
        file.write(b"more")
    check([old], [_gnu_tar(tree, form)])


def _gnu_tar(tree: Path, form: str) -> bytes:
    sparse = [] if form in ("v7", "ustar") else ["--sparse"]
    words = ["tar", "-c", f"--format={form}", *sparse, "--sort=name", "-C", str(tree), "."]
    return subprocess.run(words, check=True, capture_output=True).stdout


def test_empty_layers(tmp_path: Path) -> None:
    empty = tar_of([])
    check([empty], [tar_of([Member("a", content=b"x")])])
    check([tar_of([Member("a", content=b"x")])], [empty])
    check([], [empty])
    check([empty], [b""])


def test_files_that_moved_to_another_layer_are_not_sent_again(tmp_path: Path) -> None:
    noise = dice(8).randbytes(400_000)
    old = [tar_of([Member("a/one", content=noise)]), tar_of([Member("b", content=b"b")])]
    new = [tar_of([Member("c", content=b"c")]), tar_of([Member("d/two", content=noise)])]
    found = made(tmp_path, old, new)
    for target in found.targets:
        assert found.rebuilt(target.diff_id) == target.path.read_bytes()
    assert found.delta.stat().st_size < 1500


def test_the_same_layers_make_the_same_delta(tmp_path: Path) -> None:
    chance = dice(3)
    old = [tar_of(Member(f"f{n}", content=chance.randbytes(3000)) for n in range(40))]
    new = [tar_of(Member(f"f{n}", content=chance.randbytes(3000)) for n in range(20))]
    first, second = made(tmp_path / "1", old, new), made(tmp_path / "2", old, new)
    assert first.delta.read_bytes() == second.delta.read_bytes()


def test_a_layer_among_the_sources_costs_next_to_nothing(tmp_path: Path) -> None:
    noise = dice(9)
    content = tar_of(Member(f"f{n}", content=noise.randbytes(5000)) for n in range(50))
    found = made(tmp_path, [content], [content])
    assert found.rebuilt(found.targets[0].diff_id) == content
    assert found.delta.stat().st_size < 1000


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    from gantry.deltas.create import LayerTar, create

    out = tmp_path / "made.gantry-delta"
    out.write_bytes(b"what was there")
    old = layer(tmp_path, tar_of([]))
    missing = LayerTar("sha256:" + 64 * "0", tmp_path / "missing.tar")
    with pytest.raises(OSError, match="missing"):
        create([old], [missing], "sha256:" + 64 * "1", out)
    assert out.read_bytes() == b"what was there"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([out.name, old.path.name])
    shutil.rmtree(tmp_path)


def test_noise_is_taken_as_it_is(tmp_path: Path) -> None:
    """LZMA would make it a hundredth longer, and take minutes for a large layer."""
    noise = dice(9).randbytes(5 * 1024**2)
    found = made(tmp_path, [tar_of([])], [tar_of([Member("noise", content=noise)])])
    (target,) = found.targets
    assert found.rebuilt(target.diff_id) == target.path.read_bytes()
    assert found.delta.stat().st_size < len(noise) + 1000
