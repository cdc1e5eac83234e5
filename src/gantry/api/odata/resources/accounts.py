"""Users, organizations, keys, and who changed what."""

from gantry.api.models import (
    Actor,
    ApiKey,
    AuditEntry,
    Organization,
    OrganizationMembership,
    OrganizationMembershipRole,
    PublicKey,
    User,
)
from gantry.api.odata.schema import Navigation, Resource, referred_by, refers
from gantry.api.queries import visibility

RESOURCES = (
    Resource(
        "actor",
        Actor,
        visibility.actor,
        navigations={
            "is_of__user": Navigation("user", referred_by("actor"), is_single=True),
            "is_of__application": Navigation("application", referred_by("actor"), is_single=True),
            "is_of__device": Navigation("device", referred_by("actor"), is_single=True),
            "api_key": Navigation("api_key", referred_by("is_of__actor")),
        },
    ),
    Resource(
        "user",
        User,
        visibility.user,
        hidden=frozenset({"password_hash", "session_epoch"}),
        natural_keys=(frozenset({"username"}),),
        navigations={
            "actor": Navigation("actor", refers("actor")),
            "owns__application": Navigation("application", referred_by("belongs_to__user")),
            "has_direct_access_to__application": Navigation(
                "application",
                lambda row, other: visibility.of_members(other.organization, row.id),
            ),
            "organization_membership": Navigation("organization_membership", referred_by("user")),
            "user__has__public_key": Navigation("user__has__public_key", referred_by("user")),
        },
    ),
    Resource(
        "user__has__public_key",
        PublicKey,
        visibility.public_key,
        natural_keys=(frozenset({"user", "fingerprint"}),),
        navigations={"user": Navigation("user", refers("user"))},
    ),
    Resource(
        "api_key",
        ApiKey,
        visibility.api_key,
        hidden=frozenset({"key_hash"}),
        navigations={"is_of__actor": Navigation("actor", refers("is_of__actor"))},
    ),
    Resource(
        "organization",
        Organization,
        visibility.organization,
        changeable=visibility.own_organization,
        natural_keys=(frozenset({"handle"}),),
        navigations={
            "application": Navigation("application", referred_by("organization")),
            "owns__application": Navigation("application", referred_by("organization")),
            "organization_membership": Navigation(
                "organization_membership", referred_by("is_member_of__organization")
            ),
        },
    ),
    Resource(
        "organization_membership_role",
        OrganizationMembershipRole,
        visibility.everyone,
        natural_keys=(frozenset({"name"}),),
    ),
    Resource(
        "organization_membership",
        OrganizationMembership,
        visibility.membership,
        natural_keys=(frozenset({"user", "is_member_of__organization"}),),
        navigations={
            "user": Navigation("user", refers("user")),
            "is_member_of__organization": Navigation(
                "organization", refers("is_member_of__organization")
            ),
            "organization_membership_role": Navigation(
                "organization_membership_role", refers("organization_membership_role")
            ),
        },
    ),
    Resource(
        "audit_entry",
        AuditEntry,
        visibility.audit_entry,
        navigations={
            "organization": Navigation("organization", refers("organization")),
            "actor": Navigation("actor", refers("actor")),
        },
    ),
)
