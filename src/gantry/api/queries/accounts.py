"""Users, their second factors and their keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gantry.api.models import (
    Actor,
    ApiKey,
    Application,
    KeyRole,
    OrganizationMembership,
    PublicKey,
    SecondFactor,
    User,
)


def user_by_name(session: Session, username: str) -> User | None:
    """The user of this name."""
    return session.scalar(select(User).where(User.username == username))


def user_by_id(session: Session, user_id: int) -> User | None:
    """The user of this id."""
    return session.get(User, user_id)


def usernames(session: Session) -> list[str]:
    """All login names, in order."""
    return list(session.scalars(select(User.username).order_by(User.username)))


def new_actor(session: Session) -> int:
    """A new actor's id."""
    actor = Actor()
    session.add(actor)
    session.flush()
    return actor.id


def valid_key(session: Session, key_hash: str) -> ApiKey | None:
    """The API key of this hash, unless its time is over."""
    return session.scalar(
        select(ApiKey).where(
            ApiKey.key_hash == key_hash,
            ApiKey.expiry_date.is_(None) | (ApiKey.expiry_date > func.now()),
        )
    )


_KEY_HOLDER = text("""
select
    k.id, k.role, k.is_of__actor, k.expiry_date,
    u.id, u.username, u.email, u.is_administrator, d.id, d.uuid, d.belongs_to__application, a.id
from api_key k
left join "user" u on k.role = 'user' and u.actor = k.is_of__actor
left join device d on k.role = 'device' and d.actor = k.is_of__actor and d.is_active
left join application a on k.role = 'provisioning' and a.actor = k.is_of__actor
where k.key_hash = :hash and (k.expiry_date is null or k.expiry_date > now())
""")


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """A key that holds, and who acts by it: a user, an active device or an application."""

    key_id: int
    role: KeyRole
    actor_id: int
    expiry_date: datetime | None
    user: tuple[int, str, str | None, bool] | None
    device: tuple[int, str, int] | None
    application_id: int | None


def key_holder(session: Session, key_hash: str) -> KeyHolder | None:
    """Who holds the API key of this hash: one statement of few columns, for each request asks."""
    row = session.execute(_KEY_HOLDER, {"hash": key_hash}).one_or_none()
    if row is None:
        return None
    user, device = tuple(row[4:8]), tuple(row[8:11])
    return KeyHolder(
        row[0],
        KeyRole(row[1]),
        row[2],
        row[3],
        None if user[0] is None else user,
        None if device[0] is None else device,
        row[11],
    )


def public_keys(session: Session, username: str) -> list[PublicKey]:
    """The SSH keys of a user, the oldest first."""
    return list(
        session.scalars(
            select(PublicKey)
            .join(User, User.id == PublicKey.user)
            .where(User.username == username)
            .order_by(PublicKey.id)
        )
    )


def public_key_by_fingerprint(session: Session, user_id: int, fingerprint: str) -> PublicKey | None:
    """A user's SSH key of this fingerprint."""
    return session.scalar(
        select(PublicKey).where(PublicKey.user == user_id, PublicKey.fingerprint == fingerprint)
    )


def public_keys_of_members(
    session: Session, application_id: int, fingerprint: str
) -> list[tuple[PublicKey, User]]:
    """The SSH keys of this fingerprint, each with its user, of the members of an application's
    organization; the oldest first, where several have it."""
    found = session.execute(
        select(PublicKey, User)
        .join(User, User.id == PublicKey.user)
        .join(OrganizationMembership, OrganizationMembership.user == User.id)
        .join(
            Application,
            Application.organization == OrganizationMembership.is_member_of__organization,
        )
        .where(Application.id == application_id, PublicKey.fingerprint == fingerprint)
        .order_by(PublicKey.id)
    )
    return [each._tuple() for each in found]


def set_password(session: Session, user_id: int, password_hash: str) -> None:
    """Store a new password, which ends the user's sessions."""
    session.execute(
        update(User)
        .where(User.id == user_id)
        .values(password_hash=password_hash, session_epoch=User.session_epoch + 1)
    )


def replace_hash(session: Session, user_id: int, old: str, new: str) -> None:
    """Store the same password under other parameters, unless it has changed meanwhile."""
    session.execute(
        update(User).where(User.id == user_id, User.password_hash == old).values(password_hash=new)
    )


def end_sessions(session: Session, user_id: int) -> None:
    """Have no session token of the user hold any more."""
    session.execute(
        update(User).where(User.id == user_id).values(session_epoch=User.session_epoch + 1)
    )


def user_and_factor(session: Session, user_id: int) -> tuple[User, bool] | None:
    """A user as they are now, and whether they have a second factor."""
    found = session.execute(
        select(User, SecondFactor.enabled_at.is_not(None))
        .outerjoin(SecondFactor, SecondFactor.user == User.id)
        .where(User.id == user_id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    return None if found is None else found._tuple()


def second_factor(session: Session, user_id: int) -> SecondFactor | None:
    """A user's second factor, held until the transaction ends: a code is taken once."""
    return session.scalar(
        select(SecondFactor).where(SecondFactor.user == user_id).with_for_update()
    )


def set_up_second_factor(session: Session, user_id: int, sealed_secret: str) -> bool:
    """Keep a secret that a first code must confirm; False: there is a confirmed one."""
    row = insert(SecondFactor).values(user=user_id, sealed_secret=sealed_secret)
    kept = row.on_conflict_do_update(
        index_elements=["user"],
        set_={"sealed_secret": sealed_secret, "last_step": 0},
        where=SecondFactor.enabled_at.is_(None),
    )
    return session.execute(kept.returning(SecondFactor.user)).first() is not None


def remove_second_factor(session: Session, user_id: int) -> bool:
    """Ask the user for their password alone; False: so it was."""
    gone = delete(SecondFactor).where(
        SecondFactor.user == user_id, SecondFactor.enabled_at.is_not(None)
    )
    return session.execute(gone.returning(SecondFactor.user)).first() is not None
