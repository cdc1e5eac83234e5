"""What devices have of their fleets, and what they hold for others."""

from sqlalchemy import ColumnElement, select

from gantry.api.models import Device, GatewayDownload, ImageInstall, ServiceInstall
from gantry.api.odata.schema import Navigation, Resource, Row, referred_by, refers
from gantry.api.queries import visibility


def _application(install: Row, application: Row) -> ColumnElement[bool]:
    own = select(Device.belongs_to__application).where(Device.id == install.device)
    return application.id.in_(own)  # type: ignore[no-any-return]


RESOURCES = (
    Resource(
        "service_install",
        ServiceInstall,
        visibility.of_device,
        natural_keys=(frozenset({"device", "installs__service"}),),
        navigations={
            "device": Navigation("device", refers("device")),
            "installs__service": Navigation("service", refers("installs__service")),
            # The family's older name of the same.
            "service": Navigation("service", refers("installs__service"), is_single=True),
            "application": Navigation("application", _application, is_single=True),
            "device_service_environment_variable": Navigation(
                "device_service_environment_variable", referred_by("service_install")
            ),
        },
    ),
    Resource(
        "image_install",
        ImageInstall,
        visibility.of_device,
        natural_keys=(frozenset({"device", "installs__image"}),),
        navigations={
            "device": Navigation("device", refers("device")),
            "installs__image": Navigation("image", refers("installs__image")),
            "image": Navigation("image", refers("installs__image"), is_single=True),
            "is_provided_by__release": Navigation("release", refers("is_provided_by__release")),
        },
    ),
    Resource(
        "gateway_download",
        GatewayDownload,
        visibility.of_gateway,
        natural_keys=(frozenset({"image", "is_downloaded_by__device"}),),
        navigations={
            "image": Navigation("image", refers("image")),
            "is_downloaded_by__device": Navigation("device", refers("is_downloaded_by__device")),
        },
    ),
)
