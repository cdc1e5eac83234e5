"""X.509 certificates and SSH keys of a fleet: plain functions, PEM in and PEM out.

A fleet has an authority of its own (RFC 5280); devices trust it by its certificate in config.json.
Keys are EC P-256, which every TLS library of the last decade speaks, in PKCS#8. SSH keys are
Ed25519, in OpenSSH's own form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
# Apple's platforms take no server certificate that is valid for longer than 825 days, whoever
# signed it (https://support.apple.com/en-us/103769).
LEAF_DAYS = 825
# Clocks of devices that have just booted may be behind.
BACKDATE = timedelta(hours=24)
# RFC 5280, appendix A.1: ub-common-name.
COMMON_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key (PKCS#8 PEM) and the certificate (PEM) that was issued for it."""

    key_pem: str
    certificate_pem: str


@dataclass(frozen=True, slots=True)
class SshKeyPair:
    """A private key in OpenSSH's PEM form, and its public key as one `known_hosts` value."""

    private_pem: str
    public: str


def make_authority(common_name: str, *, now: datetime | None = None) -> KeyPair:
    """A self-signed authority that may sign leaves, and no further authority."""
    return _self_signed(ec.generate_private_key(ec.SECP256R1()), _name(common_name), now)


def renew_authority(authority: KeyPair, *, now: datetime | None = None) -> KeyPair:
    """The same authority with a later end: its key and its name stay.

    What it signs is trusted by those who have the old certificate, until that ends, and by those
    who have the new one.

    Raises:
        ValueError: `authority` is not PEM, or its key is not an EC key.
    """
    certificate = x509.load_pem_x509_certificate(authority.certificate_pem.encode())
    return _self_signed(_key_of(authority), certificate.subject, now)


def _self_signed(key: ec.EllipticCurvePrivateKey, name: x509.Name, now: datetime | None) -> KeyPair:
    certificate = (
        _dated(x509.CertificateBuilder(), AUTHORITY_DAYS, now)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(key, certificate)


def issue(
    authority: KeyPair,
    common_name: str,
    *,
    dns_names: Sequence[str] = (),
    days: int = LEAF_DAYS,
    now: datetime | None = None,
) -> KeyPair:
    """A new key with a certificate signed by `authority`.

    With `dns_names` it is a server's certificate; without, one that only signs (tokens).

    Raises:
        ValueError: `authority` is not PEM, or its key is not an EC key.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem.encode())
    issuer_key = _key_of(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _dated(x509.CertificateBuilder(), days, now)
        .subject_name(_name(common_name))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if dns_names:
        names = x509.SubjectAlternativeName([x509.DNSName(each) for each in dns_names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
    return _pair(key, builder.sign(issuer_key, hashes.SHA256()))


def days_left(certificate_pem: str, now: datetime | None = None) -> float:
    """How many days the certificate is still valid; negative when it has expired.

    Raises:
        ValueError: not a PEM certificate.
    """
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))) / timedelta(days=1)


def end_of(certificate_pem: str) -> str:
    """When the certificate ends: ISO 8601, UTC, to the second.

    Raises:
        ValueError: not a PEM certificate.
    """
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.not_valid_after_utc.isoformat(timespec="seconds")


def make_ssh_key() -> SshKeyPair:
    """An Ed25519 key for an SSH server."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return SshKeyPair(private.decode(), _ssh_public(key))


def ssh_key_from_private(private_pem: str) -> SshKeyPair:
    """The pair that this private key belongs to.

    Raises:
        ValueError: not an OpenSSH private key, or not an Ed25519 one.
    """
    key = serialization.load_ssh_private_key(private_pem.encode(), password=None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"the SSH host key is {type(key).__name__}, not an Ed25519 key")
    return SshKeyPair(private_pem, _ssh_public(key))


def _ssh_public(key: ed25519.Ed25519PrivateKey) -> str:
    encoded = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return encoded.decode()


def _key_of(authority: KeyPair) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(authority.key_pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"the authority's key is {type(key).__name__}, not an EC key")
    return key


def _name(common_name: str) -> x509.Name:
    # Clients read the names of a server from its SANs; what is cut off here is for people only.
    text = common_name[:COMMON_NAME_LENGTH]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _dated(
    builder: x509.CertificateBuilder, days: int, now: datetime | None
) -> x509.CertificateBuilder:
    begin = now or datetime.now(UTC)
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(begin - BACKDATE)
        .not_valid_after(begin - BACKDATE + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> KeyPair:
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return KeyPair(key_pem.decode(), pem.decode())
