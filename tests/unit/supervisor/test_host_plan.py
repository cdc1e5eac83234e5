"""Steps on the host: to the goal in one round, nothing at the goal, and back when variables go."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gantry.supervisor.host.configtxt import Setting
from gantry.supervisor.host.plan import (
    HostFacts,
    HostStep,
    RestoreSplash,
    Switch,
    WriteConfigJson,
    WriteConfigTxt,
    WriteSplash,
    plan,
)
from gantry.supervisor.host.variables import Variables


def carry_out(facts: HostFacts, step: HostStep) -> HostFacts:
    """What a host is after a step."""
    match step:
        case WriteConfigTxt(text=text):
            return replace(facts, config_txt=text)
        case WriteConfigJson(changes=changes, before=before):
            document = {**(facts.config_json or {}), **changes}
            document = {key: value for key, value in document.items() if value is not None}
            return replace(facts, config_json=document, before=before)
        case WriteSplash(content=content, keep=keep):
            kept = (facts.splash or b"") if keep else facts.splash_before
            return replace(facts, splash=content, splash_before=kept)
        case RestoreSplash():
            return replace(facts, splash=facts.splash_before or None, splash_before=None)
        case Switch(service=service, on=on):
            return replace(
                facts, switched=facts.switched - {service} if on else facts.switched | {service}
            )


def reach(variables: Variables, facts: HostFacts) -> HostFacts:
    for step in plan(variables, facts):
        facts = carry_out(facts, step)
    assert plan(variables, facts) == ()
    return facts


def test_only_what_has_an_effect_is_a_reason_to_restart() -> None:
    facts = HostFacts(config_txt="gpu_mem=16\n")
    same = Variables(config_txt=(Setting("gpu_mem", ("16",)),))
    [step] = plan(same, facts)
    assert isinstance(step, WriteConfigTxt)
    assert step.names == ()
    [step] = plan(Variables(config_txt=(Setting("gpu_mem", ("32",)),)), facts)
    assert isinstance(step, WriteConfigTxt)
    assert step.names == ("gpu_mem",)


def test_a_host_without_config_txt_or_with_an_unreadable_config_json_is_left_alone() -> None:
    variables = Variables(persistent_logging=True, config_txt=(Setting("gpu_mem", ("32",)),))
    assert plan(variables, HostFacts()) == ()


def test_in_local_mode_the_host_stays_as_it_is() -> None:
    variables = Variables(local_mode=True, vpn=False, config_txt=(Setting("gpu_mem", ("32",)),))
    assert plan(variables, HostFacts(config_txt="gpu_mem=16\n", config_json={})) == ()


def test_an_empty_host_name_is_the_hosts_default() -> None:
    facts = reach(Variables(hostname=""), HostFacts(config_json={"hostname": "mine"}))
    assert facts.config_json == {}
    assert reach(Variables(), facts).config_json == {"hostname": "mine"}


def test_a_service_that_is_on_by_itself_is_not_switched() -> None:
    assert plan(Variables(vpn=True, discovery=True), HostFacts()) == ()


_VARIABLES = st.builds(
    Variables,
    persistent_logging=st.none() | st.booleans(),
    hostname=st.none() | st.sampled_from(["", "robot"]),
    vpn=st.none() | st.booleans(),
    discovery=st.none() | st.booleans(),
    splash=st.none() | st.sampled_from([b"one", b"two"]),
    config_txt=st.sampled_from([(), (Setting("gpu_mem", ("32",)),), (Setting("dtparam", ()),)]),
)
_FACTS = st.builds(
    HostFacts,
    config_txt=st.none() | st.just("dtparam=audio=on\ngpu_mem=16\n"),
    config_json=st.sampled_from([{}, {"persistentLogging": False}, {"hostname": "x", "k": 1}]),
    splash=st.none() | st.sampled_from([b"one", b"theirs"]),
)


@given(_FACTS, st.lists(_VARIABLES, min_size=1, max_size=4))
def test_any_way_through_variables_leads_to_each_goal_and_back(
    facts: HostFacts, ways: list[Variables]
) -> None:
    now = facts
    for variables in ways:
        now = reach(variables, now)
        document = now.config_json or {}
        if variables.persistent_logging is not None:
            assert document.get("persistentLogging") is variables.persistent_logging
        if variables.splash is not None:
            assert now.splash == variables.splash
        assert ("vpn" in now.switched) is (variables.vpn is False)
    back = reach(Variables(), now)
    assert replace(back, before=None) == replace(facts, before=None)
    assert not back.before
