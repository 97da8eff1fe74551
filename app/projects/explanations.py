"""Say in plain words why a request went as it did, and what an operator can do about it.

The texts are constants, so that a page can translate them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.database.requests import KeptRequest

_SLOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cause of a request's end in a sentence or two, and the advice; `KeptRequest.why` has the names and times."""

    cause: str
    advice: str


_ACCOUNT = "Give the upstream an account in upstreams.NAME.credentials, or wait. Cached images can still be pulled."
_UPSTREAM = "Try the upstream's address from this host with curl, and see its status page. Then pull again."
_NONE = "Nothing, if the client meant something else. If not, it has to change its request as the reason says."

# By the cause that an error has (`OCIError.cause`).
_BY_CAUSE: Mapping[str, Explanation] = {
    "budget spent": Explanation(
        "The upstream's limit on pulls is used up, so the registry did not ask it. The image was not cached.", _ACCOUNT
    ),
    "budget share": Explanation(
        "Few pulls are left of the upstream's limit, and this client has had its share of them.", _ACCOUNT
    ),
    "budget busy": Explanation(
        "Few pulls are left of the upstream's limit. They are spent one at a time, and others came first.", _ACCOUNT
    ),
    "budget blocked": Explanation(
        "The upstream has answered 429 and asked the registry to wait. That time is not over.", _ACCOUNT
    ),
    "upstream limit": Explanation("The upstream itself answered with 429: it allows no more requests now.", _ACCOUNT),
    "upstream down": Explanation(
        "The upstream did not answer, was late, or failed. The content was not cached.", _UPSTREAM
    ),
    "upstream page": Explanation(
        "Something between here and the upstream answered in its place: a firewall, a proxy or a portal.", _UPSTREAM
    ),
    "upstream answer": Explanation(
        "The upstream's answer cannot be used. Bytes with a wrong digest or size are never passed on.",
        "Pull again. If it stays so, the upstream or a proxy on the way damages the content: tell its operators.",
    ),
    "upstream refusal": Explanation(
        "The upstream has no such image, or does not show it to this registry.",
        "Check the spelling. A private image needs an account of the project, in a private project.",
    ),
    "not cached": Explanation(
        "An anonymous client from outside fill_networks asked for content that is not cached.",
        "The client logs in. Or add its network to fill_networks, if it belongs to the site.",
    ),
    "database": Explanation(
        "The database did not answer, or could not be written.",
        "Run registry-admin status. Then see systemctl status postgresql, and its disk.",
    ),
    "disk": Explanation(
        "The registry's disk failed or is full.",
        "Run registry-admin status, and df -h. Lower cache_bytes of the mirrors, or add room.",
    ),
    "store": Explanation(
        "The object store did not answer, or refused the registry.",
        "Run registry-admin status. The journal has the store's reason: journalctl -u 'registry@*' -p warning.",
    ),
    "log-ins": Explanation(
        "Too many log-ins with a wrong password came from this address in a minute.",
        "Find the machine that still sends an old password. It may try again after a minute.",
    ),
    "quota": Explanation(
        "The project's quota has no room for what was pushed.",
        "The project's people delete images. Or allow them more in Administration, Projects.",
    ),
    "crowd": Explanation(
        "The client's address had too many connections or too large bodies in one worker.",
        "If the address is a proxy's, name it in server.trusted_proxies. If not, ask who runs the machine.",
    ),
    "fault": Explanation(
        "The registry itself failed: this is a fault in its program.",
        "Find the request's id in the journal: journalctl -u 'registry@*' -p err. Report what stands there.",
    ),
    "no worker": Explanation(
        "The web server had no worker that answered, or the object store failed it in the middle.",
        "Run registry-admin status, and see journalctl -u 'registry@*' -p warning.",
    ),
}

_TOO_LARGE = Explanation("The client sent more than the registry takes at once.", _NONE)

# By the code of the answer, if its error has no cause of its own.
_BY_CODE: Mapping[str, Explanation] = {
    "UNAUTHORIZED": Explanation(
        "Who asked may not do this, or showed a wrong user name, password or token.",
        "Check the name and secret, and whether the account is a member of the project. Outsiders are not told whether "
        "a private project exists.",
    ),
    "DENIED": Explanation("Who asked is known, but a rule does not allow this.", _NONE),
    "NAME_UNKNOWN": Explanation(
        "There is no such project or repository here.", "Check the spelling of the name in the client's command."
    ),
    "MANIFEST_UNKNOWN": Explanation(
        "The repository has no such tag or image, here or at the upstream.",
        "Check the spelling of the tag. At an upstream it may have been removed.",
    ),
    "BLOB_UNKNOWN": Explanation(
        "The repository has no such layer, or its bytes are missing from the store.",
        "If the reason says missing, restore them from the backup. If not, push the image again.",
    ),
    "TOOMANYREQUESTS": Explanation(
        "The client did too much at once.", "It waits for as long as Retry-After says, and tries again."
    ),
    "UNAVAILABLE": Explanation(
        "A part that this request needs was not available, or the worker was being stopped.",
        "Run registry-admin status. Then try again.",
    ),
}
_OTHER = Explanation("The request was not as the registry or the specification needs it.", _NONE)

_LEFT = Explanation("The client left before the answer.", "If its time-out is short, let it wait longer.")
# By the phase that took the most time.
_SLOW: Mapping[str, Explanation] = {
    "upstream": Explanation(
        "The upstream, or the line to it, was slow. Most of the time was spent waiting for its bytes.", _UPSTREAM
    ),
    "queue": Explanation("The request waited for its turn to spend one of the upstream's pulls.", _ACCOUNT),
    "db": Explanation("The database was slow.", "See log_min_duration_statement of PostgreSQL, and its disk."),
    "store": Explanation("The store of blobs was slow.", "See the disk, or the object store and the line to it."),
    "auth": Explanation(
        "It took long to check who calls.", "See the load of the host: passwords are checked one after the other."
    ),
}
_CLIENT = Explanation("The client took the bytes slowly.", "Nothing here. See the client's line.")
_BUSY = Explanation("No part was slow: the worker was busy, or waited.", "See the load of the host.")
_FILLED = Explanation(
    "It succeeded. The content was not cached, so this request fetched it from the upstream.", "Nothing."
)
_FINE = Explanation("It succeeded.", "Nothing.")


def explain(request: KeptRequest) -> Explanation:
    """Return why a request went as it did."""
    if request.outcome in ("refused", "failed", "challenged", "absent"):
        if request.cause in _BY_CAUSE:
            return _BY_CAUSE[request.cause]
        return _TOO_LARGE if request.status == 413 else _BY_CODE.get(request.code, _OTHER)
    waited = {phase: seconds for phase, seconds in request.phases.items() if phase in _SLOW}
    longest = max(waited, key=lambda phase: waited[phase], default="")
    if request.seconds >= _SLOW_SECONDS:
        if longest and waited[longest] >= request.seconds / 3:
            return _SLOW[longest]
        if request.outcome == "left":
            return _LEFT
        return _BUSY if request.phases.get("answer", 0.0) >= request.seconds / 2 else _CLIENT
    if request.outcome == "left":
        return _LEFT
    return _FILLED if request.outcome == "filled" else _FINE
