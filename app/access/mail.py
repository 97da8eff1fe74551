"""Sends the letters that wait in the database, each once, by SMTP.

A letter is taken before it is handed to the server, so two workers never send the same one. A server that is down, or
says later, gets it later. If the connection breaks after the server may have taken the letter, it counts as sent. The
same notice twice would be worse than one notice less, because the pages and the log have it, too.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from enum import Enum

from app.config import Mail as MailConfig
from app.database import JOB_SECONDS, Database, letters
from app.database.letters import Letter
from app.kit.jobs import repeat
from app.kit.threads import in_thread

_LOOK_EVERY = 60.0
_TIMEOUT = 20.0
# In seconds: before a letter is tried again, and for how long it is.
_AGAIN_AFTER = 600.0
_TRIED_FOR = 2 * 86400.0
# In seconds: a letter that a worker took so long ago is nobody's any more.
_LOST_AFTER = 3600.0
_AT_ONCE = 100

log = logging.getLogger(__name__)


class _Outcome(Enum):
    SENT = "sent"
    LATER = "later"
    NEVER = "never"


class Mail:
    """Sends waiting letters by the configured server."""

    def __init__(
        self, database: Database, config: MailConfig, host: str, clock: Callable[[], float] = time.time
    ) -> None:
        """``host``: the registry's host name, for message ids."""
        self._database = database
        self._config = config
        self._host = host
        self._clock = clock

    async def send(self) -> int:
        """Send the letters that are due, and return the number of those that the server took; raises Unavailable."""
        now = self._clock()
        if not await self._database.read(letters.is_due, now):
            return 0
        try:
            server = await in_thread(None, self._connect)
        except (OSError, smtplib.SMTPException) as error:
            log.warning("mail server %s: %s; the letters wait", self._config.host, error)
            return 0
        sent = 0
        try:
            for _ in range(_AT_ONCE):
                async with self._database.transaction(JOB_SECONDS) as transaction:
                    letter = await letters.take(transaction, now)
                if letter is None:
                    break
                outcome = await in_thread(None, self._hand_over, server, letter)
                await self._settle(letter, outcome)
                sent += outcome is _Outcome.SENT
                if outcome is _Outcome.LATER:
                    break
        finally:
            await in_thread(None, _quit, server)
        return sent

    async def run(self) -> None:
        """Send what is due every minute while the worker runs."""
        await repeat("sending mail", self.look, _LOOK_EVERY)

    async def look(self) -> None:
        """Send what is due, and remove what a killed worker had taken; raises Unavailable."""
        await self.send()
        async with self._database.transaction(JOB_SECONDS) as transaction:
            lost = await letters.remove_unknown(transaction, self._clock() - _LOST_AFTER)
        if lost:
            log.warning("%d letters may not have been sent: a worker ended while it sent them", lost)

    async def _settle(self, letter: Letter, outcome: _Outcome) -> None:
        now = self._clock()
        async with self._database.transaction(JOB_SECONDS) as transaction:
            if outcome is _Outcome.LATER and now - letter.made_at < _TRIED_FOR:
                await letters.put_back(transaction, letter.id, now + _AGAIN_AFTER)
            else:
                await letters.remove(transaction, letter.id)

    def _connect(self) -> smtplib.SMTP:
        config = self._config
        host, context = config.host or "", ssl.create_default_context()
        if config.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, config.port, timeout=_TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(host, config.port, timeout=_TIMEOUT)
        try:
            if config.security == "starttls":
                server.starttls(context=context)
            if config.username is not None:
                server.login(config.username, config.password or "")
            server.ehlo_or_helo_if_needed()
        except BaseException:
            server.close()
            raise
        return server

    def _hand_over(self, server: smtplib.SMTP, letter: Letter) -> _Outcome:
        """Give a letter to the server.

        It never takes a letter that it refuses with a number that begins with 5, unless the sender is the reason.
        """
        try:
            server.rset()
            code, answer = server.mail(self._config.sender or "")
            if code != 250:
                return _refused(letter, code, answer, never=False)
            code, answer = server.rcpt(letter.address)
            if code not in (250, 251):
                return _refused(letter, code, answer, never=code >= 500)
        except (OSError, smtplib.SMTPException) as error:
            log.warning("mail server: %s; the letters wait", error)
            return _Outcome.LATER
        try:
            code, answer = server.data(self._written(letter))
        except smtplib.SMTPDataError as error:
            code, answer = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
        except (OSError, smtplib.SMTPException) as error:
            log.warning("letter %s may not have been sent: %s", letter.id, error)
            return _Outcome.SENT
        return _Outcome.SENT if code == 250 else _refused(letter, code, answer, never=code >= 500)

    def _written(self, letter: Letter) -> bytes:
        message = EmailMessage()
        message["From"] = self._config.sender
        message["To"] = letter.address
        message["Subject"] = letter.subject
        message["Date"] = formatdate(letter.made_at)
        message["Message-ID"] = f"<{letter.id}@{self._host}>"
        # Nobody's holiday should answer.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        return message.as_bytes(policy=SMTP)


def _refused(letter: Letter, code: int, answer: bytes, *, never: bool) -> _Outcome:
    said = answer.decode(errors="replace")[:200]
    log.warning("the mail server refused letter %s: %d %s", letter.id, code, said)
    return _Outcome.NEVER if never else _Outcome.LATER


def _quit(server: smtplib.SMTP) -> None:
    with suppress(OSError, smtplib.SMTPException):
        server.quit()
