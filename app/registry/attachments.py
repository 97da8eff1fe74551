"""Find what is attached to images: signatures, SBOMs and provenance, in each of the ways in which clients attach them.

- A manifest that names the image as its subject (referrers): cosign 3, Notation, ORAS.
- A tag whose name is the image's digest: ``sha256-HEX.sig``, ``.att`` and ``.sbom`` (cosign until 2).
- A manifest in the image's own index, beside the platforms (BuildKit).

Nothing here is verified. A badge says that something is attached, and a client with a key says whether it is right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from app.database import Transaction, artifacts
from app.database.artifacts import ATTACHING_ENDINGS, LISTED_BYTES

from .image_details import Child, children_of, words_of

# Of one image, in each of the ways.
_MOST = 20


class Purpose(StrEnum):
    """The use of an attachment."""

    SIGNATURE = "signature"
    SBOM = "SBOM"
    PROVENANCE = "provenance"
    OTHER = "other"


# A part of a type, of a predicate's address or of a file's name, what it stands for, and its own name.
_KNOWN: tuple[tuple[str, Purpose, str], ...] = (
    ("spdx", Purpose.SBOM, "SPDX"),
    ("cyclonedx", Purpose.SBOM, "CycloneDX"),
    ("syft", Purpose.SBOM, "Syft"),
    ("slsa.dev/provenance", Purpose.PROVENANCE, "SLSA"),
    ("cncf.notary.signature", Purpose.SIGNATURE, "Notation"),
    ("cosign.simplesigning", Purpose.SIGNATURE, "cosign"),
    ("cosign.artifact.sig", Purpose.SIGNATURE, "cosign"),
    ("sigstore.dev/cosign/sign", Purpose.SIGNATURE, "cosign"),
    ("message-signature", Purpose.SIGNATURE, "cosign"),
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A manifest that is attached to an image. One may hold several things, so it may have several purposes.

    ``names`` are the formats that it is known by. ``tag`` is the tag that attaches it, "" if none does. ``size`` is the
    manifest's in bytes.
    """

    digest: str
    media_type: str
    artifact_type: str
    size: int
    tag: str = ""
    purposes: tuple[Purpose, ...] = (Purpose.OTHER,)
    names: tuple[str, ...] = ()


async def attachments(
    transaction: Transaction, repository_id: int, images: Mapping[str, bytes]
) -> dict[str, list[Attachment]]:
    """List the first few attachments of each image; ``images`` maps digests to payloads."""
    found: dict[str, dict[str, Attachment]] = {digest: {} for digest in images}
    for subject, one in await artifacts.attached(transaction, repository_id, images, _MOST):
        found[subject][one.digest] = Attachment(one.digest, one.media_type, one.artifact_type or "", one.size)
    for digest, payload in images.items():
        for child in attestations(children_of(payload))[:_MOST]:
            found[digest][child.digest] = Attachment(child.digest, child.media_type, "", child.size)
    for digest, tagged in await _tagged(transaction, repository_id, images):
        found[digest].setdefault(tagged.digest, tagged)
    digests = {digest for each in found.values() for digest in each}
    payloads = await artifacts.payloads(transaction, repository_id, digests, LISTED_BYTES)
    return {
        image: [_recognised(one, words_of(payloads.get(one.digest, b""))) for one in each.values()]
        for image, each in found.items()
    }


async def _tagged(
    transaction: Transaction, repository_id: int, images: Collection[str]
) -> list[tuple[str, Attachment]]:
    named = {
        f"{image.replace(':', '-')}{ending}": image for image in images for ending in filter(None, ATTACHING_ENDINGS)
    }
    tags = {tag.digest: tag.name for tag in await artifacts.named_tags(transaction, repository_id, named)}
    rows = await artifacts.some(transaction, repository_id, tags)
    return [
        (
            named[tags[row.digest]],
            Attachment(row.digest, row.media_type, row.artifact_type or "", row.size, tags[row.digest]),
        )
        for row in rows
    ]


def attestations(children: Iterable[Child]) -> list[Child]:
    """Return the entries of an index that BuildKit put beside its images."""
    return [child for child in children if child.attests]


def _recognised(one: Attachment, words: Iterable[str]) -> Attachment:
    text = " ".join((one.artifact_type, *words)).lower()
    known = [(purpose, name) for part, purpose, name in _KNOWN if part in text]
    if not known and (one.tag.endswith(".sig") or "sigstore.bundle" in text):
        known = [(Purpose.SIGNATURE, "cosign")]
    if not known and one.tag.endswith(".sbom"):
        known = [(Purpose.SBOM, "")]
    if not known:
        return one
    purposes, names = (tuple(dict.fromkeys(filter(None, each))) for each in zip(*known, strict=True))
    return replace(one, purposes=purposes, names=names)
