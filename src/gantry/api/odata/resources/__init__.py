"""The resources that exist, under the family's names."""

from gantry.api.odata.resources import accounts, fleets, installs, notes, releases

RESOURCES = {
    each.name: each
    for each in (
        *accounts.RESOURCES,
        *fleets.RESOURCES,
        *releases.RESOURCES,
        *installs.RESOURCES,
        *notes.RESOURCES,
    )
}
