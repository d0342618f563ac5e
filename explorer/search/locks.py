"""Locks that end with the process that holds them, however it ends.

Beside a file they are locks of the operating system on small files; in a database they are
its own advisory locks, which end with the connection. So nothing here reads a clock, and no
lock has to be broken.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from sqlalchemy import Connection

POLL_S = 0.005
FILE_DATABASE = "sqlite"
ADVISORY = {  # wait for a lock, try to take it, let it go
    "postgresql": (
        "pg_advisory_lock(:key)",
        "pg_try_advisory_lock(:key)",
        "pg_advisory_unlock(:key)",
    ),
    "mysql": (
        "GET_LOCK(CONCAT('explorer', :key), 1e9)",
        "GET_LOCK(CONCAT('explorer', :key), 0)",
        "RELEASE_LOCK(CONCAT('explorer', :key))",
    ),
}


class Locks(Protocol):
    """Named locks that all who share a place see; a holder must not take its lock again."""

    def held(self, name: str, *, once: bool = False) -> AbstractContextManager[None]:
        """Wait for a lock and hold it; with `once` nobody needs its name afterwards."""
        ...

    def is_free(self, name: str) -> bool:
        """Whether nobody holds a lock."""
        ...


@dataclass(frozen=True)
class FileLocks:
    """Locks on files named after a file: `NAME.journal.turn` and the like."""

    base: Path

    @contextmanager
    def held(self, name: str, *, once: bool = False) -> Iterator[None]:
        """As of Locks; with `once` the small file is removed while it is still held."""
        path = self._path(name)
        if not path.parent.is_dir():  # a FileLock would make it
            raise FileNotFoundError(f"there is no folder {path.parent}")
        with FileLock(path, poll_interval=POLL_S):
            try:
                yield
            finally:
                if once:
                    path.unlink(missing_ok=True)

    def is_free(self, name: str) -> bool:
        """As of Locks; what a process that died left is removed."""
        path = self._path(name)
        if not path.exists():
            return True
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return False
        return True

    def _path(self, name: str) -> Path:
        return self.base.with_name(f"{self.base.name}.{name}")


@dataclass(frozen=True, eq=False)
class AdvisoryLocks:
    """Locks of a database server, all on one connection; `study` keeps studies apart."""

    connection: "Connection"
    study: str

    @contextmanager
    def held(self, name: str, *, once: bool = False) -> Iterator[None]:  # noqa: ARG002 - no file
        """As of Locks."""
        wait, _, release = ADVISORY[self.connection.dialect.name]
        self._ask(wait, name)
        try:
            yield
        finally:
            if not self.connection.invalidated:
                self._ask(release, name)

    def is_free(self, name: str) -> bool:
        """As of Locks."""
        _, attempt, release = ADVISORY[self.connection.dialect.name]
        free = bool(self._ask(attempt, name))
        if free:
            self._ask(release, name)
        return free

    def _ask(self, call: str, name: str) -> Any:
        from sqlalchemy import text

        digest = hashlib.sha256(f"explorer {self.study} {name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        return self.connection.execute(text(f"SELECT {call}"), {"key": key}).scalar()


@contextmanager
def database_locks(url: str, study: str) -> Iterator[Locks]:
    """Locks beside an SQLite file, or of the server; ValueError for another kind of database."""
    from sqlalchemy import NullPool, create_engine, make_url

    address = make_url(url)
    kind = "mysql" if address.get_backend_name() == "mariadb" else address.get_backend_name()
    if kind == FILE_DATABASE:
        if address.database in (None, "", ":memory:"):
            raise ValueError("a database in memory is not kept; name a file")
        yield FileLocks(Path(address.database).absolute())
        return
    if kind not in ADVISORY:
        raise ValueError(f"allowed are {FILE_DATABASE}, {', '.join(ADVISORY)}")
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield AdvisoryLocks(connection, study)
