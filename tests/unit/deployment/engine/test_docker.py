"""What counts as a difference between two sets of inputs."""

from gantry.deployment.engine.docker import canonical


def test_order_counts_only_where_docker_sees_it() -> None:
    labels = [{"label": "a", "value": "1"}, {"label": "b", "value": "2"}]
    assert canonical({"labels": labels}) == canonical({"labels": labels[::-1]})
    assert canonical({"ports": labels}) != canonical({"ports": labels[::-1]})
    assert canonical({"tests": ["CMD", "x"]}) != canonical({"tests": ["x", "CMD"]})


def test_what_is_empty_or_false_is_as_good_as_not_set() -> None:
    unset = {"volumes": [], "tmpfs": {}, "internal": False, "uploads": None}
    assert canonical({"name": "n", **unset}) == {"name": "n"}
    assert canonical({"internal": True}) != canonical({"internal": False})
    assert canonical({"tmpfs": {"/run": ""}}) == {"tmpfs": {"/run": ""}}
