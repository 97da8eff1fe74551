"""What pages draw and spell by themselves: the bar of layers, the plot of a budget, commands and set-ups."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.database.budget_samples import BudgetSample
from app.oci.digest import Digest
from app.oci.manifest import Descriptor
from app.web.pages import plot
from app.web.pages.addresses import AddressBook, Outcome
from app.web.pages.commands import pull_commands, push_commands
from app.web.pages.projects import split_size
from app.web.pages.repositories import draw
from app.web.pages.snippets import ways

HOST = "registry.hpc.ut.ee"
CLIENTS = (Path(__file__).parent.parent.parent / "docs" / "clients.md").read_text()


def layer(size: int) -> Descriptor:
    return Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(str(size).encode()), size)


@pytest.mark.parametrize("sizes", [[1], [0], [0, 0], [5, 1, 1], [10**12, 1, 1, 1], list(range(100))])
def test_layers_fill_the_bar_and_none_is_lost(sizes: list[int]) -> None:
    blocks = draw([layer(size) for size in sizes])
    assert len(blocks) == len(sizes)
    assert all(block.width > 0 for block in blocks)
    ends = [block.x + block.width for block in blocks]
    assert ends[-1] == pytest.approx(1000, abs=1)
    for end, following in zip(ends, blocks[1:], strict=False):
        assert following.x == pytest.approx(end, abs=0.02)


def test_a_greater_layer_is_wider() -> None:
    small, great = draw([layer(100), layer(900)])
    assert great.width > 5 * small.width


def test_no_layer_is_no_bar() -> None:
    assert draw([]) == []


def test_the_plot_runs_from_the_left_to_the_newest() -> None:
    drawn = plot.draw([BudgetSample(at, 100, 100 - at // 60) for at in range(0, 3600, 60)], 0, 3600)
    assert len(drawn.lines) == len(drawn.areas) == 1
    assert drawn.lines[0].startswith(f"M{drawn.left}.0,")
    assert drawn.last is not None
    assert drawn.left < drawn.last[0] <= drawn.right
    assert [tick.text for tick in drawn.down] == ["0", "50", "100"]


def test_where_nobody_knew_nothing_is_drawn() -> None:
    samples = [BudgetSample(at, 100, 50) for at in (*range(0, 3600, 60), *range(20_000, 23_600, 60))]
    assert len(plot.draw(samples, 0, 24_000).lines) == 2


def test_an_empty_plot_and_one_of_a_limit_of_nothing() -> None:
    assert plot.draw([], 0, 3600).last is None
    assert plot.draw([BudgetSample(60, 0, 0)], 0, 3600).last is not None


def test_a_week_of_samples_stays_small() -> None:
    drawn = plot.draw([BudgetSample(at, 200, 7) for at in range(0, 7 * 86400, 60)], 0, 7 * 86400)
    assert len("".join(drawn.lines)) < 12_000
    assert drawn.last is not None


@pytest.mark.parametrize(
    ("client", "numbers"),
    [("Docker", (0, 1, 2)), ("containerd", (0,)), ("podman", (0, 1)), ("k3s", (0,)), ("Apptainer", (0, 1)),
     ("GitLab CI", (0,))],
)  # fmt: skip
def test_a_set_up_is_what_the_tested_document_says(client: str, numbers: tuple[int, ...]) -> None:
    way = next(way for way in ways(f"https://{HOST}", "mirror", "https://mirror.hpc.ut.ee") if way.name == client)
    known = {re.sub(r"\s+", " ", line.strip()) for line in CLIENTS.splitlines()}
    for number in numbers:
        for line in way.snippets[number].text.splitlines():
            assert re.sub(r"\s+", " ", line.strip()) in known, line


def test_every_set_up_pulls_from_here_only() -> None:
    book = AddressBook(HOST, {"docker.io": "mirror"})
    for way in ways(f"https://{HOST}", "mirror", None):
        for snippet in way.snippets:
            if "docker.io:" not in snippet.text and "[[registry]]" not in snippet.text:
                found = book.read(snippet.text).images
                assert all(image.outcome is Outcome.ALREADY for image in found), (way.name, found)


def test_push_commands_are_harbor_s_four_kinds() -> None:
    assert [name for name, _ in push_commands(HOST, "lab")] == ["Docker", "podman", "Helm", "ORAS"]
    assert all(HOST in line for _, lines in push_commands(HOST, "lab") for line in lines if "package" not in line)


@pytest.mark.parametrize(
    ("kind", "reference", "first"),
    [
        ("image", ":1", f"docker pull {HOST}/lab/app:1"),
        ("index", "@sha256:ab", f"docker pull {HOST}/lab/app@sha256:ab"),
        ("chart", ":1.2.0", f"helm pull oci://{HOST}/lab/app --version 1.2.0"),
        ("application/vnd.example.sbom", ":1", f"oras pull {HOST}/lab/app:1"),
    ],
)
def test_pull_commands_go_with_the_kind(kind: str, reference: str, first: str) -> None:
    assert pull_commands(f"{HOST}/lab/app", reference, kind)[0][1] == first


@pytest.mark.parametrize(
    ("count", "split"),
    [(None, ("", "GiB")), (0, ("0", "GiB")), (5 * 1024**3, ("5", "GiB")), (1536 * 1024**2, ("1536", "MiB")),
     (2 * 1024**4, ("2", "TiB")), (1_500_000_000, ("1.397", "GiB"))],
)  # fmt: skip
def test_a_quota_goes_into_its_form(count: int | None, split: tuple[str, str]) -> None:
    assert split_size(count) == split
