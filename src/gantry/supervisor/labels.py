"""Labels of what the supervisor makes in the engine."""


class Label:
    """Labels of what the supervisor makes in the engine."""

    SUPERVISED = "io.balena.supervised"
    APP_ID = "io.balena.app-id"
    APP_UUID = "io.balena.app-uuid"
    SERVICE_ID = "io.balena.service-id"
    SERVICE_NAME = "io.balena.service-name"
    INSTANCE = "io.gantry.instance"
    RELEASE = "io.gantry.release"
    CONFIG_HASH = "io.gantry.config-hash"
    # For the end of a container whose release nobody knows any more: services, with spaces between.
    DEPENDS_ON = "io.gantry.depends-on"
    RESTART = "io.gantry.restart"
    # The boot in which a container was made that is to start after another one only.
    BOOT = "io.gantry.boot"
