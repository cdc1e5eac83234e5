"""Alembic's entry: runs the migrations on the connection that the api hands over."""

from alembic import context

from gantry.api.rules import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
