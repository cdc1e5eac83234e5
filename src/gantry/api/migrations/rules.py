"""The functions and triggers of the rules, as one revision has them.

`sql/<revision>_rules.sql` is what `python -m gantry.api rules --sql` printed when the revision was
written. It stays as it is: a later change of the declarations gets a revision and a file of its
own, and a test says when that is missing.
"""

from pathlib import Path

from alembic import op

_FOLDER = Path(__file__).parent / "sql"

_REMOVE = """
do $$
declare name text;
begin
    for name in select oid::regprocedure from pg_proc
        where pronamespace = current_schema()::regnamespace and starts_with(proname, 'rule_')
    loop
        execute 'drop function ' || name || ' cascade';
    end loop;
end $$;
"""


def replace(revision: str | None) -> None:
    """Have the rules of this revision and no others; None for no rules at all.

    Raises sqlalchemy's IntegrityError, which names the rows that break rules; then nothing has
    been changed.
    """
    connection = op.get_bind()
    connection.exec_driver_sql(_REMOVE)
    if revision is not None:
        connection.exec_driver_sql((_FOLDER / f"{revision}_rules.sql").read_text())
