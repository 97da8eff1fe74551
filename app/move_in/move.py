"""Move a Harbor in: every step in its order, then the comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.access.secrets import Secrets
from app.config import Config
from app.database import Database, Transaction, moved
from app.database.harbor import HarborDatabase
from app.storage import BlobStore
from app.storage.harbor import HarborBlobs

from .comparison import compare
from .copying import copy_blobs
from .hooks import Hooks
from .images import Artifacts, AttachedLabels, Labels, Tags
from .log import Log
from .naming import Names
from .people import People, robot_prefix
from .projects import Members, Projects, Repositories
from .report import Report
from .robots import Robots
from .rules import ImmutableRules, RetentionPolicies, start_schedules
from .steps import Known, Runner, Step


@dataclass(frozen=True)
class MoveIn:
    """A move of one Harbor into this registry. The caller opens and closes its parts.

    ``check_target`` raises Invalid for a webhook's address and header that cannot be used.
    """

    config: Config
    database: Database
    harbor: HarborDatabase
    harbor_blobs: HarborBlobs
    store: BlobStore
    secrets: Secrets
    names: Names
    check_target: Callable[[str, str], None]

    async def report(self) -> str:
        """Return what would move, without writing anything."""
        report, _ = await self._steps(dry=True)
        return report.text()

    async def move(self, *, copy: bool) -> str:
        """Write what is new or has changed in Harbor; return the report and the comparison.

        With ``copy``, also copy the blobs that are still in Harbor's store. Raises ValueError if the move is final.
        """
        await self.harbor.lock()
        began = time.time()

        async def begin(transaction: Transaction) -> bool:
            return await moved.begin(transaction)

        if not await self.database.transact(begin):
            raise ValueError("the move was declared final; Harbor is not read any more")
        report, known = await self._steps(dry=False)
        if copy:
            await copy_blobs(self.database, self.store, report)
        compared = await compare(self.harbor, self.database, known)
        count, size = await self.database.read(moved.adopted_total)
        where = f"{count} blobs of {size} bytes are in Harbor's store."
        return "\n".join([report.text(), where, compared.text(), f"It took {time.time() - began:.0f} s."])

    async def _steps(self, *, dry: bool) -> tuple[Report, Known]:
        report, known, properties = Report(dry=dry), Known(), await self.harbor.properties()
        runner = Runner(self.database, report, dry=dry)
        for step in self._in_order(known, properties):
            await runner.run(step)
        for log in self._logs(known, properties):
            await log.run(self.database, report, dry=dry)
        return report, known

    def _in_order(self, known: Known, properties: Mapping[str, str]) -> list[Step]:  # type: ignore[type-arg]
        harbor = self.harbor
        return [
            People(harbor, self.database, self.config, self.secrets, self.names, known, properties=properties),
            Projects(harbor, self.database, self.config, self.secrets, known),
            Members(harbor, self.names, known),
            Repositories(harbor, known),
            Artifacts(harbor, self.harbor_blobs, self.database, known),
            Tags(harbor, known),
            Labels(harbor, known),
            AttachedLabels(harbor, known),
            Robots(harbor, known, properties=properties),
            Hooks(harbor, self.secrets.encrypt, self.check_target, known),
            ImmutableRules(harbor, self.database, known),
            RetentionPolicies(harbor, self.database, known),
        ]

    def _logs(self, known: Known, properties: Mapping[str, str]) -> list[Log]:
        days, prefix = self.config.policy.audit_days, robot_prefix(properties)
        return [
            Log("audit_log", self.harbor.log, known, days=days, prefix=prefix),
            Log("audit_log_ext", self.harbor.later_log, known, days=days, prefix=prefix),
        ]


async def declare_final(database: Database) -> str:
    """Declare the move final: unneeded objects of Harbor's are removed, and retention runs by its schedules."""
    async with database.transaction() as transaction:
        held = await moved.finish(transaction)
        await start_schedules(transaction)
    return f"the move is final; {held} objects of Harbor's that nothing needs any more will be removed"
