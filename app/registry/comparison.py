"""Compare two images: layers that both have and those of one only, settings, environment, labels and build steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.oci.manifest import Descriptor

from .artifacts import ArtifactDetail
from .image_details import ImageConfig


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs between the images; None if one of them lacks it."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences from one image to another; all in the images' own order.

    ``steps`` are those of the build which both begin with; ``old_steps`` and ``new_steps`` follow them.
    """

    shared: Sequence[Descriptor]
    removed: Sequence[Descriptor]
    added: Sequence[Descriptor]
    settings: Sequence[Change]
    environment: Sequence[Change]
    labels: Sequence[Change]
    steps: int
    old_steps: Sequence[str]
    new_steps: Sequence[str]


def compare(before: ArtifactDetail, after: ArtifactDetail) -> Comparison:
    """Compare two images; a config that is not here counts as an empty one."""
    old, new = (detail.config or ImageConfig() for detail in (before, after))
    had, has = ({layer.digest for layer in detail.layers} for detail in (before, after))
    old_steps, new_steps = _steps(old), _steps(new)
    same = 0
    while same < min(len(old_steps), len(new_steps)) and old_steps[same] == new_steps[same]:
        same += 1
    return Comparison(
        shared=[layer for layer in after.layers if layer.digest in had],
        removed=[layer for layer in before.layers if layer.digest not in has],
        added=[layer for layer in after.layers if layer.digest not in had],
        settings=_changes(_settings(old), _settings(new)),
        environment=_changes(_environment(old), _environment(new)),
        labels=_changes(old.labels or {}, new.labels or {}),
        steps=same,
        old_steps=old_steps[same:],
        new_steps=new_steps[same:],
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    return [
        Change(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _environment(config: ImageConfig) -> dict[str, str]:
    named = (entry.partition("=") for entry in config.env)
    return {name: value for name, _, value in named}


def _settings(config: ImageConfig) -> dict[str, str]:
    """Return how a container of the image runs, by the names of a config (OCI image-spec, config.md)."""
    values = {
        "Entrypoint": " ".join(config.entrypoint),
        "Cmd": " ".join(config.command),
        "User": config.user,
        "WorkingDir": config.working_dir,
        "ExposedPorts": " ".join(config.exposed_ports),
        "architecture": str(config.platform or ""),
        "author": config.author,
        "created": config.created,
    }
    return {name: value for name, value in values.items() if value}


def _steps(config: ImageConfig) -> list[str]:
    return [step.created_by or step.comment for step in config.history]
