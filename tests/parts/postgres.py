"""A PostgreSQL cluster in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from .process import Process, free_port, run


def _binaries() -> Path | None:
    """Find the newest server's folder; Debian keeps it off the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


def missing() -> str | None:
    if _binaries() is None:
        return "no PostgreSQL server in /usr/lib/postgresql (apt: postgresql)"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser here (apt: util-linux)"
    return None


class Postgres:
    """A running cluster; `stop` and `start` keep its port and its data."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Make the cluster in ``folder`` and start it; ``settings`` win over those that tests need."""
        self._folder, self._port = folder, free_port()
        self._settings = {"fsync": "off", "max_connections": "200", **settings}
        # By database: one that is kept, because a new one reads the catalogue anew.
        self._connections: dict[str, psycopg.Connection] = {}
        # By template: databases that no test has and whose rows are those of a new one, and the statements for that.
        self._free: defaultdict[str, list[str]] = defaultdict(list)
        self._restore: dict[str, Composed] = {}
        self._run("initdb", "--pgdata", f"{folder}/data", "--auth=trust", "--username=postgres", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        """The database that is always there."""
        return self._url("postgres")

    def database(self, template: str = "") -> str:
        """Make a database, empty or as the one with the URL ``template`` that nobody is in, and give its URL."""
        name = f"tests_{uuid.uuid4().hex[:12]}"
        made = SQL("CREATE DATABASE {}").format(Identifier(name))
        if template:
            made += SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(Identifier(template.rpartition("/")[2]))
        self._execute(self.url, made)
        return self._url(name)

    @contextmanager
    def lent(self, template: str) -> Iterator[str]:
        """Lend the URL of a database as the one with the URL ``template``, whose rows are as at the first call.

        Rows are removed from it afterwards, and it is lent again. That takes a tenth of the time of making a database.
        Whoever changes the schema or the database's own settings takes `database`.
        """
        free = self._free[template]
        url = free.pop() if free else self.database(template)
        yield url
        if template not in self._restore:
            self._restore[template] = _restore(template)
        # Somebody who was left behind may hold a lock.
        with suppress(psycopg.Error):
            self._execute(url, self._restore[template])
            free.append(url)

    def _execute(self, url: str, statements: Composed) -> None:
        """Execute statements in a database, at the second try on a new connection: a test may have ended ours."""
        with suppress(psycopg.OperationalError):
            self._connected(url).execute(statements)
            return
        self._connected(url).execute(statements)

    def _connected(self, url: str) -> psycopg.Connection:
        connection = self._connections.get(url)
        if connection is None or connection.closed:
            connection = psycopg.connect(url, autocommit=True, prepare_threshold=None, connect_timeout=5)
            self._connections[url] = connection
        return connection

    @property
    def pid(self) -> int:
        """The process above all of the server's."""
        return self._process.pid

    def through_socket(self, url: str) -> str:
        """Spell the URL of a database as one that goes through the server's Unix socket."""
        return f"postgresql://postgres@:{self._port}/{url.rpartition('/')[2]}?host={self._folder}"

    def start(self) -> None:
        command = self._command(
            "postgres", "-D", f"{self._folder}/data", "-p", str(self._port), "-c", "listen_addresses=127.0.0.1",
            "-c", f"unix_socket_directories={self._folder}",
            *(part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")),
        )  # fmt: skip
        self._process = Process("postgres", command, self._folder)
        self._process.until(self._answers)

    def demote(self) -> None:
        """Start it as a standby, which only reads, after a `stop`."""
        (self._folder / "data/standby.signal").touch()
        self.start()

    def promote(self) -> None:
        """Make the standby a primary again."""
        self._run("pg_ctl", "promote", "--pgdata", f"{self._folder}/data", "--wait")

    def log(self) -> str:
        """Read what it has printed so far, over all its starts."""
        return self._process.output()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End every connection and the server at once, in order."""
        for connection in self._connections.values():
            connection.close()
        pid_file = self._folder / "data/postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), number)
        self._process.wait(20)

    def pause(self) -> None:
        """Freeze the server and every connection's process; the kernel goes on accepting connections."""
        frozen: list[int] = []
        # The server first, so that it begins no more. The kernel may leave some out of the list while others end.
        while left := [pid for pid in self._pids() if pid not in frozen]:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            frozen += left

    def resume(self) -> None:
        # The server last: while it is frozen, the list is whole.
        for pid in reversed(self._pids()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        # runuser stops itself when its child is stopped.
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it without writing anything down: its data go with it."""
        if self._process.running:
            self.stop(signal.SIGQUIT)

    def _pids(self) -> list[int]:
        """List the server and its processes."""
        server = int((self._folder / "data/postmaster.pid").read_text().split()[0])
        return [server, *map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())]

    def _answers(self) -> bool:
        state = self._folder / "data/postmaster.pid"
        lines = state.read_text().splitlines() if state.exists() else []
        return len(lines) > 7 and lines[7].strip() in ("ready", "standby")

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"

    def _run(self, *arguments: str) -> None:
        run(self._command(*arguments))

    def _command(self, name: str, *arguments: str) -> list[str]:
        """Spell a server command, as the user postgres where the tests run as root."""
        other_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        return [*other_user, f"{_binaries()}/{name}", *arguments]


def _restore(template: str) -> Composed:
    """Spell the statements that leave the rows of ``template`` in a database with the same tables, and no others."""
    # Without the foreign keys' triggers.
    statements = [SQL("SET session_replication_role = replica; SET lock_timeout = '1s'").format()]
    with psycopg.connect(template) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        sequences = connection.execute("SELECT sequencename, start_value FROM pg_sequences").fetchall()
        for (name,) in tables:
            table = Identifier(name)
            statements.append(SQL("DELETE FROM {}").format(table))
            for row in connection.execute(SQL("SELECT * FROM {}").format(table)):
                values = SQL(", ").join(map(Literal, row))
                statements.append(SQL("INSERT INTO {} VALUES ({})").format(table, values))
    for name, first in sequences:
        statements.append(SQL("SELECT setval({}, {}, false)").format(Literal(name), Literal(first)))
    return SQL("; ").join(statements)


@contextmanager
def postgres(settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Postgres]:
    """Start a cluster; it has a folder of its own, as the user postgres must reach it."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Postgres(folder, settings)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
