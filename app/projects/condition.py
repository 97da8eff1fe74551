"""Look at the registry for operators: its parts, the workers and the disk of this host, the certificate, the backup.

``registry-admin status`` and the first page of the administration show the same looks. A text is a constant with
places, so that the page can translate it.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from app.database import Database, settings, versions
from app.kit.threads import in_thread
from app.kit.words import mark
from app.oci.errors import OCIError, Unavailable

Check = Callable[[], Awaitable[object]]

OK = "ok"
# In seconds. Balancers and monitors give up after 5.
_CHECK_SECONDS = 4.0
_DAY, _HOUR = 86400, 3600
# A setting that the backup writes when a copy is complete, in Unix seconds (ansible/roles/backup).
_LAST_BACKUP = "last_backup"
# Beside this part of a disk, the alert RegistryDiskLow fires. The others are those of the other alerts.
_LOW_DISK, _ENDING_DAYS, _OLD_BACKUP_HOURS = 0.1, 14, 24
# The role `registry` writes this file into a release that is complete; the folder has the release's name.
_COMPLETE = ".complete"


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one look: a text with its values, and whether it is good; otherwise somebody must act."""

    what: str
    good: bool
    text: str
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Return the text in English."""
        return self.text % self.values


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str]:
    """Ask all parts at once; return `OK` or the fault's text by the name of each part. It takes at most 4 s."""

    async def ask(check: Check) -> str:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await check()
        except OCIError as error:
            return error.message
        except TimeoutError:
            return f"no answer in {_CHECK_SECONDS:.0f} s"
        except OSError as error:
            return str(error) or type(error).__name__
        return OK

    answers = await asyncio.gather(*(ask(check) for check in checks.values()))
    return dict(zip(checks, answers, strict=True))


class Condition:
    """Looks at the registry from one host; each look takes a few seconds at most, and none of them raises."""

    def __init__(self, database: Database, listen: Path | tuple[str, int], external_url: str, data_dir: Path) -> None:
        """``listen`` is the address of a worker of this host; ``data_dir`` is on the disk to look at."""
        self._database = database
        self._listen = listen
        self._external_url = external_url
        self._data_dir = data_dir

    async def looks(self, checks: Mapping[str, Check]) -> Sequence[Look]:
        """Take all looks at once: at these parts by name, then at everything else."""
        parts, *others = await asyncio.gather(
            run_checks(checks), self._workers(), self._disk(), self._certificate(), self._backup(), self._versions()
        )
        return [*_of_parts(parts), *(look for look in others if look is not None)]

    async def _workers(self) -> Look:
        """Ask every worker of this host, by its own socket if it has one (ansible/roles/registry)."""
        checks: dict[str, Check] = {}
        if isinstance(self._listen, Path):
            for path in sorted(self._listen.parent.parent.glob(f"*/{self._listen.name}")):
                checks[path.parent.name] = partial(_alive, partial(asyncio.open_unix_connection, str(path)))
            if not checks:
                folder = self._listen.parent.parent
                return Look("workers", False, mark("none runs: there is no socket in %(folder)s"), {"folder": folder})
        else:
            checks["workers"] = partial(_alive, partial(asyncio.open_connection, *self._listen))
        faults = {name: said for name, said in (await run_checks(checks)).items() if said != OK}
        if faults:
            told = "; ".join(f"{name}: {said}" for name, said in faults.items())
            return Look("workers", False, "%(faults)s", {"faults": told})
        if isinstance(self._listen, Path):
            return Look("workers", True, mark("%(count)s answer on this host"), {"count": len(checks)})
        return Look("workers", True, mark("they answer"))

    async def _disk(self) -> Look:
        try:
            usage = await in_thread(None, shutil.disk_usage, self._data_dir)
        except OSError as error:
            return Look("disk", False, "%(fault)s", {"fault": error})
        free = usage.free / usage.total
        values = {
            "free": f"{usage.free / 2**30:.1f} GiB",
            "total": f"{usage.total / 2**30:.1f} GiB",
            "share": f"{free:.0%}",
            "folder": self._data_dir,
        }
        return Look("disk", free > _LOW_DISK, mark("%(free)s free of %(total)s (%(share)s) at %(folder)s"), values)

    async def _certificate(self) -> Look:
        """Look at the certificate that clients see: at this host first, then by the name that they use."""
        url = urlsplit(self._external_url)
        if url.scheme != "https" or url.hostname is None:
            return Look("certificate", True, mark("none: external_url has no https"))
        for host in ("127.0.0.1", url.hostname):
            try:
                async with asyncio.timeout(_CHECK_SECONDS / 2):
                    ends = await _end_of_certificate(host, url.port or 443, url.hostname)
            except (OSError, TimeoutError):
                continue
            days = (ends - time.time()) / _DAY
            values = {"days": f"{days:.0f}"}
            return Look("certificate", days > _ENDING_DAYS, mark("ends in %(days)s days"), values)
        return Look("certificate", False, mark("nothing answers with one for %(host)s"), {"host": url.hostname})

    async def _backup(self) -> Look | None:
        """Say when the last backup was complete; None if the database is down, which another look says."""
        try:
            found = await self._database.read(settings.find, _LAST_BACKUP)
        except Unavailable:
            return None
        if found is None:
            return Look("backup", False, mark("none was ever made"))
        hours = (time.time() - float(found)) / _HOUR
        values = {"at": moment(float(found)), "hours": f"{hours:.0f}"}
        return Look("backup", hours < _OLD_BACKUP_HOURS, mark("%(at)s, %(hours)s h ago"), values)

    async def _versions(self) -> Look | None:
        with contextlib.suppress(Unavailable):
            server, schema = await self._database.read(versions.of)
            values = {"release": release(), "schema": schema, "server": server, "python": platform.python_version()}
            told = mark("release %(release)s, schema %(schema)s, %(server)s, Python %(python)s")
            return Look("versions", True, told, values)
        return None


def _of_parts(parts: Mapping[str, str]) -> list[Look]:
    return [
        Look(name, True, mark("answers")) if said == OK else Look(name, False, "%(fault)s", {"fault": said})
        for name, said in parts.items()
    ]


def release() -> str:
    """Return the name of the release that runs, "–" if it was not installed as one."""
    folder = Path(__file__).resolve().parents[2]
    return folder.name if (folder / _COMPLETE).exists() else "–"


def moment(at: float) -> str:
    """Spell a time (Unix seconds) in full, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) + " UTC"


async def _alive(open_connection: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]) -> None:
    reader, writer = await open_connection()
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n")
        if b" 200 " not in await reader.readline():
            raise OSError("it answers, but not with 200")
    finally:
        writer.close()


async def _end_of_certificate(host: str, port: int, name: str) -> float:
    context = ssl.create_default_context()
    # It is only read. Whether clients trust it depends on them.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(found).not_valid_after_utc.timestamp()
    finally:
        writer.close()
