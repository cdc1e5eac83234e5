"""What must exist after start: tables, device types, the first account and its fleet."""

import logging
import re

from sqlalchemy.orm import Session

from gantry.api.config import Config
from gantry.api.database import Database
from gantry.api.errors import BadRequestError
from gantry.api.models import User
from gantry.api.models.accounts import USERNAME_PATTERN
from gantry.api.queries import accounts, applications, organizations
from gantry.api.services import applications as application_service
from gantry.api.services import organizations as organization_service
from gantry.api.services import reserved_names
from gantry.api.services.secrets import check_password, hash_password, password_matches

log = logging.getLogger(__name__)

_USERNAME = re.compile(USERNAME_PATTERN)


def prepare(database: Database, config: Config) -> None:
    """Migrate, then make what must exist; one replica at a time, the others find it done."""
    with database.locked() as connection:
        database.migrate(connection)
        with database.transaction() as session:
            applications.seed_device_types(session)
            admin = ensure_admin(session, config)
            _ensure_fleet(session, config, admin)


def ensure_admin(session: Session, config: Config) -> User:
    """The account of the configuration, with the configuration's password."""
    password = config.admin_password.get_secret_value()
    admin = accounts.user_by_name(session, config.admin_username)
    if admin is None:
        admin = create_user(session, config.admin_username, password, administrator=True)
        log.info("account made: %s", admin.username)
    elif not password_matches(admin.password_hash, password):
        accounts.set_password(session, admin.id, hash_password(password))
        log.info("password changed by the configuration: %s", admin.username)
    admin.is_administrator = True
    return admin


def _ensure_fleet(session: Session, config: Config, admin: User) -> None:
    slug = application_service.slug_of(admin.username, config.fleet)
    if applications.application_by_slug(session, slug) is None:
        own = organizations.organization_by_handle(session, admin.username)
        if own is None:  # made with the account
            raise RuntimeError(f"the account {admin.username} has no organization")
        application_service.create(session, admin, own, config.fleet, config.device_type)
        log.info("application made: %s", slug)


def create_user(
    session: Session,
    username: str,
    password: str,
    *,
    email: str | None = None,
    administrator: bool = False,
) -> User:
    """A new account, with an organization of its own under the same name.

    Raises:
        BadRequestError: a name that is not valid or reserved, or a password under 8 characters.
        ConflictError: an organization has the name already.
    """
    check_username(username)
    check_password(password)
    user = User(
        actor=accounts.new_actor(session),
        username=username,
        email=email,
        password_hash=hash_password(password),
        is_administrator=administrator,
    )
    session.add(user)
    session.flush()
    organization_service.create(session, user, username, username)
    return user


def check_username(username: str) -> None:
    """Raise BadRequestError for a name that no account may have."""
    if not _USERNAME.fullmatch(username):
        raise BadRequestError(
            f"the user name {username[:40]!r} is not valid: use 2 to 31 lower-case letters, "
            "digits, - and _, beginning with a letter"
        )
    if reserved_names.is_reserved(username):
        raise BadRequestError(f"the user name {username!r} is reserved")
