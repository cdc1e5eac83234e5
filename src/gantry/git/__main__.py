"""`python -m gantry.git`: the git service; `… health`: the container's health check."""

import sys


def main() -> int:
    """Runs the service until it is stopped; 2 when its configuration is wrong."""
    # Imported late: the health check runs every few seconds and needs none of it.
    from gantry.configuration import ConfigError
    from gantry.git.config import load_config
    from gantry.git.service import serve
    from gantry.git.settings import SettingsError, config_file

    try:
        return serve(load_config(config_file()))
    except (ConfigError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    if sys.argv[1:] == ["health"]:
        from gantry.git.health import main as health

        sys.exit(health())
    sys.exit(main())
