"""Read the images that a plan is to have from a pasted text, as the address helper reads it, for pages and the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.access.errors import Missing
from app.access.principal import Principal
from app.access.roles import CREATE_IMMUTABILITY, READ_PROJECT
from app.oci.errors import OCIError, Unauthorized
from app.oci.reference import Name, parse_reference
from app.plans.service import MOST_IMAGES, Proposal, Wanted

from .pages.addresses import AddressBook, Image, Outcome
from .services import Services


@dataclass(frozen=True, slots=True)
class Pasted:
    """The images of a text that can be planned, and those that cannot: they are not in any mirror here."""

    wanted: Sequence[Wanted]
    others: Sequence[Image]


async def read_plan(services: Services, principal: Principal, address: str, text: str) -> Pasted:
    """Find the images of a text that the principal may pull from mirrors; raises TooManyRequests, Unavailable."""
    book = AddressBook(services.host, services.mirrors)
    reading = await services.computations.run(address, book.read, text)
    wanted: dict[str, Wanted] = {}
    others = []
    for image in reading.images:
        found = await _wanted(services, principal, image)
        if found is None:
            others.append(image)
        elif len(wanted) <= MOST_IMAGES:
            wanted.setdefault(found.name, found)
    return Pasted(list(wanted.values()), others)


async def require_pins(services: Services, principal: Principal, proposal: Proposal) -> None:
    """Raise Forbidden if a plan is to pin tags in a mirror whose rules the principal may not make."""
    for project in sorted({image.project for image in proposal.images} if proposal.pin_until is not None else ()):
        await services.access_control.open(principal, project, CREATE_IMMUTABILITY)


async def _wanted(services: Services, principal: Principal, image: Image) -> Wanted | None:
    here = image.written if image.outcome is Outcome.ALREADY else image.address
    if here is None:
        return None
    path = here.partition("://")[2] or here
    path = path.removeprefix(f"{services.host}/")
    named, at, digest = path.partition("@")
    named, colon, tag = named.partition(":")
    try:
        name = Name.parse(named)
        reference = parse_reference(digest if at else tag if colon else "latest")
        view = await services.access_control.open(principal, name.project, READ_PROJECT)
    except (Missing, Unauthorized):
        return None
    except OCIError as error:
        if error.answer_status >= 500:
            raise
        return None
    if view.upstream is None or not name.repository:
        return None
    return Wanted(view.id, view.name, view.upstream, name.repository, str(reference))
