"""config.txt: what variables make of it, and that nothing of its owner's is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.supervisor.host.configtxt import (
    FORBIDDEN,
    ConfigTxtError,
    Setting,
    applied,
    current,
    setting,
)

# What Raspberry Pi OS 12 comes with, shortened.
DELIVERED = """\
# For more options and information see
# http://rptl.io/configtxt

#dtparam=i2c_arm=on
dtparam=audio=on
camera_auto_detect=1
dtoverlay=vc4-kms-v3d
max_framebuffers=2

[cm5]
dtoverlay=dwc2,dr_mode=host

[all]
something unknown
dtoverlay=w1-gpio
dtparam=gpiopin=4
gpu_mem=16
"""


def test_settings_are_in_a_block_for_all_boards_and_the_old_ones_are_off() -> None:
    wanted = [
        setting("gpu_mem", "128"),
        setting("dtoverlay", '"pi3-miniuart-bt","spi1-1cs,cs0_pin=16"'),
        setting("dtparam", '"i2c_arm=on","spi=on"'),
        setting("hdmi_group:1", "2"),
    ]
    assert (
        applied(DELIVERED, wanted)
        == """\
# For more options and information see
# http://rptl.io/configtxt

#dtparam=i2c_arm=on
#gantry-off# dtparam=audio=on
camera_auto_detect=1
#gantry-off# dtoverlay=vc4-kms-v3d
max_framebuffers=2

[cm5]
dtoverlay=dwc2,dr_mode=host

[all]
something unknown
#gantry-off# dtoverlay=w1-gpio
#gantry-off# dtparam=gpiopin=4
#gantry-off# gpu_mem=16
# gantry: set by variables of the fleet; change them there
[all]
gpu_mem=128
hdmi_group:1=2
dtoverlay=
dtparam=i2c_arm=on
dtparam=spi=on
dtoverlay=pi3-miniuart-bt
dtoverlay=spi1-1cs
dtparam=cs0_pin=16
# gantry: end
"""
    )


def test_what_holds_is_read_with_overlays_and_their_parameters() -> None:
    assert current(DELIVERED) == {
        "dtparam": ("audio=on",),
        "camera_auto_detect": ("1",),
        "dtoverlay": ("vc4-kms-v3d", "w1-gpio,gpiopin=4"),
        "max_framebuffers": ("2",),
        "gpu_mem": ("16",),
    }


def test_parameters_alone_leave_those_of_overlays() -> None:
    text = applied(DELIVERED, [setting("dtparam", "i2c_arm=on")])
    assert "\ndtoverlay=w1-gpio\ndtparam=gpiopin=4\n" in text
    found = current(text)
    assert found["dtparam"] == ("i2c_arm=on",)
    assert found["dtoverlay"] == ("vc4-kms-v3d", "w1-gpio,gpiopin=4")


def test_an_empty_list_turns_off_what_was_there() -> None:
    assert "dtoverlay" not in current(applied(DELIVERED, [setting("dtoverlay", "")]))


def test_a_variable_that_goes_brings_back_what_was() -> None:
    text = applied(DELIVERED, [setting("gpu_mem", "128"), setting("dtoverlay", "x")])
    assert applied(text, [setting("gpu_mem", "64")]).count("vc4-kms-v3d") == 1
    assert applied(text, []) == DELIVERED


def test_what_is_written_below_the_block_stays_for_all_boards() -> None:
    text = applied("[pi4]\narm_boost=1\n", [setting("gpu_mem", "64")]) + "start_x=1\n"
    assert current(text)["start_x"] == ("1",)
    for settings in ([], [setting("gpu_mem", "32")]):
        assert current(applied(text, settings))["start_x"] == ("1",)
        assert "arm_boost" not in current(applied(text, settings))


def test_a_block_without_its_end_takes_nothing_with_it() -> None:
    text = applied("a=1\n", [setting("gpu_mem", "64")]).replace("# gantry: end\n", "mine=1\n")
    assert current(applied(text, [])) == {"a": ("1",), "gpu_mem": ("64",), "mine": ("1",)}


def test_line_ends_and_bytes_of_others_stay() -> None:
    text = "# caf\udce9\r\ngpu_mem=16\r\nlast=1"
    assert applied(text, []) == text
    with_block = applied(text, [setting("gpu_mem", "64")])
    assert with_block.startswith("# caf\udce9\r\n#gantry-off# gpu_mem=16\r\nlast=1\n")
    assert applied(with_block, []) == text + "\n"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *((name, "1", "may not be changed") for name in sorted(FORBIDDEN)),
        ("a b", "1", "no name of a setting"),
        ("[all]", "1", "no name of a setting"),
        ("gpu_mem", "1\nkernel=evil", "give one line"),
        ("dtparam", '"a","b', 'or "a","b"'),
        ("dtparam", '"a",7', "give texts"),
        ("dtoverlay", "x" * 100, "the firmware reads 98"),
    ],
)
def test_what_could_keep_a_device_from_starting_is_refused(
    name: str, value: str, problem: str
) -> None:
    with pytest.raises(ConfigTxtError, match=problem):
        setting(name, value)


def test_many_parameters_are_no_long_line() -> None:
    value = ",".join(["overlay", *(f"parameter{each}=on" for each in range(30))])
    assert current(applied("", [setting("dtoverlay", value)]))["dtoverlay"] == (value,)


_NAMES = st.sampled_from(["gpu_mem", "start_x", "dtparam", "dtoverlay", "gpio", "hdmi_mode:1"])
_WORDS = st.from_regex(r"[a-z0-9=_]{1,8}", fullmatch=True)
_VALUES = {
    "dtparam": st.sampled_from(["audio=on", "i2c_arm=off", "spi=on,audio=off"]),
    "dtoverlay": st.sampled_from(["vc4", "w1-gpio,gpiopin=4", "dwc2,dr_mode=host,x=1"]),
}


@st.composite
def _settings(draw: st.DrawFn) -> list[Setting]:
    found = []
    for name in draw(st.sets(_NAMES)):
        values = _VALUES.get(name, _WORDS)
        if name in ("dtparam", "dtoverlay", "gpio"):
            found.append(Setting(name, tuple(draw(st.lists(values, max_size=3)))))
        else:
            found.append(Setting(name, (draw(values),)))
    return found


_TEXTS = st.lists(
    st.sampled_from(
        [
            *DELIVERED.splitlines(),
            "[pi4]",
            "[none]",
            "  [ALL] ",
            "dtoverlay=",
            "dtparam=spi=on",
            "dtparam=gpiopin=5",
            "gpio=17=op,dh",
            "start_x = 1",
            "# gantry: end",
        ]
    )
).map(lambda lines: "".join(f"{line}\n" for line in lines))


@given(_TEXTS, _settings(), _settings())
def test_for_any_text_and_settings(
    text: str, settings: list[Setting], others: list[Setting]
) -> None:
    after = applied(text, settings)
    # The goal is reached, and is a goal.
    assert applied(after, settings) == after
    found, before = current(after), current(text)
    for each in settings:
        assert found.get(each.name, ()) == each.values
    # Nothing else has another value than before.
    for name in set(before) | set(found):
        if name not in {each.name for each in settings}:
            assert found.get(name) == before.get(name)
    # The way there does not matter, and the way back leads to where it began.
    assert applied(applied(text, others), settings) == after
    assert applied(after, []) == text
    # Every line of the owner's is there, in its order.
    kept = [line.removeprefix("#gantry-off# ") for line in after.splitlines()]
    assert kept[: len(text.splitlines())] == text.splitlines()
