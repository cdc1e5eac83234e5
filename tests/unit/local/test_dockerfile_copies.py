"""What a Dockerfile takes from its context, and where it goes."""

import pytest

from gantry.local.dockerfile_copies import Copy, copies


def placed(text: str, path: str, working_dir: str = "/image") -> list[tuple[str, bool, bool]]:
    """(place, whether that is certain, whether it is plain) of a file, by each copy of it."""
    return [
        (*place, each.plain)
        for each in copies(text, None, working_dir)
        if (place := each.place(path)) is not None
    ]


@pytest.mark.parametrize(
    ("instruction", "path", "place"),
    [
        ("COPY . ./", "a/b.py", "/image/a/b.py"),
        ("COPY . /srv", "a.py", "/srv/a.py"),
        ("COPY ./src/ lib", "src/x/y.py", "/image/lib/x/y.py"),
        ("COPY src lib/", "src/y.py", "/image/lib/y.py"),
        ("COPY a.py b.py /srv/", "b.py", "/srv/b.py"),
        ("COPY a.py b.py /srv", "b.py", "/srv/b.py"),
        ('COPY ["a b.py", "/srv/"]', "a b.py", "/srv/a b.py"),
        ("copy --link a.py .", "a.py", "/image/a.py"),
        ("COPY *.py /srv/", "a.py", "/srv/a.py"),
        ("COPY s?c/*.py /srv/", "src/a.py", "/srv/a.py"),
        ("COPY [a-c].py /srv/", "b.py", "/srv/b.py"),
        ("COPY s* /srv/", "src/deep/a.py", "/srv/deep/a.py"),
        ("ENV HERE=/srv\nCOPY a.py $HERE/", "a.py", "/srv/a.py"),
        ("ENV HERE /srv\nCOPY a.py ${HERE}/", "a.py", "/srv/a.py"),
        ("ARG HERE=/srv\nCOPY a.py ${HERE}/in/", "a.py", "/srv/in/a.py"),
        ("WORKDIR /one\nWORKDIR two\nCOPY a.py ./", "a.py", "/one/two/a.py"),
        ("ADD \\\n  a.py \\\n  # why\n  /srv/", "a.py", "/srv/a.py"),
    ],
)
def test_places(instruction: str, path: str, place: str) -> None:
    assert placed(f"FROM base\n{instruction}\n", path) == [(place, True, True)]


def test_a_destination_may_be_a_folder_or_the_files_name() -> None:
    assert placed("FROM base\nCOPY a.py /srv\n", "a.py") == [("/srv", False, True)]


@pytest.mark.parametrize(
    ("instruction", "path"),
    [
        ("COPY src /srv", "other/a.py"),
        ("COPY *.py /srv/", "deep/a.py"),
        ("COPY --from=build /out /srv", "out"),
        ("ADD https://example.org/a.py /srv/", "a.py"),
        ("COPY <<EOT /srv/a.py\nCOPY . /\nEOT", "b.py"),
        ("RUN <<EOT\nCOPY . /\nEOT", "b.py"),
    ],
)
def test_not_taken(instruction: str, path: str) -> None:
    assert placed(f"FROM base\n{instruction}\n", path) == []


@pytest.mark.parametrize(
    "text",
    [
        "FROM base\nCOPY a.py /srv/\nRUN make\n",
        "FROM base\nCOPY --chown=1:1 a.py /srv/\n",
        "FROM base\nCOPY --chmod=755 a.py /srv/\n",
        "FROM base\nCOPY a.py $UNKNOWN/\n",
        "FROM base\nADD a.py a.tar.gz /srv/\n",
        "FROM base\nRUN --mount=type=bind,source=a.py,target=/x cat /x\n",
        "FROM base\nRUN --mount=type=bind,target=/x cat /x\n",
        "FROM base AS build\nCOPY a.py .\nFROM base\nCOPY --from=build /a /a\n",
        "FROM base\nWORKDIR $UNKNOWN\nCOPY a.py ./\n",
        "FROM base\nCOPY a.py ./\nWORKDIR later\n",
    ],
)
def test_what_is_made_of_a_file_is_built_anew(text: str) -> None:
    assert any(not each.plain for each in copies(text, None, "/image") if each.place("a.py"))


def test_of_a_named_stage_the_last_is_none() -> None:
    text = "FROM base AS one\nCOPY a.py /one/\nFROM one AS two\nCOPY b.py /two/\n"
    found = copies(text, "one", "/")
    assert found == (Copy(("a.py",), "/one/"), Copy(("b.py",), "/two/", plain=False))


def test_nothing_at_all() -> None:
    assert copies("# nothing\n", None, "/") == ()
