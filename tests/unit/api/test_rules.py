"""Small rules: names, keys, ETags, scopes."""

import pytest

from gantry.api.errors import BadRequestError
from gantry.api.services import names, secrets, variables
from gantry.api.services.bootstrap import check_username
from gantry.api.services.registration import check_device_name, fits
from gantry.api.services.registry_tokens import Access, parse_scopes
from gantry.api.services.target_state import canonical, etag_matches, etag_of


def test_generated_names_are_two_words() -> None:
    assert all(len(names.generate().split("-")) == 2 for _ in range(50))
    for words in (names.ADJECTIVES, names.NOUNS):
        assert len(words) == len(set(words)) > 80
        assert all(word.isalpha() and word.islower() for word in words)


def test_variables_of_later_levels_go_first_and_configuration_is_apart() -> None:
    levels = variables.Levels(
        fleet={"A": "fleet", "B": "fleet", "C": "fleet", "D": "fleet", "RESIN_HOST_CONFIG_x": "1"},
        services={1: {"B": "service", "C": "service", "D": "service"}, 2: {"A": "other"}},
        device={"C": "device", "D": "device", "BALENA_HOST_y": "2"},
        device_services={1: {"D": "both"}},
    )
    assert levels.environment(1) == {"A": "fleet", "B": "service", "C": "device", "D": "both"}
    assert levels.environment(2) == {"A": "other", "B": "fleet", "C": "device", "D": "device"}
    assert levels.environment(3) == {"A": "fleet", "B": "fleet", "C": "device", "D": "device"}
    assert levels.configuration() == {"RESIN_HOST_CONFIG_x": "1", "BALENA_HOST_y": "2"}


@pytest.mark.parametrize("name", ["A\n", "A B", "", "1A", "A" * 256, "RESIN_X", "BALENA"])
def test_wrong_names_of_variables(name: str) -> None:
    with pytest.raises(BadRequestError):
        variables.check(name, "value")


@pytest.mark.parametrize("value", ["x" * 100_001, "a\0b"])
def test_wrong_values_of_variables(value: str) -> None:
    with pytest.raises(BadRequestError):
        variables.check("NAME", value)


@pytest.mark.parametrize(
    ("own", "fleet", "holds"),
    [
        ("raspberrypi4-64", "raspberrypi3-64", True),
        ("raspberrypi3-64", "raspberry-pi", True),
        ("raspberrypi3", "raspberrypi3-64", False),
        ("raspberry-pi", "raspberry-pi2", False),
        ("intel-nuc", "generic-amd64", True),
        ("intel-nuc", "raspberrypi3-64", False),
    ],
)
def test_which_devices_run_what_a_fleet_builds(own: str, fleet: str, holds: bool) -> None:
    assert fits(own, fleet) is holds


def test_device_names() -> None:
    assert check_device_name("  Robot 7 – left ") == "Robot 7 – left"
    for name in ("", "   ", "a\nb", "x" * 256):
        with pytest.raises(BadRequestError):
            check_device_name(name)


@pytest.mark.parametrize("name", ["root", "git", "d_abc", "Admin", "a", "a" * 32, "a b", "x\n"])
def test_user_names_that_nobody_may_have(name: str) -> None:
    with pytest.raises(BadRequestError):
        check_username(name)


def test_etags_are_of_the_value_and_not_of_its_order() -> None:
    one, other = canonical({"a": 1, "b": "é"}), canonical({"b": "é", "a": 1})
    assert one == other
    assert etag_of(one) == etag_of(other) != etag_of(canonical({"a": 2}))
    etag = etag_of(one)
    assert etag_matches(etag, etag)
    assert etag_matches(etag, f'"x", W/{etag}')
    assert etag_matches(etag, "*")
    assert not etag_matches(etag, '"x"')
    assert not etag_matches(etag, None)


def test_scopes() -> None:
    asked = parse_scopes(["repository:v2/abc:pull,push repository:x:pull", "registry:catalog:*"])
    assert asked == [Access("v2/abc", ("pull", "push")), Access("x", ("pull",))]
    with pytest.raises(BadRequestError):
        parse_scopes(["repository:UPPER:pull"])


def test_passwords_and_keys() -> None:
    stored = secrets.hash_password("one of them")
    assert secrets.password_matches(stored, "one of them")
    assert not secrets.password_matches(stored, "another")
    assert not secrets.password_matches(None, "one of them")
    assert secrets.KEY_PATTERN.fullmatch(secrets.new_key())
    assert secrets.new_key() != secrets.new_key()
