"""`retag.py ARCHIVE RESULT NAME`: an archive of `docker save` with its image under another name."""

import io
import json
import sys
import tarfile


def main(source: str, target: str, name: str) -> None:
    """Copy the archive, all but its names."""
    with tarfile.open(source) as archive, tarfile.open(target, "w") as result:
        for member in archive:
            if member.name == "repositories":
                continue
            content = archive.extractfile(member)
            if member.name == "manifest.json" and content:
                manifest = [{**each, "RepoTags": [name]} for each in json.load(content)]
                text = json.dumps(manifest).encode()
                member.size = len(text)
                result.addfile(member, io.BytesIO(text))
            else:
                result.addfile(member, content)


main(*sys.argv[1:])
