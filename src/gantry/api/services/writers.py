"""What each resource of the model takes: accounts and applications here."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, StringConstraints
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from gantry.api.models import (
    ApiKey,
    Application,
    Organization,
    PublicKey,
    User,
)
from gantry.api.queries import accounts, applications, organizations, records, releases
from gantry.api.services import applications as application_service
from gantry.api.services import ports, ssh_keys, tags, variable_writers
from gantry.api.services.actions import DEVICE_ACTION
from gantry.api.services.assets import RELEASE_ASSET
from gantry.api.services.bootstrap import create_user
from gantry.api.services.fleet_writers import DEVICE, RELEASE
from gantry.api.services.organizations import MEMBERSHIP, ORGANIZATION, of_user
from gantry.api.services.records import Body, Reference, Writer

Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255)]


class NewUser(Body):
    """A new account; only the administrator makes them."""

    username: str
    password: str
    email: Line | None = None


class ChangedUser(Body):
    """One's own account."""

    email: Line | None = None
    password: str | None = None


def _create_user(session: Session, actor: UserActor, body: NewUser) -> int:
    if not actor.is_administrator:
        raise ForbiddenError("only the administrator makes accounts")
    if accounts.user_by_name(session, body.username) is not None:
        raise ConflictError(f"the account {body.username!r} exists already")
    return create_user(session, body.username, body.password, email=body.email).id


def _update_user(session: Session, actor: UserActor, ids: Sequence[int], body: ChangedUser) -> None:
    if list(ids) != [actor.user_id]:
        raise ForbiddenError("an account is changed by its user only")
    if body.password is not None:
        raise ForbiddenError(
            "a password is changed with the old one: POST /user/v1/change-password"
        )
    if "email" in body.sent():
        records.by_id(session, User, actor.user_id).email = body.email


class NewPublicKey(Body):
    """One line of a `.pub` file, and what to call it."""

    public_key: Annotated[str, StringConstraints(max_length=16_384)]
    title: Line | None = None
    user: Reference | None = None


def _create_public_key(session: Session, actor: UserActor, body: NewPublicKey) -> int:
    if body.user not in (None, actor.user_id):
        raise NotFoundError(f"there is no user {body.user}")
    key = ssh_keys.parse(body.public_key)
    known = accounts.public_key_by_fingerprint(session, actor.user_id, key.fingerprint)
    if known is not None:
        raise ConflictError(
            f"this SSH key ({key.fingerprint}) is in your account already, as {known.title!r}"
        )
    title = body.title or key.comment or key.fingerprint
    if not title.isprintable():
        raise BadRequestError("the title holds characters that cannot be printed")
    return records.add(
        session,
        PublicKey(
            user=actor.user_id, title=title, public_key=key.line, fingerprint=key.fingerprint
        ),
    )


def _delete_public_keys(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    records.delete(session, PublicKey, ids)


class ChangedApiKey(Body):
    """What a key is called, and until when it holds."""

    name: Line | None = None
    description: Line | None = None
    expiry_date: datetime | None = None


def _update_api_keys(
    session: Session, actor: UserActor, ids: Sequence[int], body: ChangedApiKey
) -> None:
    if actor.by_key and "expiry_date" in body.sent():
        times = {records.by_id(session, ApiKey, each).expiry_date for each in ids}
        if not times <= {body.expiry_date}:
            raise ForbiddenError("an API key does not change until when keys hold: log in")
    records.change(session, ApiKey, ids, body.sent())


def _delete_api_keys(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    records.delete(session, ApiKey, ids)


def _type_or_id(value: object) -> object:
    return value["__id"] if isinstance(value, dict) and value.keys() == {"__id"} else value


ApplicationClass = Literal["fleet", "block", "app"]


class NewApplication(Body):
    """A new fleet; `is_for__device_type` is an id or a slug.

    Without `organization` it is the user's own organization's.
    """

    app_name: str
    is_for__device_type: Annotated[int | str, BeforeValidator(_type_or_id)]
    organization: Reference | None = None
    application_type: Reference | None = None
    is_of__class: ApplicationClass = "fleet"


class ChangedApplication(Body):
    """A fleet's name, target, and what else people say of it."""

    app_name: str | None = None
    is_of__class: ApplicationClass | None = None
    is_public: bool | None = None
    is_archived: bool | None = None
    is_discoverable: bool | None = None
    is_stored_at__repository_url: Line | None = None
    is_accessible_by_support_until__date: datetime | None = None
    should_track_latest_release: bool | None = None
    should_be_running__release: Reference | None = None
    reachable_ports: ports.Ports | None = None


def _create_application(session: Session, actor: UserActor, body: NewApplication) -> int:
    owner = accounts.user_by_id(session, actor.user_id)
    if owner is None:
        raise NotFoundError("this account is gone")
    kind = body.is_for__device_type
    if isinstance(kind, int):
        found = applications.device_type_by_id(session, kind)
        if found is None:
            raise BadRequestError(f"there is no device type {kind}")
        kind = found.slug
    organization = _organization(session, owner, body.organization)
    made = application_service.create(session, owner, organization, body.app_name, kind)
    made.is_of__class = body.is_of__class
    session.flush()
    return made.id


def _organization(session: Session, owner: User, organization_id: int | None) -> Organization:
    if organization_id is not None:
        return of_user(session, owner.id, organization_id)
    own = organizations.organization_by_handle(session, owner.username)
    if own is None:
        raise BadRequestError("say which organization the application belongs to: `organization`")
    return own


# Set as they are sent; the others mean more than themselves.
_PLAIN = frozenset(
    {
        "is_of__class",
        "is_public",
        "is_archived",
        "is_discoverable",
        "is_stored_at__repository_url",
        "is_accessible_by_support_until__date",
        "reachable_ports",
    }
)
# These have no null.
_FLAGS = frozenset({"is_of__class", "is_public", "is_archived", "is_discoverable"})


def _update_applications(
    session: Session, actor: UserActor, ids: Sequence[int], body: ChangedApplication
) -> None:
    sent = body.sent()
    for each in ids:
        application = applications.application_by_id(session, each, lock=True)
        if application is None:
            continue
        if "reachable_ports" in sent:
            ports.check_may_say(session, actor.user_id, application)
        if body.app_name is not None:
            _rename(session, application, body.app_name)
        for name in sent.keys() & _PLAIN:
            if sent[name] is not None or name not in _FLAGS:
                setattr(application, name, sent[name])
        if body.should_track_latest_release is not None:
            application.should_track_latest_release = body.should_track_latest_release
        if "should_be_running__release" in sent:
            application.should_be_running__release = body.should_be_running__release
        elif body.should_track_latest_release:
            application.should_be_running__release = releases.newest_success(
                session, application.id
            )
        session.flush()


def _rename(session: Session, application: Application, name: str) -> None:
    application_service.check_name(name)
    owner = records.by_id(session, Organization, application.organization)
    slug = application_service.slug_of(owner.handle, name)
    other = applications.application_by_slug(session, slug)
    if other is not None and other.id != application.id:
        raise ConflictError(f"the application {slug} exists already")
    application.app_name, application.slug = name, slug


def _delete_applications(session: Session, _: UserActor, ids: Sequence[int]) -> None:
    records.delete_with_actors(session, Application, ids)


WRITERS: Mapping[str, Writer] = {
    "user": Writer((NewUser, _create_user), (ChangedUser, _update_user)),
    "user__has__public_key": Writer((NewPublicKey, _create_public_key), None, _delete_public_keys),
    "api_key": Writer(None, (ChangedApiKey, _update_api_keys), _delete_api_keys),
    "application": Writer(
        (NewApplication, _create_application),
        (ChangedApplication, _update_applications),
        _delete_applications,
    ),
    "device": DEVICE,
    "device_action": DEVICE_ACTION,
    "release": RELEASE,
    "release_asset": RELEASE_ASSET,
    "organization": ORGANIZATION,
    "organization_membership": MEMBERSHIP,
    **tags.WRITERS,
    **variable_writers.WRITERS,
}
