"""Where the operator's files are: settings, state and secrets in one place, caches in another."""

import os
from pathlib import Path


def config_home() -> Path:
    """`~/.config/gantry`, or GANTRY_CONFIG_HOME. Holds secrets: made with mode 0700."""
    home = Path(os.environ.get("GANTRY_CONFIG_HOME", Path.home() / ".config" / "gantry"))
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def cache_home() -> Path:
    """`~/.cache/gantry`, or GANTRY_CACHE_HOME. All in it can be made again."""
    home = Path(os.environ.get("GANTRY_CACHE_HOME", Path.home() / ".cache" / "gantry"))
    home.mkdir(parents=True, exist_ok=True)
    return home


def fleet_home(fleet: str) -> Path:
    """The operator's files of one fleet: session, CA certificate, the admin's password."""
    home = config_home() / fleet
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def project_root() -> Path:
    """The folder of Pulumi.yaml and the stacks: the checkout, or GANTRY_PROJECT for who keeps the
    stack files of their fleets apart from it."""
    return (
        Path(os.environ["GANTRY_PROJECT"]) if "GANTRY_PROJECT" in os.environ else repository_root()
    )


def stack_file(stack: str) -> Path:
    """Where a stack's settings are, whether or not there are any."""
    return project_root() / "stacks" / f"Pulumi.{stack}.yaml"


def repository_root() -> Path:
    """The checkout that this package runs from: the folder that holds the image recipes.

    Raises:
        FileNotFoundError: the package was installed apart from its repository.
    """
    for folder in Path(__file__).resolve().parents:
        if (folder / "images" / "debian" / "recipe.toml").is_file():
            return folder
    raise FileNotFoundError(
        "no images/debian/recipe.toml above the gantry package: "
        "run from a checkout installed with `make setup`"
    )
