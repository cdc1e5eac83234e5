"""A preview's lines, as people read them."""

from gantry.deployment.engine.plan import Op, Step, differences
from gantry.deployment.engine.render import diff
from gantry.deployment.engine.values import UNKNOWN, secret

OLD = {
    "devices": [{"hostPath": "/dev/net/tun", "containerPath": "/dev/net/tun"}],
    "uploads": [
        {"file": "/etc/gantry/a.json", "content": secret("hush")},
        {"file": "/etc/gantry/b.json", "content": "old"},
    ],
    "wait": True,
}
NEW = {
    "devices": [
        {"hostPath": "/dev/net/tun", "containerPath": "/dev/net/tun", "permissions": "rw"},
        {"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": "rwm"},
    ],
    "uploads": [{"file": "/etc/gantry/a.json", "content": secret("hush hush")}],
    "wait": False,
    "image": UNKNOWN,
    "labels": [],
}


def test_each_line_says_what_of_it_changes() -> None:
    changes = differences(OLD, NEW)
    step = Step(Op.REPLACE, "u::vpn-1", "docker:index/container:Container", changes, ("devices",))
    headline, *lines = [line.plain for line in diff([step])]
    assert headline == "± docker:Container vpn-1  replace (devices)"
    assert lines == [
        "    devices[/dev/net/tun].permissions: (none) => rw [replaces]",
        "    devices[/dev/fuse]: (none) => hostPath /dev/fuse, containerPath /dev/fuse, "
        "permissions rwm [replaces]",
        "    uploads[/etc/gantry/a.json].content: [secret] => [secret]",
        "    uploads[/etc/gantry/b.json]: file /etc/gantry/b.json, content old => (none)",
        "    wait: true => false",
        "    image: (none) => (known after it is made)",
        "    labels: (none) => []",
    ]


def test_of_a_text_the_lines_that_differ_are_shown() -> None:
    old = "".join(f"line {number}\n" for number in range(40))
    new = old.replace("line 3\n", "line three\n").replace("line 39\n", "")
    (one,) = differences({"content": old}, {"content": new})
    step = Step(Op.UPDATE, "u::balancer", "docker:index/container:Container", (one,))
    assert [line.plain for line in diff([step])][1:] == [
        "    content:",
        "      - line 3",
        "      + line three",
        "      - line 39",
    ]
    (all_,) = differences({"content": old}, {"content": ""})
    step = Step(Op.UPDATE, "u::balancer", "docker:index/container:Container", (all_,))
    assert [line.plain for line in diff([step])][-1] == "      … and 30 more lines"
