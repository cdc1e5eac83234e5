"""Gantry: a self-hosted fleet platform for Raspberry Pi devices."""

__version__ = "0.1.0"
