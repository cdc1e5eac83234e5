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
