"""Say in plain words why a request went as it did, and what an operator can do about it.

The texts are constants, so that a page can translate them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.database.requests import KeptRequest
from app.kit.words import mark

_SLOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cause of a request's end in a sentence or two, and the advice; `KeptRequest.why` has the names and times."""

    cause: str
    advice: str


_ACCOUNT = mark(
    "Give the upstream an account in upstreams.NAME.credentials, or wait. Cached images can still be pulled."
)
_UPSTREAM = mark("Try the upstream's address from this host with curl, and see its status page. Then pull again.")
_NONE = mark("Nothing, if the client meant something else. If not, it has to change its request as the reason says.")

# By the cause that an error has (`OCIError.cause`).
_BY_CAUSE: Mapping[str, Explanation] = {
    "budget spent": Explanation(
        mark("The upstream's limit on pulls is used up, so the registry did not ask it. The image was not cached."),
        _ACCOUNT,
    ),
    "budget share": Explanation(
        mark("Few pulls are left of the upstream's limit, and this client has had its share of them."), _ACCOUNT
    ),
    "budget busy": Explanation(
        mark("Few pulls are left of the upstream's limit. They are spent one at a time, and others came first."),
        _ACCOUNT,
    ),
    "budget blocked": Explanation(
        mark("The upstream has answered 429 and asked the registry to wait. That time is not over."), _ACCOUNT
    ),
    "upstream limit": Explanation(
        mark("The upstream itself answered with 429: it allows no more requests now."), _ACCOUNT
    ),
    "upstream down": Explanation(
        mark("The upstream did not answer, was late, or failed. The content was not cached."), _UPSTREAM
    ),
    "upstream page": Explanation(
        mark("Something between here and the upstream answered in its place: a firewall, a proxy or a portal."),
        _UPSTREAM,
    ),
    "upstream answer": Explanation(
        mark("The upstream's answer cannot be used. Bytes with a wrong digest or size are never passed on."),
        mark("Pull again. If it stays so, the upstream or a proxy on the way damages the content: tell its operators."),
    ),
    "upstream refusal": Explanation(
        mark("The upstream has no such image, or does not show it to this registry."),
        mark("Check the spelling. A private image needs an account of the project, in a private project."),
    ),
    "not cached": Explanation(
        mark("An anonymous client from outside fill_networks asked for content that is not cached."),
        mark("The client logs in. Or add its network to fill_networks, if it belongs to the site."),
    ),
    "database": Explanation(
        mark("The database did not answer, or could not be written."),
        mark("Run registry-admin status. Then see systemctl status postgresql, and its disk."),
    ),
    "disk": Explanation(
        mark("The registry's disk failed or is full."),
        mark("Run registry-admin status, and df -h. Lower cache_bytes of the mirrors, or add room."),
    ),
    "store": Explanation(
        mark("The object store did not answer, or refused the registry."),
        mark("Run registry-admin status. The journal has the store's reason: journalctl -u 'registry@*' -p warning."),
    ),
    "log-ins": Explanation(
        mark("Too many log-ins with a wrong password came from this address in a minute."),
        mark("Find the machine that still sends an old password. It may try again after a minute."),
    ),
    "quota": Explanation(
        mark("The project's quota has no room for what was pushed."),
        mark("The project's people delete images. Or allow them more in Administration, Projects."),
    ),
    "crowd": Explanation(
        mark("The client's address had too many connections or too large bodies in one worker."),
        mark("If the address is a proxy's, name it in server.trusted_proxies. If not, ask who runs the machine."),
    ),
    "fault": Explanation(
        mark("The registry itself failed: this is a fault in its program."),
        mark("Find the request's id in the journal: journalctl -u 'registry@*' -p err. Report what stands there."),
    ),
    "no worker": Explanation(
        mark("The web server had no worker that answered, or the object store failed it in the middle."),
        mark("Run registry-admin status, and see journalctl -u 'registry@*' -p warning."),
    ),
}

_TOO_LARGE = Explanation(mark("The client sent more than the registry takes at once."), _NONE)

# By the code of the answer, if its error has no cause of its own.
_BY_CODE: Mapping[str, Explanation] = {
    "UNAUTHORIZED": Explanation(
        mark("The client may not do this, or showed a wrong user name, password or token."),
        mark(
            "Check the name and secret, and whether the account is a member of the project. Outsiders are not told "
            "whether a private project exists."
        ),
    ),
    "DENIED": Explanation(mark("The client is known, but a rule does not allow this."), _NONE),
    "NAME_UNKNOWN": Explanation(
        mark("There is no such project or repository here."),
        mark("Check the spelling of the name in the client's command."),
    ),
    "MANIFEST_UNKNOWN": Explanation(
        mark("The repository has no such tag or image, here or at the upstream."),
        mark("Check the spelling of the tag. At an upstream it may have been removed."),
    ),
    "BLOB_UNKNOWN": Explanation(
        mark("The repository has no such layer, or its bytes are missing from the store."),
        mark("If the reason says missing, restore them from the backup. If not, push the image again."),
    ),
    "TOOMANYREQUESTS": Explanation(
        mark("The client did too much at once."), mark("It waits for as long as Retry-After says, and tries again.")
    ),
    "UNAVAILABLE": Explanation(
        mark("A part that this request needs was not available, or the worker was being stopped."),
        mark("Run registry-admin status. Then try again."),
    ),
}
_OTHER = Explanation(mark("The request was not as the registry or the specification needs it."), _NONE)

_LEFT = Explanation(mark("The client left before the answer."), mark("If its time-out is short, let it wait longer."))
# By the phase that took the most time.
_SLOW: Mapping[str, Explanation] = {
    "upstream": Explanation(
        mark("The upstream, or the line to it, was slow. Most of the time was spent waiting for its bytes."), _UPSTREAM
    ),
    "queue": Explanation(mark("The request waited for its turn to spend one of the upstream's pulls."), _ACCOUNT),
    "db": Explanation(
        mark("The database was slow."), mark("See log_min_duration_statement of PostgreSQL, and its disk.")
    ),
    "store": Explanation(
        mark("The store of blobs was slow."), mark("See the disk, or the object store and the line to it.")
    ),
    "auth": Explanation(
        mark("It took long to check who calls."),
        mark("See the load of the host: passwords are checked one after the other."),
    ),
}
_CLIENT = Explanation(mark("The client took the bytes slowly."), mark("Nothing here. See the client's line."))
_BUSY = Explanation(mark("No part was slow: the worker was busy, or waited."), mark("See the load of the host."))
_FILLED = Explanation(
    mark("It succeeded. The content was not cached, so this request fetched it from the upstream."), mark("Nothing.")
)
_FINE = Explanation(mark("It succeeded."), mark("Nothing."))


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
