"""Every key that is kept in Redis.

    r:version:RUN:SCOPE                  the version of a part of SQL, such as a repository; RUN is the server's run id.
                                         SCOPE is one of 65,536: app/database/changes.py
    r:copy:SLOT                          a row of SQL, at most 2 KiB, in one of 16,384 slots; SLOT ``epoch``:
                                         the epoch that workers know: app/database/shared_copies.py
    r:payload:SLOT                       a manifest by its digest, at most 16 KiB, in one of 2,048 slots:
                                         app/registry/payloads.py
    r:missing:REPOSITORY:REFERENCE       an upstream's 404, for a minute
    r:unusable:REPOSITORY:REFERENCE      why an upstream's manifest could not be used, in JSON; 6 h for a digest that
                                         never can be, else 5 min
    r:listing:PROJECT:UPSTREAM:LIST      an upstream's tags or referrers, as a project (its id) sees them; a day
    r:outsiders:UPSTREAM                 how many tags the upstream was asked for in this minute because of outsiders
    r:named:REPOSITORY:DIGEST            the tags a HEAD of the upstream found for a missing manifest; a set, 5 min
    r:signing-keys                       the keys that sign tokens, encrypted: app/access/signing_keys.py
    r:fills                              the fills that run: worker → time and report, in JSON; a hash
    r:sampled:UPSTREAM:MINUTE            a worker has sampled the budget in that minute since 1970
    r:token:WHAT                         a Bearer token for an upstream, until it expires; WHAT: app/mirror/transport.py
    r:budget:UPSTREAM:ACCOUNT:SOURCE     the budget ledger, one hash: app/mirror/ledger.lua draws its fields
    r:source:UPSTREAM:ACCOUNT            the SOURCE of the newest ledger, for workers that have not asked the upstream
    r:unlimited:UPSTREAM:ACCOUNT         the upstream sent an image for which it stated no limit; a day
    r:counted:UPSTREAM:ACCOUNT:REPOSITORY
                                         whether the upstream counts pulls of its repository; 10 minutes
    r:machines:PLAN:DATE                 how many machines pulled a class's images, a HyperLogLog; a day
    r:lease:KIND:WHAT                    the id of the lease's holder; expires when it is no longer renewed
    r:login:WINDOW:ID                    failed log-ins: app/access/throttle.py spells these
    r:login-good:ID                      who has lately logged in from where, as a hash; a week
    r:session:ID                         a browser session: app/access/sessions.py spells these three
    r:sessions:ACCOUNT                   the ids of an account's sessions
    r:saml-sessions:HASH                 the ids of a SAML NameID's sessions
    r:saml-request:ID                    a log-in at the university under way: app/access/saml/university.py spells both
    r:saml-logout:ID                     a logout at the university under way

REPOSITORY is a full name. `Cache` puts ``r:`` before each key, so that other users of the server are not disturbed.
Every key has a time to live. A colon in a part could look like the part's end, so all parts except the last are
percent-encoded.
"""

from __future__ import annotations

from urllib.parse import quote

PREFIX = "r:"


def version(run: str, scope: str) -> str:
    return _key("version", run, scope)


def payload(slot: int) -> str:
    return _key("payload", str(slot))


def missing(repository: str, reference: str) -> str:
    return _key("missing", repository, reference)


def unusable(repository: str, reference: str) -> str:
    return _key("unusable", repository, reference)


def listing(project_id: int, upstream: str, what: str) -> str:
    """Return the key of an upstream's list; ``what`` is its path there."""
    return _key("listing", str(project_id), upstream, what)


def outsiders(upstream: str) -> str:
    return _key("outsiders", upstream)


def named(repository: str, digest: str) -> str:
    return _key("named", repository, digest)


def signing_keys() -> str:
    return "signing-keys"


def fills() -> str:
    return "fills"


def sampled(upstream: str, minute: int) -> str:
    return _key("sampled", upstream, str(minute))


def token(what: str) -> str:
    """Return the key of a token; ``what`` names upstream, account and scope, never a password."""
    return _key("token", what)


def budget(upstream: str, account: str, source: str) -> str:
    """Return the key of a ledger; the upstream counts ``source``: an address, an account's id, or ``-`` if unknown."""
    return _key("budget", upstream, account, source)


def budget_source(upstream: str, account: str) -> str:
    return _key("source", upstream, account)


def unlimited(upstream: str, account: str) -> str:
    return _key("unlimited", upstream, account)


def counted(upstream: str, account: str, repository: str) -> str:
    return _key("counted", upstream, account, repository)


def machines(plan_id: int, date: int) -> str:
    """Return the key of a plan's count on a date (Unix seconds)."""
    return _key("machines", str(plan_id), str(date))


def lease(kind: str, what: str) -> str:
    return _key("lease", kind, what)


def _key(*parts: str) -> str:
    return ":".join([*(quote(part, safe="/@ ") for part in parts[:-1]), parts[-1]])
