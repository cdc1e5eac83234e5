"""`pulumi up --stack <fleet>`: the cloud side of one fleet."""

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from config import StackConfigError, load
from fleet import Fleet


def main() -> None:
    """Check the stack's settings, then say what is to exist."""
    try:
        config = load(pulumi.get_stack(), {**get_config_env(), **CONFIG.get()})
    except StackConfigError as error:
        raise pulumi.RunError(str(error)) from error
    for name, value in Fleet(config).outputs().items():
        pulumi.export(name, value)


main()
