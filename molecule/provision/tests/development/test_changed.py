"""The same device after change-variant.yml has made a development device of it."""

import json

RESOLVERS = ("127.0.0.2", "10.114.102.1")


def test_it_says_so(host):
    device = json.loads(host.file("/etc/gantry/device.json").content_string)
    assert device["variant"] == "development"
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_the_engine_and_ssh_are_what_listens(host, listening):
    assert listening(host) == {
        ("tcp", "*:2377"),
        ("tcp", "0.0.0.0:22222"),
        ("tcp", "*:22222"),
        ("udp", "0.0.0.0:5353"),
        *((protocol, f"{ip}:53") for protocol in ("tcp", "udp") for ip in RESOLVERS),
    }


def test_the_network_reaches_them_and_the_supervisor(host):
    loaded = json.loads(host.check_output("nft --json list table inet gantry"))["nftables"]
    sets = {each["set"]["name"]: set(each["set"]["elem"]) for each in loaded if "set" in each}
    assert sets == {"open_tcp": {2377, 22222, 48484}, "open_udp": {5353}}


def test_somebody_can_log_in_at_the_screen(host):
    assert host.service("getty@tty1.service").is_enabled


def test_the_fleets_settings_are_as_they_were(host):
    config = json.loads(host.file("/mnt/boot/config.json").content_string)
    assert (config["applicationName"], config["futureKey"]) == ("molecule", {"kept": True})
    assert host.service("gantry-supervisor.service").is_enabled
