"""The rules' declarations, what is generated from them, and what is listed of them."""

import re
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, and_
from sqlalchemy.orm import aliased

from gantry.api import migrations
from gantry.api.__main__ import main
from gantry.api.models import Application, Device, Release
from gantry.api.rules import METADATA, RULES, Rule, sql
from gantry.api.rules.kinds import Check, Holds, Link

ROOT = Path(__file__).parents[3]
FROZEN = Path(migrations.__path__[0]) / "sql"


def holds(name: str) -> Holds:
    (rule,) = (each for each in RULES if each.name == name)
    meaning = rule.meanings[0]
    assert isinstance(meaning, Holds)
    return meaning


def test_names_and_sentences_are_each_rule_s_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES) > 30
    assert len({rule.sentence for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch("[a-z_]+", rule.name)
        assert re.fullmatch(r"(It is necessary that|When) .*[^.]\.", rule.sentence)
        assert rule.meanings


def test_postgresql_cuts_no_name() -> None:
    made = re.findall(r"(?m)^create (?:function|trigger) (\w+)", sql.create())
    assert len(made) > 50
    assert max(len(name) for name in made) <= 63


def test_every_check_is_declared_as_a_rule() -> None:
    declared = {
        f"ck_{meaning.model.__tablename__}_{meaning.name}"
        for rule in RULES
        for meaning in rule.meanings
        if isinstance(meaning, Check)
    }
    in_tables = {
        str(constraint.name)
        for table in METADATA.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert in_tables == declared


def test_a_rule_watches_what_its_condition_and_its_links_speak_of() -> None:
    watched = {each.table: each.columns for each in sql.watches(holds("device_type_fits"))}
    assert watched == {
        "device": ("belongs_to__application", "is_of__device_type"),
        "application": ("is_for__device_type",),
        "device_type": ("is_of__cpu_architecture",),
        "cpu_architecture": ("slug",),
    }
    watched = {each.table: each.columns for each in sql.watches(holds("pin_fits"))}
    assert watched == {
        "device": ("belongs_to__application", "is_pinned_on__release"),
        "release": ("belongs_to__application", "images_removed_timestamp", "status"),
    }


def test_a_change_holds_what_it_refers_to_and_nothing_that_refers_to_it() -> None:
    release = aliased(Release, name="wanted")
    fleet = aliased(Application, name="fleet")
    rule = Rule(
        "sample",
        "It is necessary that it's so.",
        [
            Holds(
                Device,
                (
                    Link(release, Device.is_pinned_on__release),
                    Link(fleet, release.belongs_to__application),
                ),
                and_(fleet.is_host.is_(False), release.status == "success"),
            )
        ],
    )
    made = re.split("(?m)^create function ", sql.create([rule]))[3:]
    locked = {
        each.partition("(")[0]: re.findall(r"perform from (\w+) where", each) for each in made
    }
    assert locked == {
        "rule_sample_device_device": ["release", "application"],
        "rule_sample_device_release": ["application"],
        "rule_sample_device_application": [],
    }
    assert "'It is necessary that it''s so.'" in made[0]
    assert "after insert on device" in made[0]
    assert "after insert" not in made[1]


def test_the_newest_revision_of_the_database_has_what_is_declared() -> None:
    newest = max(FROZEN.glob("*_rules.sql"))
    assert newest.read_text() == sql.find() + sql.create(), (
        "the rules have changed: write a revision that calls rules.replace, and its file with "
        "`python -m gantry.api rules --sql`"
    )


def test_the_page_of_the_documentation_is_of_these_declarations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["rules", "--markdown"]) == 0
    page = capsys.readouterr().out
    assert (ROOT / "docs/rules.md").read_text() == page, (
        "docs/rules.md is stale: python -m gantry.api rules --markdown > docs/rules.md"
    )


def test_the_command_lists_all_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"(?m)^\w+$", told) == [rule.name for rule in RULES]
    assert max(len(line) for line in told.splitlines()) <= 100
    assert main(["rules", "--sql"]) == 0
    assert capsys.readouterr().out == sql.find() + sql.create()
