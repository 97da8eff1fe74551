"""Letters wait for the mail server, and reach it once each."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from app.access.mail import Mail
from app.config import Mail as MailConfig
from app.database import Database, letters
from app.database.tables import letter
from tests.deploy.authority import Authority
from tests.parts.smtp import SmtpServer

from .conftest import Clock, on_both_databases

DAY = 86400
TEXT = "Teie pääsuvõti aegub.\n.\nEnd\n"


def mail(database: Database, server: SmtpServer, clock: Callable[[], float] = time.time) -> Mail:
    config = MailConfig("127.0.0.1", server.port, "none", sender="registry@example.org")
    return Mail(database, config, "registry.example.org", clock)


async def write(database: Database, *addresses: str) -> None:
    async with database.transaction() as transaction:
        for number, address in enumerate(addresses):
            await letters.add(transaction, address, f"võti {number}", TEXT, time.time() - 1)


async def waiting(database: Database) -> list[str]:
    async with database.reading() as transaction:
        return sorted((await transaction.execute(select(letter.c.address))).scalars())


@on_both_databases
async def test_two_workers_send_each_letter_once(database: Database, other_database: Database) -> None:
    await write(database, *(f"{number}@example.org" for number in range(7)))
    async with SmtpServer() as server:
        sent = await asyncio.gather(mail(database, server).send(), mail(other_database, server).send())
        assert sum(sent) == 7
        # Whoever was too slow for one letter looks again in a minute; nothing is left here.
        assert await mail(database, server).send() == 0
    assert sorted(taken.to[0] for taken in server.taken) == [f"{number}@example.org" for number in range(7)]
    assert await waiting(database) == []
    one = server.taken[0].message
    assert (server.taken[0].sender, one["From"]) == ("registry@example.org", "registry@example.org")
    assert one["To"] == server.taken[0].to[0]
    assert one["Subject"] == f"võti {one['To'][0]}"
    assert one["Auto-Submitted"] == "auto-generated"
    assert one.get_content().replace("\r\n", "\n") == TEXT
    assert len({taken.message["Message-ID"] for taken in server.taken}) == 7
    assert server.connections <= 2


async def test_a_server_that_is_down_gets_them_later(
    database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await write(database, "mari@example.org")
    server = SmtpServer()
    async with server:
        pass
    assert await mail(database, server, clock).send() == 0
    assert "the letters wait" in caplog.text
    assert await waiting(database) == ["mari@example.org"]
    server.says = lambda command: "421 not now" if command.startswith("MAIL") else ""
    async with server:
        assert await mail(database, server, clock).send() == 0
        server.says = lambda _: ""
        # It is not tried again at once, so that a busy server has a rest.
        assert await mail(database, server, clock).send() == 0
        clock.passed = 601
        assert await mail(database, server, clock).send() == 1
    assert len(server.taken) == 1


@pytest.mark.parametrize(
    ("command", "answer", "waits"),
    [
        ("RCPT", "550 nobody of that name", False),
        ("RCPT", "450 greylisted", True),
        ("MAIL", "550 who are you", True),
        ("DATA", "554 spam", False),
        ("DATA", "451 later", True),
        ("the end of a letter", "554 spam", False),
        ("the end of a letter", "452 full", True),
        ("RCPT", None, True),
        ("the end of a letter", None, False),
    ],
)
async def test_what_a_server_refuses(
    database: Database, clock: Clock, command: str, answer: str | None, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await write(database, "mari@example.org")
    server = SmtpServer(says=lambda said: answer if said.startswith(command) else "")
    async with server:
        await mail(database, server, clock).send()
        assert await waiting(database) == (["mari@example.org"] if waits else [])
        assert "letter" in caplog.text
        server.says = lambda _: ""
        clock.passed = 601
        assert await mail(database, server, clock).send() == int(waits)
    assert await waiting(database) == []


async def test_one_address_that_is_refused_holds_nobody_up(database: Database) -> None:
    await write(database, "gone@example.org", "mari@example.org")
    server = SmtpServer(says=lambda said: "550 gone" if "gone@" in said else "")
    async with server:
        assert await mail(database, server).send() == 1
    assert [taken.to for taken in server.taken] == [["mari@example.org"]]


async def test_a_letter_that_a_killed_worker_had_taken_is_not_sent_again(
    database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await write(database, "mari@example.org")
    async with database.transaction() as transaction:
        assert await letters.take(transaction, clock()) is not None
    async with SmtpServer() as server:
        assert await mail(database, server, clock).send() == 0
        clock.passed = 3601
        await mail(database, server, clock).look()
    assert server.taken == []
    assert await waiting(database) == []
    assert "1 letters may not have been sent" in caplog.text


async def test_a_letter_is_given_up_after_two_days(database: Database, clock: Clock) -> None:
    await write(database, "mari@example.org")
    async with SmtpServer(says=lambda said: "450 later" if said.startswith("RCPT") else "") as server:
        for clock.passed, left in ((0, 1), (DAY, 1), (2 * DAY + 1, 0)):
            await mail(database, server, clock).send()
            assert len(await waiting(database)) == left


async def test_encrypted_and_logged_in(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    pair = authority.certify("localhost")
    (tmp_path / "pair.pem").write_text(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")
    await write(database, "mari@example.org")
    async with SmtpServer(tls=context, login=("registry", "secret")) as server:
        config = MailConfig("localhost", server.port, "starttls", "registry", "secret", "registry@example.org")
        sender = Mail(database, config, "registry.example.org")
        # A certificate of an authority that the host does not know.
        assert await sender.send() == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert await sender.send() == 1
    assert server.taken[0].encrypted
