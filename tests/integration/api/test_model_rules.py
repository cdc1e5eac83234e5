"""Every rule in a real PostgreSQL: broken by plain SQL, from either side, by two at once."""

# ruff: noqa: S608 - the statements are the tests' own
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from gantry.api.database import Database
from gantry.api.rules import METADATA, RULES, Broken, broken, sql
from gantry.contracts.device_types import DEVICE_TYPES

from .conftest import Fleet, own_database

# What the world is made at: before the rules, and before organizations.
WORLD_REVISION = "0002"
# Two fleets for 64-bit boards. Device 1 is pinned on release 1, device 2 runs release 3.
WORLD = """
insert into actor (id) select generate_series(1, 20);
insert into "user" (id, actor, username, password_hash) values (1, 1, 'one', ''), (2, 2, 'two', '');
insert into application (id, actor, belongs_to__user, app_name, slug, uuid, is_for__device_type)
    select id, id + 2, 1, 'fleet' || id, 'one/fleet' || id, lpad(id::text, 32, '0'),
        (select id from device_type where slug = 'raspberrypi3-64')
    from generate_series(1, 2) as id;
insert into release (id, belongs_to__application, commit, composition, status, source, revision)
    values (1, 1, 'aaaaaaa', '{}', 'success', 'git', 0),
        (2, 1, 'bbbbbbb', '{}', 'failed', 'git', null),
        (3, 1, 'ccccccc', '{}', 'success', 'git', 1), (4, 2, 'aaaaaaa', '{}', 'success', 'git', 0),
        (5, 1, 'aaaaaaa', '{}', 'running', 'git', null);
insert into service (id, application, service_name, repository)
    values (1, 1, 'main', 'v2/' || repeat('1', 32)), (2, 1, 'web', 'v2/' || repeat('2', 32)),
        (3, 2, 'main', 'v2/' || repeat('3', 32)),
        (4, 1, 'spare', 'v2/' || repeat('4', 32)), (5, 1, 'new', 'v2/' || repeat('5', 32));
insert into image (id, is_a_build_of__service, is_stored_at__image_location)
    values (1, 1, 'a'), (2, 2, 'b'), (3, 1, 'c'), (4, 3, 'd'), (5, 2, 'e');
insert into release_image (id, is_part_of__release, image) values (1, 1, 1), (2, 1, 2), (3, 4, 4);
insert into device (id, actor, uuid, device_name, belongs_to__user, belongs_to__application,
        is_of__device_type)
    select id, id + 4, lpad(id::text, 32, '0'), 'device', 1, 1,
        (select id from device_type where slug = 'raspberrypi4-64')
    from generate_series(1, 2) as id;
update device set is_pinned_on__release = 1 where id = 1;
update device set is_running__release = 3 where id = 2;
update application set should_be_running__release = 3 where id = 1;
insert into service_install (id, device, installs__service) values (1, 1, 1), (2, 2, 1), (3, 2, 4);
insert into image_install (id, device, installs__image, is_provided_by__release, status)
    values (1, 1, 1, 1, 'Running');
insert into application_environment_variable (id, application, name, value) values (1, 1, 'A', '1');
insert into device_environment_variable (id, device, name, value) values (1, 1, 'A', '1');
insert into device_tag (id, device, tag_key, value) values (1, 1, 'room', '1');
insert into api_key (id, key_hash, role, is_of__actor)
    values (1, 'x', 'device', 5), (2, 'y', 'provisioning', 18), (3, 'z', 'user', 18);
"""
# What came later. Application 3 has supervisors for 64-bit boards: release 6 is a success.
LATER = """
insert into service_environment_variable (id, service, name, value) values (1, 1, 'A', '1');
insert into device_service_environment_variable (id, service_install, name, value)
    values (1, 1, 'A', '1');
insert into application_tag (id, application, tag_key, value) values (1, 1, 'room', '1');
insert into release_tag (id, release, tag_key, value) values (1, 1, 'room', '1');
insert into release_asset (id, release, asset_key, filename, content_type, size, checksum)
    values (1, 1, 'map.txt', 'map.txt', 'text/plain', 1, '');
insert into gateway_download (id, image, is_downloaded_by__device, status)
    values (1, 1, 1, 'Downloading');
insert into application (id, actor, organization, application_type, app_name, slug, uuid,
        is_for__device_type, is_public)
    select 3, 17, organization.id, application_type.id, 'aarch64-supervisor',
        'one/aarch64-supervisor', lpad('3', 32, '0'),
        (select id from device_type where slug = 'raspberrypi3-64'), true
    from organization, application_type where organization.handle = 'one';
insert into release (id, belongs_to__application, commit, composition, status, source, revision)
    values (6, 3, 'aaaaaaa', '{}', 'success', 'git', 0),
        (7, 3, 'bbbbbbb', '{}', 'failed', 'git', null);
update device set should_be_managed_by__release = 6 where id = 1;
insert into device_action (id, device, action, parameters, status, expires_at)
    values (1, 1, 'restart-service', '{"service": "main"}', 'running', now() + interval '1 day'),
        (2, 1, 'reboot', '{}', 'pending', now() + interval '30 days');
insert into registry_run (id, kind, status, grace, linger)
    values (1, 'collect', 'running', 0, 0), (2, 'survey', 'ordered', 0, 0);
"""

CONFIGURING = ("application_environment_variable", "device_environment_variable")
OF_SERVICES = ("service_environment_variable", "device_service_environment_variable")
VARIABLES = (*CONFIGURING, *OF_SERVICES)
TAGS = ("application_tag", "device_tag", "release_tag")


def type_of(slug: str) -> str:
    return f"(select id from device_type where slug = '{slug}')"


def set_in(table: str, change: str, row: int = 1) -> str:
    return f"update {table} set {change} where id = {row}"


NUC = type_of("intel-nuc")
PART = "insert into release_image (id, is_part_of__release, image) values"
ARMV7 = "(select id from cpu_architecture where slug = 'armv7hf')"
KEY = "insert into api_key (id, key_hash, role, is_of__actor) values"
DEVICE = (
    "insert into device (id, actor, uuid, device_name, belongs_to__user, belongs_to__application,"
    " is_of__device_type, is_pinned_on__release) values"
)

# Rule, statement, and the rows that it says.
BROKEN: list[tuple[str, str, str, tuple[int, ...]]] = [
    ("device_type_fits", set_in("device", f"is_of__device_type = {NUC}"), "device", (1,)),
    (
        "device_type_fits",
        f"{DEVICE} (9, 9, repeat('9', 32), 'x', 1, 1, {NUC}, null)",
        "device",
        (9,),
    ),
    (
        "device_type_fits",
        f"update device set is_of__device_type = {type_of('raspberrypi3')}",
        "device",
        (1, 2),
    ),
    ("device_type_fits", set_in("application", f"is_for__device_type = {NUC}"), "device", (1, 2)),
    (
        "device_type_fits",
        f"update device_type set is_of__cpu_architecture = {ARMV7} where slug = 'raspberrypi4-64'",
        "device",
        (1, 2),
    ),
    (
        "device_type_fits",
        "update cpu_architecture set slug = 'other' where slug = 'aarch64'",
        "device",
        (1, 2),
    ),
    ("pin_fits", set_in("device", "is_pinned_on__release = 2"), "device", (1,)),
    ("pin_fits", set_in("device", "is_pinned_on__release = 4"), "device", (1,)),
    ("pin_fits", set_in("device", "is_pinned_on__release = 999"), "device", (1,)),
    ("pin_fits", "update device set is_pinned_on__release = 5", "device", (1, 2)),
    (
        "pin_fits",
        f"{DEVICE} (9, 9, repeat('9', 32), 'x', 1, 1, {type_of('raspberrypi4-64')}, 4)",
        "device",
        (9,),
    ),
    (
        "pin_fits",
        set_in("device", "belongs_to__application = 2, is_pinned_on__release = 3"),
        "device",
        (1,),
    ),
    ("pin_fits", set_in("release", "status = 'failed'"), "device", (1,)),
    ("target_fits", set_in("application", "should_be_running__release = 2"), "application", (1,)),
    ("target_fits", set_in("application", "should_be_running__release = 4"), "application", (1,)),
    (
        "target_fits",
        "update application set should_be_running__release = 5",
        "application",
        (1, 2, 3),
    ),
    ("target_fits", set_in("release", "status = 'failed'", 3), "application", (1,)),
    ("running_release_fits", set_in("device", "is_running__release = 4"), "device", (1,)),
    (
        "running_release_fits",
        set_in("release", "belongs_to__application = 2, revision = 9", 3),
        "device",
        (2,),
    ),
    (
        "installed_service_fits",
        "insert into service_install (id, device, installs__service) values (9, 1, 3), (8, 2, 3)",
        "service_install",
        (8, 9),
    ),
    (
        "installed_service_fits",
        set_in("service_install", "installs__service = 3"),
        "service_install",
        (1,),
    ),
    (
        "installed_service_fits",
        set_in("service", "application = 2", 4),
        "service_install",
        (3,),
    ),
    ("device_has_one_fleet", set_in("device", "belongs_to__application = null"), "device", ()),
    ("device_uuid", set_in("device", "uuid = repeat('A', 32)"), "device", (1,)),
    ("device_name", set_in("device", "device_name = ''"), "device", (1,)),
    ("device_name", set_in("device", "device_name = repeat('x', 256)"), "device", (1,)),
    ("heartbeat_state", set_in("device", "api_heartbeat_state = 'well'"), "device", (1,)),
    ("application_name", set_in("application", "app_name = 'abc'"), "application", (1,)),
    (
        "application_name_once",
        set_in("application", "app_name = 'fleet2', slug = 'one/other'"),
        "application",
        (),
    ),
    ("application_uuid", set_in("application", "uuid = 'x'"), "application", (1,)),
    ("application_class", set_in("application", "is_of__class = 'x'"), "application", (1,)),
    ("success_once", set_in("release", "status = 'success'", 5), "release", ()),
    ("revision_once", set_in("release", "revision = 1", 1), "release", ()),
    ("commit", set_in("release", "commit = 'xyz'"), "release", (1,)),
    ("status", set_in("release", "status = 'done'", 2), "release", (2,)),
    ("status", set_in("image", "status = 'done'"), "image", (1,)),
    ("phase", set_in("release", "phase = 'x'"), "release", (1,)),
    ("semver", set_in("release", "semver = '1'"), "release", (1,)),
    ("one_image_a_service", f"{PART} (9, 1, 3)", "release_image", (9,)),
    ("one_image_a_service", f"{PART} (8, 3, 1), (9, 3, 3)", "release_image", (8, 9)),
    ("one_image_a_service", f"{PART} (9, 1, 1)", "release_image", ()),
    (
        "one_image_a_service",
        set_in("image", "is_a_build_of__service = 1", 2),
        "release_image",
        (2,),
    ),
    ("image_fits", f"{PART} (9, 1, 4)", "release_image", (9,)),
    (
        "image_fits",
        set_in("release", "belongs_to__application = 1, revision = 9, commit = 'fffffff'", 4),
        "release_image",
        (3,),
    ),
    ("image_fits", set_in("image", "is_a_build_of__service = 1", 4), "release_image", (3,)),
    (
        "image_fits",
        set_in("service", "application = 1, service_name = 'x'", 3),
        "release_image",
        (3,),
    ),
    ("image_digest", set_in("image", "content_hash = 'x'"), "image", (1,)),
    ("image_digest", set_in("image", "status = 'success'"), "image", (1,)),
    ("service_name", set_in("service", "service_name = '-'"), "service", (1,)),
    ("service_name_once", set_in("service", "service_name = 'web'"), "service", ()),
    ("repository", set_in("service", "repository = 'x'"), "service", (1,)),
    (
        "download_progress",
        set_in("image_install", "download_progress = 101"),
        "image_install",
        (1,),
    ),
    *(("variable_name", set_in(each, "name = '9'"), each, (1,)) for each in VARIABLES),
    *(("variable_reserved", set_in(each, "name = 'RESIN_X'"), each, (1,)) for each in CONFIGURING),
    *(
        ("service_variable_reserved", set_in(each, "name = 'RESIN_HOST_X'"), each, (1,))
        for each in OF_SERVICES
    ),
    *(
        ("variable_value", set_in(each, "value = repeat('ä', 50001)"), each, (1,))
        for each in VARIABLES
    ),
    *(
        (
            "variable_name_once",
            f"insert into {table} (id, {owner}, name, value) values (9, 1, 'A', '')",
            table,
            (),
        )
        for table, owner in zip(
            VARIABLES, ("application", "device", "service", "service_install"), strict=True
        )
    ),
    *(("tag_key", set_in(each, "tag_key = 'a b'"), each, (1,)) for each in TAGS),
    *(
        (
            "tag_key_once",
            f"insert into {each} (id, {each.removesuffix('_tag')}, tag_key, value)"
            " values (9, 1, 'room', '')",
            each,
            (),
        )
        for each in TAGS
    ),
    *(("tag_value", set_in(each, "value = repeat('x', 1001)"), each, (1,)) for each in TAGS),
    ("asset_key", set_in("release_asset", "asset_key = 'a b'"), "release_asset", (1,)),
    (
        "asset_key_once",
        "insert into release_asset (id, release, asset_key, filename, content_type, size, checksum)"
        " values (9, 1, 'map.txt', 'x', 'x', 0, '')",
        "release_asset",
        (),
    ),
    (
        "download_progress",
        set_in("gateway_download", "download_progress = 101"),
        "gateway_download",
        (1,),
    ),
    *(
        ("custom_location", set_in("device", f"{each} = 'north'"), "device", (1,))
        for each in ("custom_latitude", "custom_longitude")
    ),
    *(
        ("reachable_ports", set_in(table, f"reachable_ports = '{text}'"), table, (1,))
        for table in ("application", "device")
        for text in ("ssh", "80-", "80,,81", "80, 81")
    ),
    ("target_fits", set_in("release", "is_final = false", 3), "application", (1,)),
    ("target_fits", set_in("release", "is_invalidated = true", 3), "application", (1,)),
    *(
        (rule, set_in("release", "images_removed_timestamp = now()", row), table, (1,))
        for rule, row, table in (
            ("pin_fits", 1, "device"),
            ("target_fits", 3, "application"),
            ("supervisor_fits", 6, "device"),
        )
    ),
    (
        "images_removed",
        set_in("release", "images_removed_timestamp = now()", 5),
        "release",
        (5,),
    ),
    ("registry_run_kind", set_in("registry_run", "kind = 'x'"), "registry_run", (1,)),
    ("registry_run_status", set_in("registry_run", "status = 'x'"), "registry_run", (1,)),
    ("registry_run_alone", set_in("registry_run", "status = 'running'", 2), "registry_run", ()),
    ("supervisor_fits", set_in("device", "should_be_managed_by__release = 7"), "device", (1,)),
    ("supervisor_fits", set_in("device", "should_be_managed_by__release = 1"), "device", (1,)),
    (
        "supervisor_fits",
        set_in("application", f"is_for__device_type = {type_of('raspberrypi3')}", 3),
        "device",
        (1,),
    ),
    (
        "application_has_one_organization",
        set_in("application", "organization = null"),
        "application",
        (),
    ),
    ("application_slug", set_in("application", "slug = 'two/fleet1'"), "application", (1,)),
    (
        "application_slug",
        "update organization set handle = 'uno' where handle = 'one'",
        "application",
        (1, 2, 3),
    ),
    ("handle", "update organization set handle = 'A' where id = 1", "organization", (1,)),
    ("organization_name", "update organization set name = ''", "organization", (1,)),
    (
        "member_once",
        "insert into organization_membership"
        ' ("user", is_member_of__organization, organization_membership_role) values (1, 1, 1)',
        "organization_membership",
        (),
    ),
    ("username", set_in('"user"', "username = 'A'"), "user", (1,)),
    ("one_actor", set_in('"user"', "actor = 3"), "user", (1,)),
    ("one_actor", set_in("application", "actor = 6"), "application", (1,)),
    ("one_actor", set_in("device", "actor = 1"), "device", (1,)),
    ("key_has_one_actor", set_in("api_key", "is_of__actor = null"), "api_key", ()),
    ("key_role", set_in("api_key", "role = 'x'"), "api_key", (1,)),
    ("key_fits_actor", set_in("api_key", "role = 'user'"), "api_key", (1,)),
    ("key_fits_actor", set_in("api_key", "is_of__actor = 1"), "api_key", (1,)),
    ("key_fits_actor", f"{KEY} (8, '8', 'device', 3), (9, '9', 'user', 6)", "api_key", (8, 9)),
    ("key_fits_actor", set_in("device", "actor = 18"), "device", (1,)),
    ("key_fits_actor", set_in('"user"', "actor = 18"), "user", (1,)),
    ("key_fits_actor", set_in("application", "actor = 18"), "application", (1,)),
    ("action_kind", set_in("device_action", "action = 'format'", 2), "device_action", (2,)),
    ("action_service", set_in("device_action", "action = 'purge'"), "device_action", (1,)),
    ("action_service", set_in("device_action", "parameters = '{}'"), "device_action", (1,)),
    (
        "action_status",
        set_in("device_action", "status = 'lost', ended_at = now()", 2),
        "device_action",
        (2,),
    ),
    (
        "action_expiry",
        set_in("device_action", "expires_at = created_at + interval '59 seconds'", 2),
        "device_action",
        (2,),
    ),
    (
        "action_expiry",
        set_in("device_action", "expires_at = expires_at + interval '1 second'", 2),
        "device_action",
        (2,),
    ),
    ("action_end", set_in("device_action", "status = 'done'"), "device_action", (1,)),
    ("action_end", set_in("device_action", "ended_at = now()", 2), "device_action", (2,)),
    ("action_alone", set_in("device_action", "status = 'running'", 2), "device_action", ()),
]

ALLOWED = [
    set_in("release", "images_removed_timestamp = now()", 4),
    set_in("registry_run", "status = 'done'"),
    set_in("device_action", "status = 'done', ended_at = now()"),
    set_in("device_action", "status = 'cancelled', ended_at = now()", 2),
    set_in("device_action", "expires_at = created_at + interval '1 minute'", 2),
    set_in("device", f"is_of__device_type = {type_of('raspberrypi3-64')}"),
    set_in("application", f"is_for__device_type = {type_of('raspberrypi3')}"),
    set_in("application", f"is_for__device_type = {NUC}", 2),
    set_in("device", "is_pinned_on__release = 3"),
    set_in("device", "is_pinned_on__release = null"),
    set_in("device", "belongs_to__application = 2, is_pinned_on__release = 4"),
    set_in("device", "is_running__release = 2"),
    set_in("application", "should_be_running__release = null"),
    set_in("release", "status = 'success', commit = 'ddddddd'", 2),
    set_in("release", "status = 'failed'", 4),
    "update release set note = 'x'",
    "delete from release where id = 1",
    "delete from application where id = 1",
    f"{PART} (9, 3, 1), (8, 3, 2)",
    set_in("image", "is_a_build_of__service = 2", 3),
    "insert into service_install (id, device, installs__service) values (9, 1, 2)",
    set_in("device", "actor = 19"),
    set_in("api_key", "role = 'user', is_of__actor = 1"),
    set_in("device", "should_be_managed_by__release = 6"),
    set_in("device", "custom_latitude = '-12.5', custom_longitude = ''"),
    *(
        set_in(table, f"reachable_ports = {text}")
        for table in ("application", "device")
        for text in ("'80,8000-8010'", "''", "null")
    ),
    set_in("release", "is_final = false, is_invalidated = true"),
    set_in(VARIABLES[0], "name = 'RESIN_HOST_CONFIG_x', value = repeat('x', 100000)"),
    "delete from device",
]


@pytest.fixture(scope="module")
def filled(postgres: str) -> Iterator[str]:
    """The name of a database of the newest revision with a small world in it."""
    with own_database(postgres, "template1") as url:
        fill(url)
        yield url.rpartition("/")[2]


@pytest.fixture(scope="module")
def world(postgres: str, filled: str) -> Iterator[str]:
    """A database for tests that roll back."""
    with own_database(postgres, filled) as url:
        yield url


@pytest.fixture
def own_world(postgres: str, filled: str) -> Iterator[str]:
    """A database of one test's own."""
    with own_database(postgres, filled) as url:
        yield url


def fill(url: str, revision: str = "head") -> None:
    """The world, made as long ago as can be, so that each revision since has had it."""
    migrate(url, WORLD_REVISION)
    with psycopg.connect(url) as connection:
        for each in DEVICE_TYPES:
            cpu = each.architecture.value
            connection.execute(
                "insert into cpu_architecture (slug) values (%s) on conflict do nothing", [cpu]
            )
            connection.execute(
                "insert into device_type (slug, name, is_of__cpu_architecture)"
                " select %s, %s, id from cpu_architecture where slug = %s",
                [each.slug, each.name, cpu],
            )
        connection.execute(WORLD)
    if revision == "head":
        migrate(url)
        with psycopg.connect(url) as connection:
            connection.execute(LATER)


def revision_of(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("select version_num from alembic_version").fetchone()
    assert row is not None
    return str(row[0])


def migrate(url: str, revision: str = "head") -> None:
    database = Database(url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with database.locked() as connection:
            database.migrate(connection, revision)
    finally:
        database.close()


@pytest.fixture
def connection(world: str) -> Iterator[psycopg.Connection]:
    """A transaction that is rolled back."""
    with psycopg.connect(world) as opened:
        yield opened
        opened.rollback()


def refused(connection: psycopg.Connection, statement: str) -> Broken:
    with pytest.raises(psycopg.errors.IntegrityError) as caught:
        connection.execute(statement)
    told = broken(caught.value)
    assert told is not None, caught.value
    return told


@pytest.mark.parametrize(("name", "statement", "table", "ids"), BROKEN)
def test_a_statement_that_breaks_a_rule_is_refused_with_its_rows(
    connection: psycopg.Connection, name: str, statement: str, table: str, ids: tuple[int, ...]
) -> None:
    told = refused(connection, statement)
    assert (told.rule.name, told.resource, told.ids, told.count) == (name, table, ids, len(ids))
    assert told.sentence.startswith(told.rule.sentence)


def test_every_rule_is_tried() -> None:
    tried = {each[0] for each in BROKEN} | {"move_clears", "move_forgets"}
    assert tried == {rule.name for rule in RULES}


@pytest.mark.parametrize("statement", ALLOWED)
def test_what_no_rule_forbids_goes_through(connection: psycopg.Connection, statement: str) -> None:
    assert connection.execute(statement).rowcount > 0
    connection.execute("set constraints all immediate")


def test_where_rows_must_differ_the_sentence_ends_with_what_is_there(
    connection: psycopg.Connection,
) -> None:
    told = refused(connection, set_in("release", "status = 'success'", 5))
    assert told.status == 409
    assert told.sentence.endswith("(release belongs_to__application, commit: 1, aaaaaaa)")


def test_many_rows_are_counted_and_the_first_are_named(connection: psycopg.Connection) -> None:
    connection.execute("insert into actor (id) select generate_series(101, 130)")
    connection.execute(
        f"{DEVICE[: -len(' values')]} select id, id, lpad(id::text, 32, '0'), 'x', 1, 1,"
        f" {type_of('raspberrypi4-64')}, 3 from generate_series(101, 130) as id"
    )
    told = refused(connection, "update release set status = 'failed' where id = 3")
    # The triggers of one table go by their names: this rule is before the target's.
    assert (told.rule.name, told.ids, told.count) == ("pin_fits", tuple(range(101, 121)), 30)
    assert told.sentence.endswith("119, 120 and 10 more)")


def test_a_move_clears_what_does_not_fit_and_forgets_what_was_installed(
    connection: psycopg.Connection,
) -> None:
    connection.execute("update device set belongs_to__application = 2")
    rows = connection.execute("select is_pinned_on__release, is_running__release from device")
    assert rows.fetchall() == [(None, None), (None, None)]
    for table in ("service_install", "image_install"):
        assert connection.execute(f"select from {table}").rowcount == 0


def test_a_change_that_is_no_move_clears_and_forgets_nothing(
    connection: psycopg.Connection,
) -> None:
    connection.execute("update device set belongs_to__application = 1, device_name = 'other'")
    rows = connection.execute(
        "select is_pinned_on__release, is_running__release from device order by id"
    )
    assert rows.fetchall() == [(1, None), (None, 3)]
    assert connection.execute("select from service_install").rowcount == 3
    assert connection.execute("select from image_install").rowcount == 1


def test_changes_over_an_old_snapshot_are_refused(world: str) -> None:
    with psycopg.connect(world) as opened:
        opened.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="read committed"):
            opened.execute("update device set is_pinned_on__release = 3")
        opened.rollback()
        # What no rule speaks of is nobody's concern.
        assert opened.execute("update device set note = 'x'").rowcount == 2
        opened.rollback()


def test_tables_of_one_s_own_deceive_no_rule(connection: psycopg.Connection) -> None:
    connection.execute("create temp table release as select * from public.release")
    connection.execute("update pg_temp.release set status = 'success'")
    told = refused(connection, set_in("device", "is_pinned_on__release = 2"))
    assert (told.rule.name, told.ids) == ("pin_fits", (1,))


def test_a_foreign_key_that_backs_a_rule_is_told_as_the_rule(
    connection: psycopg.Connection,
) -> None:
    connection.execute("alter table device disable trigger rule_pin_fits_device_update")
    connection.execute(set_in("device", "is_pinned_on__release = 4"))
    told = refused(connection, "set constraints all immediate")
    assert (told.rule.name, told.resource, told.ids) == ("pin_fits", "device", ())
    assert told.sentence == f"{told.rule.sentence} (device)"


def test_an_error_that_is_no_rule_s_is_not_told_as_one(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute(set_in("device", "uuid = lpad('2', 32, '0')"))
    assert broken(caught.value) is None
    assert broken(ValueError("other")) is None
    assert broken(None) is None


PAIRS = [
    (
        "pin_fits",
        set_in("device", "is_pinned_on__release = 3", 2),
        set_in("release", "status = 'failed'", 3),
    ),
    (
        "device_type_fits",
        f"{DEVICE} (9, 9, repeat('9', 32), 'x', 1, 2, {type_of('raspberrypi4-64')}, null)",
        set_in("application", f"is_for__device_type = {NUC}", 2),
    ),
    (
        "target_fits",
        *[set_in("application", "should_be_running__release = 4", 2)],
        set_in("release", "status = 'failed'", 4),
    ),
    ("one_image_a_service", f"{PART} (8, 3, 1)", f"{PART} (9, 3, 3)"),
    (
        "one_image_a_service",
        f"{PART} (8, 3, 1), (9, 3, 5)",
        set_in("image", "is_a_build_of__service = 1", 5),
    ),
    ("one_actor", set_in('"user"', "actor = 20"), set_in("device", "actor = 20")),
    (
        "installed_service_fits",
        "insert into service_install (id, device, installs__service) values (9, 2, 5)",
        set_in("service", "application = 2", 5),
    ),
    (
        "success_once",
        set_in("release", "status = 'success', commit = 'ddddddd'", 2),
        set_in("release", "status = 'success', commit = 'ddddddd'", 5),
    ),
]


def waits(url: str, pid: int, thread: threading.Thread) -> None:
    """Until this connection waits for another's lock."""
    blocked = "select cardinality(pg_blocking_pids(%s)) > 0"
    deadline = time.monotonic() + 60
    with psycopg.connect(url, autocommit=True) as watcher:
        while watcher.execute(blocked, [pid]).fetchone() != (True,):
            assert thread.is_alive(), "it went through without waiting"
            assert time.monotonic() < deadline, "it neither waited nor ended"
            time.sleep(0.02)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("name", "one", "other"), PAIRS)
def test_two_changes_at_once_do_not_break_a_rule_together(
    own_world: str, name: str, one: str, other: str, turned: bool
) -> None:
    # Only the pair itself is at stake.
    with psycopg.connect(own_world) as connection:
        connection.execute("update application set should_be_running__release = null")
    statements = (other, one) if turned else (one, other)
    errors: list[psycopg.Error] = []

    def second(connection: psycopg.Connection) -> None:
        try:
            connection.execute(statements[1])
        except psycopg.Error as error:
            errors.append(error)

    with psycopg.connect(own_world) as first, psycopg.connect(own_world) as late:
        first.execute(statements[0])
        thread = threading.Thread(target=second, args=[late])
        thread.start()
        waits(own_world, late.info.backend_pid, thread)
        first.commit()
        thread.join(60)
        assert len(errors) == 1
        told = broken(errors[0])
        assert told is not None, errors[0]
        assert told.rule.name == name


def catalog(url: str) -> dict[str, list[tuple[str, ...]]]:
    """What the database holds of constraints, indexes, and the rules' triggers and functions."""
    queries = {
        "constraints": "select conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
        " from pg_constraint where connamespace = 'public'::regnamespace order by 1, 2",
        "indexes": "select tablename, indexname, indexdef from pg_indexes"
        " where schemaname = 'public' and tablename <> 'alembic_version' order by 1, 2",
        "triggers": "select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)"
        " from pg_trigger where not tgisinternal and tgname !~ '^(announce|discarded)'"
        " order by 1, 2",
        "functions": "select proname, prosrc from pg_proc where proname like 'rule%' order by 1",
    }
    with psycopg.connect(url) as connection:
        found = {name: connection.execute(query).fetchall() for name, query in queries.items()}
    kept = [row for row in found["constraints"] if row[0] != "alembic_version"]
    return {**found, "constraints": kept}


def test_the_migrations_make_what_the_declarations_say(world: str, database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        METADATA.create_all(connection)
        connection.exec_driver_sql(sql.find() + sql.create())
    engine.dispose()
    declared, migrated = catalog(database_url), catalog(world)
    assert declared == migrated
    assert all(migrated.values())


def test_rows_that_break_rules_are_named_before_anything_is_changed(database_url: str) -> None:
    fill(database_url, "0002")
    with psycopg.connect(database_url) as connection:
        connection.execute("update device set is_pinned_on__release = 2 where id = 1")
        connection.execute(f"update device set is_of__device_type = {NUC}")
        connection.execute(f"{PART} (9, 1, 3)")
        connection.execute(
            "update device_environment_variable set value = repeat('x', 100001) where id = 1"
        )
    before = catalog(database_url)
    with pytest.raises(IntegrityError) as caught:
        migrate(database_url)
    said = str(caught.value.orig)
    assert said.splitlines()[0] == (
        "rows break rules; correct them, then start again: device_type_fits: device 1, 2; "
        "pin_fits: device 1; one_image_a_service: release_image 1, 9; "
        "variable_value: device_environment_variable 1"
    )
    assert catalog(database_url) == before
    with psycopg.connect(database_url) as connection:
        connection.execute("update device set is_pinned_on__release = null")
        connection.execute(f"update device set is_of__device_type = {type_of('raspberrypi4-64')}")
        connection.execute("delete from release_image where id = 9")
        connection.execute("update device_environment_variable set value = '1'")
    migrate(database_url)
    after = catalog(database_url)
    while revision_of(database_url) != WORLD_REVISION:
        migrate(database_url, "-1")
    assert catalog(database_url) == before
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select id from device order by id").fetchall() == [(1,), (2,)]
        # Without the rules it goes through again.
        connection.execute(f"update device set is_of__device_type = {NUC}")
        connection.rollback()
    migrate(database_url)
    assert catalog(database_url) == after


def test_the_api_answers_with_the_sentence_and_the_rows(
    fleet: Fleet, make_fleet: Callable[[], Fleet]
) -> None:
    devices = sorted(fleet.register().id for _ in range(3))
    failed = fleet.start_release()
    fleet.finish_release(failed, "failed")
    answer = fleet.user.patch(
        "/v7/device?$filter=id gt 0", json={"is_pinned_on__release": failed["release_id"]}
    )
    assert answer.status_code == 400
    (rule,) = (each for each in RULES if each.name == "pin_fits")
    listed = ", ".join(str(each) for each in devices)
    assert answer.json() == {
        "error": f"{rule.sentence} (device {listed})",
        "rule": "pin_fits",
        "resource": "device",
        "ids": devices,
        "count": 3,
    }
    foreign = make_fleet().release()["release_id"]
    change = {"should_be_running__release": foreign}
    answer = fleet.user.patch(f"/v7/application({fleet.id})", json=change)
    assert (answer.status_code, answer.json()["rule"]) == (400, "target_fits")
    assert answer.json()["ids"] == [fleet.id]


def test_a_move_by_the_api_goes_by_the_rules(fleet: Fleet) -> None:
    def other(kind: str, name: str) -> int:
        body = {"app_name": name, "is_for__device_type": kind}
        made: int = fleet.user.post("/v7/application", json=body).json()["id"]
        return made

    device = fleet.register()
    release = fleet.release()["release_id"]
    pin = {"is_pinned_on__release": release}
    assert fleet.user.patch(f"/v7/device({device.id})", json=pin).is_success
    wrong = {"belongs_to__application": other("intel-nuc", "elsewhere")}
    answer = fleet.user.patch(f"/v7/device({device.id})", json=wrong)
    assert (answer.status_code, answer.json()["rule"]) == (400, "device_type_fits")
    assert answer.json()["ids"] == [device.id]
    right = {"belongs_to__application": other("raspberrypi3", "nearby")}
    assert fleet.user.patch(f"/v7/device({device.id})", json=right).is_success
    row = fleet.user.get(f"/v7/device({device.id})").json()["d"][0]
    assert row["is_pinned_on__release"] is None
    assert row["belongs_to__application"]["__id"] == right["belongs_to__application"]
    assert fleet.user.get(f"/v7/service_install?$filter=device eq {device.id}").json()["d"] == []
