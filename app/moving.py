"""Carry out ``python -m app move-in``, also while the service and Harbor run."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from app.access.principal import COMMAND_LINE
from app.access.secrets import Secrets, read_key
from app.config import Config
from app.database import Database, audit
from app.database.harbor import HarborDatabase
from app.database.migrate import require_current
from app.database.shared_copies import LONGEST_SECONDS
from app.main import open_harbor, open_store
from app.mirror.address_guard import AddressGuard
from app.move_in.move import MoveIn, declare_final
from app.move_in.naming import Names
from app.webhooks.service import check_target


async def move_in(config: Config, *, rule: str, names: Path | None, dry: bool, copy: bool) -> str:
    """Move a Harbor in, or with ``dry`` only report what would move; return the report.

    Raises ValueError with the reason if that cannot begin, Unavailable, and OSError for the table of names.
    """
    if config.harbor.database_url is None or config.harbor.driver == "none":
        raise ValueError("harbor.database_url and harbor.driver: name Harbor's database and the place of its blobs")
    table = Names.read(rule, names)
    await require_current(config.database_url)
    async with AsyncExitStack() as stack:
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        secrets = Secrets(read_key(config.access.secret_key, config.data_dir))
        await secrets.require_same(database)
        harbor = await HarborDatabase.open(config.harbor.database_url)
        stack.push_async_callback(harbor.close)
        blobs = await open_harbor(config, stack)
        assert blobs is not None  # noqa: S101  # the driver was checked above
        store = await open_store(config, stack)
        check = partial(check_target, guard=AddressGuard("", refused=config.refused_networks))
        move = MoveIn(config, database, harbor, blobs, store, secrets, table, check)
        if dry:
            return await move.report()
        told = await move.move(copy=copy)
        await _note(database, "move-in")
        return told


async def finish(config: Config) -> str:
    """Declare the move final, and return a message."""
    await require_current(config.database_url)
    async with AsyncExitStack() as stack:
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        told = await declare_final(database)
        await _note(database, "move-in final")
        return told


async def _note(database: Database, operation: str) -> None:
    """Write to the audit log what was done, and wait until all workers know it."""
    async with database.transaction() as transaction:
        told = (time.time(), COMMAND_LINE.subject, socket.gethostname(), operation, "system", "Harbor")
        await audit.add(transaction, [audit.Note(*told)])
    if not database.is_sqlite:
        await asyncio.sleep(LONGEST_SECONDS)
