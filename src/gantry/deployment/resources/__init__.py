"""Pulumi's dynamic resources of a fleet, carried out alike by the CLI and by the built-in engine.

Their classes are in modules that can be imported, so that the state holds their names and not
their code.
"""
