"""`$metadata`: the resources as CSDL XML, written from their declarations.

The format is https://docs.oasis-open.org/odata/odata-csdl-xml/v4.01/odata-csdl-xml-v4.01.html.
A reference is a navigation there, not a property: it reads as `{"__id": 5}` until it is expanded.
"""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

from gantry.api.odata.schema import Kind, Resource

MEDIA_TYPE = "application/xml"

_EDMX = "http://docs.oasis-open.org/odata/ns/edmx"
_EDM = "http://docs.oasis-open.org/odata/ns/edm"
_CORE = "Org.OData.Core.V1"
_CORE_URI = (
    "https://docs.oasis-open.org/odata/odata-vocabularies/v4.0/vocabularies/Org.OData.Core.V1.xml"
)
_NAMESPACE = "gantry"
_TYPES = {
    Kind.INTEGER: "Edm.Int64",
    Kind.FLOAT: "Edm.Decimal",
    Kind.TEXT: "Edm.String",
    Kind.BOOLEAN: "Edm.Boolean",
    Kind.TIME: "Edm.DateTimeOffset",
    Kind.DATE: "Edm.Date",
    Kind.CLOCK: "Edm.TimeOfDay",
    Kind.DURATION: "Edm.Duration",
    Kind.JSON: "Edm.Untyped",
}


def metadata(resources: Iterable[Resource]) -> bytes:
    """The document, in UTF-8."""
    root = Element("edmx:Edmx", {"xmlns:edmx": _EDMX, "Version": "4.01"})
    reference = SubElement(root, "edmx:Reference", {"Uri": _CORE_URI})
    SubElement(reference, "edmx:Include", {"Namespace": _CORE, "Alias": "Core"})
    services = SubElement(root, "edmx:DataServices")
    schema = SubElement(services, "Schema", {"xmlns": _EDM, "Namespace": _NAMESPACE})
    sets: list[Resource] = list(resources)
    for resource in sets:
        _entity_type(schema, resource)
    container = SubElement(schema, "EntityContainer", {"Name": "container"})
    for resource in sets:
        entity_set = SubElement(
            container,
            "EntitySet",
            {"Name": resource.name, "EntityType": f"{_NAMESPACE}.{resource.name}"},
        )
        for name, navigation in sorted(resource.navigations.items()):
            SubElement(
                entity_set,
                "NavigationPropertyBinding",
                {"Path": name, "Target": navigation.target},
            )
    found: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return found


def _entity_type(schema: Element, resource: Resource) -> None:
    entity = SubElement(schema, "EntityType", {"Name": resource.name})
    SubElement(SubElement(entity, "Key"), "PropertyRef", {"Name": "id"})
    for field in resource.fields.values():
        if field.name in resource.navigations:
            continue
        written = {"Name": field.name, "Type": _TYPES[field.kind]}
        if not field.is_nullable:
            written["Nullable"] = "false"
        SubElement(entity, "Property", written)
    for name, navigation in sorted(resource.navigations.items()):
        target = f"{_NAMESPACE}.{navigation.target}"
        if resource.is_collection(name):
            target = f"Collection({target})"
        # Nullable, all of them: what a reference leads to may be hidden from who asks.
        SubElement(entity, "NavigationProperty", {"Name": name, "Type": target})
    if resource.natural_keys:
        _alternate_keys(entity, resource)


def _alternate_keys(entity: Element, resource: Resource) -> None:
    annotation = SubElement(entity, "Annotation", {"Term": "Core.AlternateKeys"})
    collection = SubElement(annotation, "Collection")
    for key in resource.natural_keys:
        record = SubElement(collection, "Record", {"Type": "Core.AlternateKey"})
        parts = SubElement(SubElement(record, "PropertyValue", {"Property": "Key"}), "Collection")
        for name in sorted(key):
            part = SubElement(parts, "Record", {"Type": "Core.PropertyRef"})
            SubElement(part, "PropertyValue", {"Property": "Name", "PropertyPath": name})
            SubElement(part, "PropertyValue", {"Property": "Alias", "String": name})
