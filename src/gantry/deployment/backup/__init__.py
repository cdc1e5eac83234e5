"""A fleet's whole state in a folder, and back.

The folder holds the database as `pg_dump --format=custom` writes it, each data volume as a tar with
`volume/` before its names, and `manifest.json`, which is written last: a folder without it is no
backup. Secrets are in it as they are in the volumes: whoever has the folder is the fleet.
"""
