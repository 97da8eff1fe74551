"""Carry out an operator's commands, ``python -m app admin …``, also while the service runs."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from app.access.absence import Absence
from app.access.accounts import Accounts
from app.access.principal import COMMAND_LINE
from app.access.secrets import Secrets, read_key
from app.access.signing_keys import SigningKeys
from app.access.throttle import Throttle
from app.cache import Cache
from app.config import EMBEDDED, Config
from app.database import Database, Transaction, accounts, audit, identities, projects
from app.database.migrate import require_current
from app.database.shared_copies import LONGEST_SECONDS
from app.oci.reference import Name
from app.projects.personal_data import PersonalData
from app.projects.service import require_publishable


async def create_project(config: Config, name: str, *, public: bool) -> str:
    """Make a project that hosts images and return a message; raises ValueError if the name has a slash or is taken.

    Raises NameInvalid for any other name that cannot be used.
    """
    if Name.parse(name).repository:
        raise ValueError(f"a project's name must not have a slash: {name!r}")
    async with _opened(config) as database, database.transaction() as transaction:
        if not await projects.create(transaction, name, public=public, upstream=None, settings={}):
            raise ValueError(f"there is a project {name} already; choose another name")
        made = await projects.find(transaction, name)
        assert made is not None  # noqa: S101 - for the types
        await _note(transaction, "create", "project", name, (made.id, name))
    host = config.server.external_url.partition("://")[2]
    return f"made {name}, {'public' if public else 'private'}; push to {host}/{name}/IMAGE"


async def change_project(config: Config, name: str, *, public: bool | None, settings: Mapping[str, object]) -> str:
    """Change a project and return a message; raises ValueError if there is none, or if it has no such settings.

    Raises Conflict if a private cache would become public.
    """
    async with _opened(config) as database, database.transaction() as transaction:
        project = await projects.find(transaction, name)
        if project is None:
            raise ValueError(f"there is no project {name!r}")
        if settings and project.upstream is None:
            raise ValueError(f"{name} hosts images; only a mirror can have {' and '.join(settings)}")
        if public:
            require_publishable(project)
        is_public = project.public if public is None else public
        await projects.change(transaction, name, public=is_public, settings={**project.settings, **settings})
        await _note(transaction, "update", "project", name, (project.id, name))
    return f"changed {name}; tokens issued earlier stay valid for five minutes at most"


async def set_password(config: Config, username: str, password: str) -> str:
    """Change the password of a local account, end its sessions and return a message.

    Raises ValueError if there is no such account.
    """
    cache = Cache(config.redis.url if config.redis.url != EMBEDDED else "redis://")
    async with _opened(config) as database:
        if not await Accounts(database, Throttle(cache)).set_password(username, password):
            raise ValueError(f"there is no local account {username!r}")
        async with database.transaction() as transaction:
            await _note(transaction, "password", "account", username)
    return f"changed the password of {username}; their browsers are logged out"


async def forget_identities(config: Config, username: str | None) -> str:
    """Let the next log-in decide by its name whose account it is, of one person or of everybody; return a message.

    Raises ValueError if there is no such account.
    """
    async with _opened(config) as database, database.transaction() as transaction:
        person = await accounts.person_by_name(transaction, username) if username is not None else None
        if username is not None and person is None:
            raise ValueError(f"there is no account {username!r}")
        number = await identities.forget(transaction, person.id if person is not None else None)
        await _note(transaction, "update", "account", username or "*")
    return f"forgot {number} lasting ids; the next log-in of each name counts as its person's"


async def export_person(config: Config, username: str) -> str:
    """Return all that is kept of a person as JSON; raises ValueError if there is no such account."""
    async with _opened(config) as database:
        found = await _personal_data(config, database).export(username)
        async with database.transaction() as transaction:
            await _note(transaction, "export", "account", username)
    return json.dumps(found, indent=2, ensure_ascii=False)


async def erase_person(config: Config, username: str, heir: str | None) -> str:
    """Remove a person's account and all that is kept of them, and return a message.

    Raises ValueError as `PersonalData.erase` does.
    """
    async with _opened(config) as database:
        pseudonym = await _personal_data(config, database).erase(username, heir)
        async with database.transaction() as transaction:
            await _note(transaction, "delete", "account", pseudonym)
    return f"erased {username}, who is {pseudonym} in the audit log now; logs of the host and backups go by themselves"


def _personal_data(config: Config, database: Database) -> PersonalData:
    secrets = Secrets(read_key(config.access.secret_key, config.data_dir))
    return PersonalData(database, Absence(config.access.absent_days), secrets.pseudonym)


async def rotate_keys(config: Config) -> str:
    """Make a new signing key and return a message."""
    async with _opened(config) as database:
        await SigningKeys(database, Secrets(read_key(config.access.secret_key, config.data_dir))).rotate(
            COMMAND_LINE, socket.gethostname()
        )
    return "made a new signing key; every worker signs with it within a minute"


async def _note(
    transaction: Transaction, operation: str, resource_type: str, resource: str, project: tuple[int, str] | None = None
) -> None:
    """Write to the audit log what the command line of this host did."""
    told = (time.time(), COMMAND_LINE.subject, socket.gethostname(), operation, resource_type, resource)
    await audit.add(transaction, [audit.Note(*told, *(project or (None, "")))])


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Database]:
    await require_current(config.database_url)
    database = Database(config.database_url)
    try:
        yield database
        if not database.is_sqlite:
            # A command tells the workers by the database alone. After this time they all know.
            await asyncio.sleep(LONGEST_SECONDS)
    finally:
        await database.close()
