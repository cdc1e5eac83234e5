"""The platform's users as accounts."""

from pathlib import Path

from gantry.git.accounts import render_passwd, unusable, write_atomically

ODD = ["root", "_gantry", "", "a:b", "a\nroot:x:0:0::/:/bin/sh", "-x", "é", "x" * 65, "a/b"]


def test_each_name_has_the_one_uid() -> None:
    assert render_passwd(["bob", "ada", "bob"]) == (
        "ada:x:10001:10001::/:/usr/lib/gantry/git-shell\n"
        "bob:x:10001:10001::/:/usr/lib/gantry/git-shell\n"
    )


def test_odd_names_are_left_out_and_told() -> None:
    assert render_passwd(ODD) == ""
    assert set(unusable([*ODD, "ada"])) == set(ODD)


def test_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    write_atomically(path, "old")
    reader = path.open()
    write_atomically(path, "new")
    assert (reader.read(), path.read_text()) == ("old", "new")
    reader.close()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["passwd"]
