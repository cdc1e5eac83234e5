"""Configuration variables: the family's names and meanings, and what cannot be used."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.supervisor.host.configtxt import Setting
from gantry.supervisor.host.variables import DeltaSettings, Variables, read_variables

PNG = b"\x89PNG\r\n\x1a\nand more"


def test_without_variables_there_are_the_familys_defaults() -> None:
    found = read_variables({}, is_pi=True)
    assert found == Variables()
    assert (found.logs, found.instant_updates, found.connectivity_check) == (True, True, True)
    assert found.hardware_metrics
    assert (found.local_mode, found.lock_override) == (False, False)
    assert (found.delta.enabled, found.delta.retry_count) == (True, 3)


def test_all_that_make_sense_on_a_pi_are_read() -> None:
    names = {
        "BALENA_SUPERVISOR_POLL_INTERVAL": "600000",
        "BALENA_SUPERVISOR_API_REQUEST_TIMEOUT": "30000",
        "BALENA_SUPERVISOR_INSTANT_UPDATE_TRIGGER": "false",
        "RESIN_SUPERVISOR_CONNECTIVITY_CHECK": "0",
        "RESIN_SUPERVISOR_LOG_CONTROL": "off",
        "BALENA_SUPERVISOR_HARDWARE_METRICS": "false",
        "RESIN_SUPERVISOR_LOCAL_MODE": "1",
        "RESIN_OVERRIDE_LOCK": "1",
        "BALENA_SUPERVISOR_PERSISTENT_LOGGING": "true",
        "BALENA_SUPERVISOR_UPDATE_RETRY": "3600000",
        "BALENA_SUPERVISOR_VPN_CONTROL": "false",
        "BALENA_HOST_DISCOVERABILITY": "false",
        "RESIN_HOST_HOSTNAME": "robot-7",
        "RESIN_SUPERVISOR_DELTA": "0",
        "RESIN_SUPERVISOR_DELTA_VERSION": "2",
        "RESIN_SUPERVISOR_DELTA_REQUEST_TIMEOUT": "30000",
        "RESIN_SUPERVISOR_DELTA_APPLY_TIMEOUT": "5000",
        "RESIN_SUPERVISOR_DELTA_WAIT_TIMEOUT": "90000",
        "RESIN_SUPERVISOR_DELTA_RETRY_COUNT": "7",
        "RESIN_SUPERVISOR_DELTA_RETRY_INTERVAL": "1000",
        "BALENA_HOST_SPLASH_IMAGE": "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "RESIN_HOST_CONFIG_gpu_mem": "128",
        "BALENA_HOST_CONFIG_dtoverlay": '"vc4-kms-v3d","w1-gpio,gpiopin=4"',
    }
    assert read_variables(names, is_pi=True) == Variables(
        poll_seconds=600.0,
        request_seconds=30.0,
        instant_updates=False,
        connectivity_check=False,
        logs=False,
        hardware_metrics=False,
        local_mode=True,
        lock_override=True,
        update_retry_seconds=3600.0,
        persistent_logging=True,
        vpn=False,
        discovery=False,
        hostname="robot-7",
        delta=DeltaSettings(False, 2, 30.0, 5.0, 90.0, 7, 1.0),
        splash=PNG,
        config_txt=(
            Setting("dtoverlay", ("vc4-kms-v3d", "w1-gpio,gpiopin=4")),
            Setting("gpu_mem", ("128",)),
        ),
    )


def test_of_two_names_balenas_counts() -> None:
    names = {
        "BALENA_SUPERVISOR_LOG_CONTROL": "true",
        "RESIN_SUPERVISOR_LOG_CONTROL": "false",
        "SUPERVISOR_LOG_CONTROL": "false",
        "RESIN_HOST_CONFIG_gpu_mem": "16",
        "BALENA_HOST_CONFIG_gpu_mem": "32",
    }
    for config in (names, dict(reversed(names.items()))):
        found = read_variables(config, is_pi=True)
        assert found.logs
        assert found.config_txt == (Setting("gpu_mem", ("32",)),)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("RESIN_SUPERVISOR_LOG_CONTROL", "maybe", "'maybe': give true or false"),
        ("RESIN_SUPERVISOR_POLL_INTERVAL", "soon", "give a whole number"),
        ("RESIN_SUPERVISOR_POLL_INTERVAL", "-5", "give 1 to"),
        ("RESIN_SUPERVISOR_DELTA_VERSION", "1", "give 2 to 3"),
        ("RESIN_HOST_HOSTNAME", "a b", "letters, digits"),
        ("BALENA_HOST_SPLASH_image", "bm8=", "a PNG file"),
        ("BALENA_HOST_SPLASH_image", "???", "base64"),
        ("RESIN_HOST_CONFIG_kernel", "other.img", "may not be changed"),
        ("RESIN_HOST_CONFIG_gpio", '"a', "give a value"),
    ],
)
def test_what_cannot_be_used_is_named_and_keeps_its_default(
    name: str, value: str, problem: str
) -> None:
    found = read_variables({name: value, "RESIN_HOST_CONFIG_gpu_mem": "16"}, is_pi=True)
    [said] = found.problems
    assert said.startswith(name)
    assert problem in said
    assert found == Variables(config_txt=(Setting("gpu_mem", ("16",)),), problems=found.problems)


def test_the_rest_is_named_with_the_reason() -> None:
    found = read_variables(
        {
            "BALENA_HOST_FIREWALL_MODE": "on",
            "BALENA_HOST_EXTLINUX_isolcpus": "1",
            "RESIN_HOST_CONFIG_gpu_mem": "16",
            "RESIN_SUPERVISOR_NEW_THING": "1",
            "RESIN_HOST_": "",
        },
        is_pi=False,
    )
    assert set(found.unused) == {
        "BALENA_HOST_FIREWALL_MODE",
        "BALENA_HOST_EXTLINUX_isolcpus",
        "RESIN_HOST_CONFIG_gpu_mem",
    }
    assert "no config.txt" in found.unused["RESIN_HOST_CONFIG_gpu_mem"]
    assert found.unknown == ("RESIN_HOST_", "RESIN_SUPERVISOR_NEW_THING")
    assert found.config_txt == ()


@given(
    st.dictionaries(
        st.sampled_from(["BALENA_", "RESIN_", ""]).flatmap(
            lambda prefix: st.sampled_from(
                ["SUPERVISOR_DELTA", "HOST_CONFIG_dtparam", "HOST_CONFIG_x", "HOST_HOSTNAME", "A"]
            ).map(lambda name: prefix + name)
        ),
        st.text(max_size=30),
    ),
    st.booleans(),
)
def test_nothing_that_is_given_is_passed_over_in_silence(
    config: dict[str, str], is_pi: bool
) -> None:
    found = read_variables(config, is_pi)
    names = {full.removeprefix("BALENA_").removeprefix("RESIN_") for full in config}
    told = len(found.problems) + len(found.unused) + len(found.unknown) + len(found.config_txt)
    told += found.hostname is not None
    told += "SUPERVISOR_DELTA" in names and not any("_DELTA" in each for each in found.problems)
    assert told == len(names)


def test_variables_of_trials_are_known_and_looked_at() -> None:
    config = {
        "BALENA_SUPERVISOR_ROLLBACK": "0",
        "BALENA_SUPERVISOR_ROLLBACK_TIMEOUT": "90000",
        "RESIN_SUPERVISOR_ROLLBACK_SETTLE": "0",
        "BALENA_SUPERVISOR_ROLLBACK_CRASHES": "none",
    }
    found = read_variables(config, is_pi=True)
    assert found.unknown == ()
    [problem] = found.problems
    assert problem.startswith("BALENA_SUPERVISOR_ROLLBACK_CRASHES is 'none': ")
