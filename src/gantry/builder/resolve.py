"""From a pushed tree to the plan of its build. Reads the tree and does nothing else."""

from gantry.builder import compose, dockerfile, languages
from gantry.builder.contract import read_contract
from gantry.builder.plan import (
    BaseName,
    BuildPlan,
    RejectedError,
    ServiceBuild,
    ServiceImage,
    Target,
)
from gantry.builder.tree import Tree

COMPOSE_NAMES = ("docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml")
MAIN_SERVICE = "main"


def resolve(tree: Tree, target: Target, registry: str) -> BuildPlan:
    """The plan of a tree's build: docker-compose.yml if it has one, else one service `main`.

    `registry` is the name of the fleet's registry, which `image:` entries may bear.

    Raises:
        RejectedError: nothing to build, or something that cannot be built; says what and why.
    """
    for name in COMPOSE_NAMES:
        if tree.is_file(name):
            return _composed(tree, name, target, registry)
    build = _service(tree, MAIN_SERVICE, compose.BuildSection(), target)
    return BuildPlan(
        builds=(build,),
        images=(),
        bases=tuple(_bases(build)),
        composition=compose.single_service(MAIN_SERVICE),
    )


def _composed(tree: Tree, name: str, target: Target, registry: str) -> BuildPlan:
    parsed = compose.parse(tree.read(name), name, registry)
    builds = tuple(
        _service(tree, service, section, target) for service, section in parsed.builds.items()
    )
    images = tuple(ServiceImage(service, base) for service, base in parsed.images.items())
    for each in images:
        if each.base.architecture is not target.architecture:
            raise RejectedError(
                f"{name}: service {each.service} uses {each.base.reference}, but "
                f"{target.device.slug} is {target.architecture}"
            )
    bases: dict[BaseName, None] = {each.base: None for each in images}
    for build in builds:
        bases |= dict.fromkeys(_bases(build))
    return BuildPlan(builds, images, tuple(bases), parsed.composition, parsed.warnings)


def _service(
    tree: Tree, service: str, section: compose.BuildSection, target: Target
) -> ServiceBuild:
    folder = Tree.join(".", section.context)
    if not tree.is_folder(folder):
        raise RejectedError(
            f"service {service}: the build context {section.context!r} is no folder of the push"
        )
    path, content = _dockerfile(tree, service, folder, section.dockerfile, target)
    generated = path not in _plain_names(folder, section.dockerfile, target)
    return ServiceBuild(
        service=service,
        context=folder,
        dockerfile=None if generated else path,
        content=content,
        origin=path,
        args=section.args,
        target=section.target,
        labels=section.labels,
        contract=read_contract(tree, folder),
    )


def _plain_names(folder: str, named: str | None, target: Target) -> set[str]:
    """The Dockerfiles that are used as they are."""
    names = [f"Dockerfile.{target.device.slug}", f"Dockerfile.{target.architecture}", "Dockerfile"]
    if named is not None and not named.endswith(".template"):
        names.append(named)
    return {Tree.join(folder, each) for each in names}


def _dockerfile(
    tree: Tree, service: str, folder: str, named: str | None, target: Target
) -> tuple[str, str]:
    """`(path, text)` of the service's Dockerfile, in the order that docs/building.md gives."""
    candidates = (
        [named]
        if named is not None
        else [
            f"Dockerfile.{target.device.slug}",
            f"Dockerfile.{target.architecture}",
            "Dockerfile.template",
            "Dockerfile",
        ]
    )
    for name in candidates:
        path = Tree.join(folder, name)
        if tree.is_file(path):
            text = tree.read(path)
            if path.endswith(".template"):
                text = dockerfile.fill(text, path, service, target)
            return path, text
    if named is not None:
        raise RejectedError(f"service {service}: {Tree.join(folder, named)} is not in the push")
    found = languages.dockerfile_for(tree, folder, target)
    if found is None:
        raise RejectedError(_nothing(tree, service, folder, target))
    return found


def _nothing(tree: Tree, service: str, folder: str, target: Target) -> str:
    names = tree.names(folder)
    seen = ", ".join(names[:12]) + (", …" if len(names) > 12 else "") if names else "nothing"
    where = "the push" if folder == "." else f"{folder} (service {service})"
    kinds = [
        f"Dockerfile.{target.device.slug}, Dockerfile.{target.architecture} "
        "(this fleet's device type and architecture)",
        "Dockerfile.template, Dockerfile",
        f"{', '.join(languages.KINDS)} (built without a Dockerfile)",
    ]
    if folder == ".":
        kinds.insert(0, "docker-compose.yml (several services)")
    return "\n  ".join(
        [f"nothing to build in {where}, which has {seen}. What is accepted, in this order:", *kinds]
    )


def _bases(build: ServiceBuild) -> list[BaseName]:
    return dockerfile.bases_named(build.content, build.origin)
