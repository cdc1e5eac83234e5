"""Deltas: what a device needs to rebuild the layers of one image from those of others.

docs/delta-format.md has the format byte by byte. What is here runs on devices: the standard library
alone, and bounded memory. `create` makes deltas and `server` gives them out; both need more.
"""
