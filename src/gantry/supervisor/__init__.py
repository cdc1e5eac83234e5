"""The device side: holds a device at the state that its fleet's api asks for."""

from gantry import __version__

VERSION = __version__
