"""The device side: holds a device at the state that its fleet's api asks for."""

VERSION = "0.1.0"
