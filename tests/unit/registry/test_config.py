import yaml

from gantry.contracts.storage import S3Storage
from gantry.registry.config import TokenAuth, registry_config

AUTH = TokenAuth(
    realm="https://api.bots.example.org/auth/v1/token",
    service="registry.bots.example.org",
    issuer="api.bots.example.org",
)
BUCKET = S3Storage("images", "eu-west-1", "an-access-key", "a-secret-key")


def test_blobs_are_on_a_volume_unless_told_otherwise() -> None:
    config = yaml.safe_load(registry_config(AUTH, "http-secret"))
    assert config["storage"]["filesystem"] == {"rootdirectory": "/var/lib/registry"}
    assert "s3" not in config["storage"]
    assert config["storage"]["delete"] == {"enabled": True}


def test_tokens_come_from_the_api() -> None:
    config = yaml.safe_load(registry_config(AUTH, "http-secret"))
    assert config["auth"] == {
        "token": {
            "realm": AUTH.realm,
            "service": AUTH.service,
            "issuer": AUTH.issuer,
            "rootcertbundle": "/etc/gantry/token.crt",
        }
    }


def test_the_secret_of_uploads_is_given() -> None:
    """Without one, each restart makes its own, and a push that was under way breaks."""
    config = yaml.safe_load(registry_config(AUTH, "http-secret", public_url="https://r.example"))
    assert config["http"]["secret"] == "http-secret"
    assert config["http"]["host"] == "https://r.example"


def test_amazons_own_storage_needs_no_endpoint() -> None:
    driver = yaml.safe_load(registry_config(AUTH, "x", storage=BUCKET))["storage"]["s3"]
    assert driver == {
        "bucket": "images",
        "region": "eu-west-1",
        "accesskey": "an-access-key",
        "secretkey": "a-secret-key",
    }


def test_compatible_storage_by_http_or_https() -> None:
    for endpoint, secure in (("http://s3:9000", False), ("https://s3.example.org", True)):
        storage = S3Storage("images", "r", "a", "s", endpoint=endpoint, prefix="/bots/")
        document = yaml.safe_load(registry_config(AUTH, "x", storage=storage))["storage"]
        assert document["s3"]["regionendpoint"] == endpoint
        assert document["s3"]["secure"] is secure
        assert document["s3"]["rootdirectory"] == "/bots"
        # Devices reach the proxy only: no redirect to the bucket.
        assert document["redirect"] == {"disable": True}
