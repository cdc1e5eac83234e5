"""`python3 -m gantry_supervisor run|clear|door|update|configure|remove|stick`"""

import argparse
import json
import sys
from collections.abc import Sequence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gantry_supervisor", description="The supervisor's host.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run the container: the unit gantry-supervisor")
    commands.add_parser("clear", help="remove the container that it left, if it was killed")
    commands.add_parser("door", help="answer the supervisor on file descriptor 0")
    update = commands.add_parser("update", help="another supervisor, with a way back")
    update.add_argument("image", nargs="?", default="", help="its name with registry and tag")
    update.add_argument("--version", default="", help="a version of the fleet's, in place of image")
    update.add_argument("--seconds", type=float, help="time to be healthy in")
    update.add_argument("--settle", type=float, help="seconds that it has to be so on end")
    configure = commands.add_parser("configure", help="merge the JSON of stdin into config.json")
    configure.add_argument("--allow-move", action="store_true")
    remove = commands.add_parser("remove", help="take it off this host")
    remove.add_argument("--purge", action="store_true", help="with applications and identity")
    remove.add_argument("--keep-volumes", action="store_true", help="but not with their data")
    stick = commands.add_parser("stick", help="bring the bundles of a USB stick")
    stick.add_argument("device", help="its block device")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command. What a command does not need is not imported: `run` stays in memory."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "run":
        from gantry_supervisor import run

        return run.main()
    if options.command == "clear":
        from gantry_supervisor import run

        return run.clear()
    if options.command == "door":
        from gantry_supervisor import door

        return door.main()
    if options.command == "update":
        if bool(options.image) == bool(options.version):
            parser.error("give an image or --version=…")
        from gantry_supervisor import update

        return update.main(options.image, options.version, options.seconds, options.settle)
    if options.command == "remove":
        from gantry_supervisor import remove

        return remove.main(options.purge, not options.keep_volumes)
    if options.command == "stick":
        from gantry_supervisor import stick

        return stick.main(options.device)
    return _configure(options.allow_move)


def _configure(allow_move: bool) -> int:
    from gantry_supervisor import configure, files, settings

    try:
        given = json.load(sys.stdin)
        for line in configure.apply(settings.CONFIG, given, allow_move):
            print(line)
    except ValueError:
        print("error: the settings on stdin are not JSON", file=sys.stderr)
        return 1
    except (configure.MoveError, files.FileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
