"""Every key that is kept in Redis.

    r:row:HASH                           a row of SQL (project, tag, manifest, blob) for the minute in which SQL may be
                                         away; HASH is of the question: app/database/snapshots.py
    r:missing:REPOSITORY:REFERENCE       an upstream's 404, for a minute
    r:unusable:REPOSITORY:REFERENCE      an upstream's manifest that could not be used, for as long as a tag is fresh
    r:named:REPOSITORY:DIGEST            the tags a HEAD of the upstream found for a manifest not had yet; a set, 5 min
    r:fills                              the fills that run: worker → when it said so, and which, in JSON; a hash
    r:sampled:UPSTREAM:MINUTE            that somebody has noted what the upstream allowed in that minute since 1970
    r:token:WHAT                         a Bearer token for an upstream, until it expires; WHAT: app/mirror/transport.py
    r:budget:UPSTREAM:ACCOUNT:SOURCE     the budget ledger, one hash: app/mirror/ledger.lua draws its fields
    r:source:UPSTREAM:ACCOUNT            the SOURCE of the ledger that was begun last, for who only looks
    r:lease:KIND:WHAT                    the id of the lease's holder, until it is renewed no more
    r:login:WINDOW:ID                    failed log-ins: app/access/throttle.py spells these
    r:session:ID                         a browser session: app/access/sessions.py spells these three
    r:sessions:ACCOUNT                   the ids of an account's sessions
    r:saml-sessions:HASH                 the ids of a SAML NameID's sessions
    r:saml-request:ID                    a log-in at the university under way: app/access/saml/university.py spells both
    r:saml-logout:ID                     a logout at the university under way

REPOSITORY is a full name. ``r:`` is put before each key by `Cache`, so that other users of the server are not
disturbed. Every key has a time to live. Parts are percent-encoded where a colon in them could be mistaken for the
end of the part; the last part never is.
"""

from __future__ import annotations

from urllib.parse import quote

PREFIX = "r:"


def missing(repository: str, reference: str) -> str:
    return _key("missing", repository, reference)


def unusable(repository: str, reference: str) -> str:
    return _key("unusable", repository, reference)


def named(repository: str, digest: str) -> str:
    return _key("named", repository, digest)


def fills() -> str:
    return "fills"


def sampled(upstream: str, minute: int) -> str:
    return _key("sampled", upstream, str(minute))


def token(what: str) -> str:
    """``what`` names upstream, account and scope; never a password."""
    return _key("token", what)


def budget(upstream: str, account: str, source: str) -> str:
    """``source`` is whom the upstream counts: an address, an account's id, or ``-`` where it does not say."""
    return _key("budget", upstream, account, source)


def budget_source(upstream: str, account: str) -> str:
    return _key("source", upstream, account)


def lease(kind: str, what: str) -> str:
    return _key("lease", kind, what)


def _key(*parts: str) -> str:
    return ":".join([*(quote(part, safe="/@ ") for part in parts[:-1]), parts[-1]])
