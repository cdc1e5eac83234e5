"""A fleet's certificate authority and the certificates that it issues."""

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from gantry.deployment.certificates import (
    KeyPair,
    days_left,
    issue,
    make_authority,
    renew_authority,
)
from gantry.deployment.resources.kept import kept_in

AUTHORITY_FILE = "certificate-authority.pem"
# A certificate that has less time left is issued anew by the next `up`.
RENEW_DAYS = 275
# The authority's own: devices have so long to be given the new one, and no leaf outlives it.
AUTHORITY_RENEW_DAYS = 1095
CERTIFICATE_BEGIN = "-----BEGIN CERTIFICATE-----"


class CertificateAuthorityProvider(ResourceProvider):
    """Makes an authority once, and adopts it from the fleet's volume ever after.

    Its key and its name never change; its certificate is renewed long before it ends.
    """

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Adopt the volume's authority, else make one and keep it there.

        Raises:
            KeptError: the volume could not be read or written.
        """
        return CreateResult(str(props["common_name"]), self._adopted(props))

    def diff(self, _id: str, olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Devices trust this one authority: no setting makes another, only its time runs out."""
        return DiffResult(changes=days_left(str(olds["certificate_pem"])) < AUTHORITY_RENEW_DAYS)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Renew its certificate.

        Raises:
            KeptError: the volume could not be read or written.
        """
        return UpdateResult(self._adopted(news))

    @staticmethod
    def _adopted(props: dict[str, Any]) -> dict[str, Any]:
        with kept_in(str(props["volume"])) as kept:
            text = kept.read(AUTHORITY_FILE)
            found = _pair(text) if text else make_authority(str(props["common_name"]))
            if days_left(found.certificate_pem) < AUTHORITY_RENEW_DAYS:
                found = renew_authority(found)
            if (now := found.key_pem + found.certificate_pem) != text:
                kept.write(AUTHORITY_FILE, now)
        return {**props, "key_pem": found.key_pem, "certificate_pem": found.certificate_pem}


def _pair(text: str) -> KeyPair:
    key_pem, begin, rest = text.partition(CERTIFICATE_BEGIN)
    return KeyPair(key_pem, begin + rest)


class CertificateProvider(ResourceProvider):
    """Issues a certificate; issues it anew when its names change or its time runs out."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Issue it.

        Raises:
            ValueError: the authority's key or certificate is not one.
        """
        return CreateResult(str(props["common_name"]), self._issued(props))

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Whether it must be issued anew; this happens in place."""
        inputs = ("common_name", "dns_names", "authority_certificate_pem")
        changed = any(olds.get(each) != news.get(each) for each in inputs)
        expires = days_left(str(olds["certificate_pem"])) < RENEW_DAYS
        return DiffResult(changes=changed or expires)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Issue it anew, with a new key.

        Raises:
            ValueError: the authority's key or certificate is not one.
        """
        return UpdateResult(self._issued(news))

    @staticmethod
    def _issued(props: dict[str, Any]) -> dict[str, Any]:
        authority = KeyPair(
            str(props["authority_key_pem"]), str(props["authority_certificate_pem"])
        )
        names = [str(each) for each in props["dns_names"]]
        pair = issue(authority, str(props["common_name"]), dns_names=names)
        return {**props, "key_pem": pair.key_pem, "certificate_pem": pair.certificate_pem}


class CertificateAuthority(Resource, module="gantry", name="CertificateAuthority"):
    """A fleet's authority; `key_pem` is secret."""

    key_pem: pulumi.Output[str]
    certificate_pem: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        common_name: str,
        volume: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["key_pem"])
        props = {
            "common_name": common_name,
            "volume": volume,
            "key_pem": None,
            "certificate_pem": None,
        }
        super().__init__(
            CertificateAuthorityProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret)
        )


class Certificate(Resource, module="gantry", name="Certificate"):
    """A certificate of the fleet's authority; `key_pem` is secret."""

    key_pem: pulumi.Output[str]
    certificate_pem: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        authority: CertificateAuthority,
        common_name: str,
        dns_names: Sequence[str] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["key_pem", "authority_key_pem"])
        props = {
            "common_name": common_name,
            "dns_names": list(dns_names),
            "authority_key_pem": authority.key_pem,
            "authority_certificate_pem": authority.certificate_pem,
            "key_pem": None,
            "certificate_pem": None,
        }
        super().__init__(
            CertificateProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret)
        )
