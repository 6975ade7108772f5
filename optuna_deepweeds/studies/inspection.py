"""What lies behind a storage URL, before anything is made of it: nothing, tables, or studies."""

from __future__ import annotations

import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from optuna_deepweeds.errors import NotFoundError, StorageError
from optuna_deepweeds.studies.engines import engine_options
from optuna_deepweeds.studies.storage_url import is_read_only, shown, sqlite_path

_OPTUNA_TABLES = frozenset({"studies", "trials", "version_info", "alembic_version"})


def check_file(url: URL, *, must_exist: bool) -> None:
    """Refuse a SQLite URL whose file cannot be opened; with `must_exist`, also a new file.

    Raises:
        NotFoundError: The file is missing.
        StorageError: It is a folder, or its folder is missing.
    """
    path = sqlite_path(url)
    if path is None or path.exists():
        if path is not None and path.is_dir():
            raise StorageError(f"A SQLite storage must be a file, but {path} is a folder.")
        return
    if must_exist or is_read_only(url):
        raise NotFoundError(
            f"The storage must exist, but there is no file {path}; "
            "start a study first, or name another one by --storage or OPTUNA_STORAGE."
        )
    if not path.parent.is_dir():
        raise StorageError(
            f"A SQLite storage must lie in an existing folder, but there is no {path.parent}."
        )


def misses_tables(url: URL, *, must_exist: bool) -> bool:
    """True if Optuna's tables are still to be created.

    Raises:
        NotFoundError: They are, and `must_exist`.
        StorageError: The file holds tables of another program.
    """
    engine = sqlalchemy.create_engine(url, **engine_options(url))
    try:
        return schema_revision(engine, must_exist=must_exist) is None
    finally:
        engine.dispose()


def schema_revision(engine: Engine, *, must_exist: bool) -> str | None:
    """The revision of Optuna's tables; None while they are still to be created.

    Raises:
        NotFoundError: They are, and `must_exist`.
        StorageError: The file holds tables of another program.
    """
    tables = set(sqlalchemy.inspect(engine).get_table_names())
    if tables >= _OPTUNA_TABLES:
        with engine.connect() as connection:
            query = "SELECT version_num FROM alembic_version"
            revision = connection.exec_driver_sql(query).scalar()
            return None if revision is None else str(revision)
    name = shown(engine.url)
    if tables and not tables & _OPTUNA_TABLES and sqlite_path(engine.url) is not None:
        raise StorageError(
            f"A storage must be empty or made by Optuna, but {name} holds other tables "
            f"({', '.join(sorted(tables)[:3])})."
        )
    if must_exist:
        raise NotFoundError(f"A storage must hold studies, but {name} has none yet.")
    return None
