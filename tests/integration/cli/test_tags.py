"""`gantry tag`, before a real api."""

from .conftest import DeviceOfTests, Operator


def test_tags_are_set_listed_and_removed(operator: Operator, device: DeviceOfTests) -> None:
    said = operator.ended("tag", "set", device.name, "room=lab=2", "spare").stderr.splitlines()
    assert said == [f"room: set ({device.name})", f"spare: set ({device.name})"]
    again = operator.ended("tag", "set", device.uuid[:8], "room=lab=2", "spare=no").stderr
    assert again.splitlines() == [
        f"room: had this value already ({device.name})",
        f"spare: set ({device.name})",
    ]
    assert operator.json("tag", "list", device.name) == {"room": "lab=2", "spare": "no"}
    assert "lab=2" in operator.run("tag", "list", device.name)
    [found] = operator.json("devices")
    assert found["tags"] == {"room": "lab=2", "spare": "no"}
    operator.run("tag", "rm", device.name, "room", "spare")
    assert operator.json("tag", "list", device.name) == {}
    assert (
        f"gantry tag set {device.name} KEY=VALUE"
        in operator.ended("tag", "list", device.name).stderr
    )


def test_what_is_wrong_is_said_in_a_line(operator: Operator, device: DeviceOfTests) -> None:
    gone = operator.ended("tag", "rm", device.name, "room")
    assert (gone.returncode, gone.stderr.splitlines()[-1]) == (
        3,
        f"gantry: {device.name} has no tag 'room'",
    )
    bad = operator.ended("tag", "set", device.name, "two words=1")
    assert bad.returncode == 1
    assert "the tag key 'two words' is not valid" in bad.stderr
    assert operator.ended("tag", "set", "nobody", "room=1").returncode == 3
