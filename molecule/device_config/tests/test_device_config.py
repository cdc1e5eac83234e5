def test_nothing_failed(host):
    assert host.run("systemctl is-system-running").stdout.strip() == "running"
