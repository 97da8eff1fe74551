"""A repository's page: its tags, the selection, what is attached, what it says about itself and how it is pulled."""

from __future__ import annotations

import io
import json
import re
import secrets
import tarfile
import uuid

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry
from tests.api.documents import EMPTY, EMPTY_TYPE, descriptor, document
from tests.images import OCI_INDEX, OCI_MANIFEST, Image, digest_of, multi, single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Visitor

pytestmark = pytest.mark.usefixtures("clean_log")

SOURCE = "https://github.com/example/aligner"
README = """\
# Aligner

Aligns **reads**. ![logo](https://example.org/logo.png) <script>alert(1)</script>

| option | means |
|---|---|
| `-t` | threads |
"""


@pytest.fixture(scope="module")
def owner(stage: Service) -> Registry:
    return Registry(stage.host, stage.username, stage.password)


@pytest.fixture(scope="module")
def project(stage: Service, owner: Registry) -> str:
    """A public project with an image of many tags, a signed one with an SBOM, and a chart."""
    name = f"shared-{uuid.uuid4().hex[:6]}"
    admin = Person(stage.host).log_in(stage.username, stage.password)
    assert admin.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "public"}).status == 303
    nightly = single("nightly", sizes=(2_000,))
    owner.push_image(f"{name}/nightly", "n000", nightly)
    for number in range(1, 60):
        owner.put_manifest(f"{name}/nightly", f"n{number:03}", nightly.payload, nightly.media_type)
    signed(owner, f"{name}/aligner")
    chart = with_config("application/vnd.cncf.helm.config.v1+json")
    owner.push_image(f"{name}/chart", "1.2.3_build.7", chart)
    return name


def with_config(media_type: str, **annotations: str) -> Image:
    payload = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, config=descriptor(EMPTY, media_type), layers=[descriptor(EMPTY)],
        annotations=annotations,
    )  # fmt: skip
    return Image({digest_of(EMPTY): EMPTY}, {digest_of(payload): (OCI_MANIFEST, payload)}, digest_of(payload))


def signed(owner: Registry, name: str) -> None:
    index = multi("aligner", sizes=(2_000, 9_000))
    document_ = json.loads(index.payload)
    document_["annotations"] = {
        "org.opencontainers.image.source": SOURCE,
        "org.opencontainers.image.revision": "0123456789abcdef0123456789abcdef01234567",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.description": "Aligns reads to a genome",
    }
    payload = json.dumps(document_).encode()
    image = Image(index.blobs, {**index.manifests, digest_of(payload): (index.media_type, payload)}, digest_of(payload))
    owner.push_image(name, "2.0", image)
    owner.push_blob(name, EMPTY)
    attached = image.digest.replace(":", "-")
    subject = {"mediaType": image.media_type, "digest": image.digest, "size": len(payload)}
    for tag, more in (
        (f"{attached}.sig", {"layers": [descriptor(EMPTY, "application/vnd.dev.cosign.simplesigning.v1+json")]}),
        ("", {"artifactType": "application/spdx+json", "subject": subject, "layers": [descriptor(EMPTY)]}),
    ):
        manifest = document(schemaVersion=2, mediaType=OCI_MANIFEST, config=descriptor(EMPTY, EMPTY_TYPE), **more)
        owner.put_manifest(name, tag or digest_of(manifest), manifest, OCI_MANIFEST)


def shown(visitor: Visitor) -> list[str]:
    return visitor.page.locator("table.list tbody td.name > a").all_inner_texts()


def test_tags_are_sorted_searched_and_jumped_to(visitor: Visitor, project: str) -> None:
    newest = [f"n{number:03}" for number in range(59, -1, -1)]
    at = f"/projects/{project}/repositories/nightly"
    visitor.go(at)
    assert shown(visitor) == newest[:25]
    expect(visitor.page.locator(".choice")).to_contain_text("Tags 60")
    visitor.page.get_by_label("Page", exact=True).fill("3")
    visitor.page.get_by_label("Page", exact=True).press("Enter")
    visitor.page.wait_for_url("**page=3**")
    assert shown(visitor) == newest[50:]
    visitor.click("Previous", role="link").page.wait_for_url("**before=**")
    assert shown(visitor) == newest[25:50]
    assert visitor.page.get_by_label("Page", exact=True).input_value() == "2"
    visitor.click("Pushed", role="link").page.wait_for_url("**sort=oldest**")
    assert shown(visitor) == newest[::-1][:25]
    visitor.click("Tag", role="link").page.wait_for_url("**sort=name**")
    assert shown(visitor) == sorted(newest)[:25]
    visitor.click("Next", role="link").page.wait_for_url("**after=**")
    assert shown(visitor) == sorted(newest)[25:50]
    visitor.click("Tag", role="link").page.wait_for_url("**sort=-name**")
    assert shown(visitor) == newest[:25]
    visitor.fill("Search by tag", "n01").page.keyboard.press("Enter")
    visitor.page.wait_for_url("**q=n01**")
    assert shown(visitor) == [f"n01{number}" for number in range(9, -1, -1)]
    visitor.go(f"{at}?page=999")
    assert shown(visitor) == newest[:25], "there is no such page, so it is the first"


def test_the_selection_is_copied_retagged_and_removed(admin: Visitor, owner: Registry, project: str) -> None:
    admin.go(f"/projects/{project}/repositories/nightly?q=n02")
    for tag in ("n021", "n022"):
        admin.page.get_by_label(f"Select {tag}").check()
    admin.click("Copy addresses")
    copied = admin.page.evaluate("navigator.clipboard.readText()")
    assert [line.rpartition("/")[2] for line in copied.splitlines()] == ["nightly:n022", "nightly:n021"]
    admin.open("Add tag").fill("New tag for the artifact of the selected one", "stable").click("Add tag")
    assert "Select one tag" in admin.told()
    assert admin.page.url.endswith("?q=n02")
    admin.page.get_by_label("Select n021").check()
    admin.open("Add tag").fill("New tag for the artifact of the selected one", "stable").click("Add tag")
    assert "The tag stable is added." in admin.told()
    admin.page.get_by_label("Select all on this page").check()
    expect(admin.page.locator("[data-selected]")).to_have_text("10")
    admin.confirm("Delete tags")
    assert "10 tags are removed." in admin.told()
    tags = owner.tags(f"{project}/nightly")
    assert "stable" in tags
    assert not any(tag.startswith("n02") for tag in tags)
    admin.go(f"/projects/{project}/repositories/nightly").open("Delete tags").click("Delete tags")
    assert "Select tags in the list first." in admin.told()


def test_a_tag_that_has_moved_since_is_not_removed(stage: Service, owner: Registry, project: str) -> None:
    admin = Person(stage.host).log_in(stage.username, stage.password)
    old, new = (single(f"moved {which}", sizes=(300,)) for which in ("old", "new"))
    owner.push_image(f"{project}/moved", "1", old)
    owner.push_image(f"{project}/moved", "1", new)
    at = f"/projects/{project}/remove-tags/moved"
    assert admin.message(admin.post(at, {"tag": f"1@{old.digest}"})).startswith("danger")
    assert owner.tags(f"{project}/moved") == ["1"]
    assert admin.message(admin.post(at, {"tag": f"1@{new.digest}"})).startswith("success")


def test_what_is_attached_folds_under_its_image(visitor: Visitor, project: str) -> None:
    visitor.go(f"/projects/{project}/repositories/aligner")
    assert shown(visitor) == ["2.0"]
    fold = visitor.row("2.0").locator("details.attached")
    expect(fold.locator("summary .mark")).to_have_text(["Signed", "SBOM"])
    fold.locator("summary").click()
    expect(fold.locator("li")).to_have_count(2)
    expect(fold).to_contain_text("SPDX")
    visitor.screen("repository-attached").click("2.0", role="link")
    expect(visitor.page.get_by_text("Attached: signatures, SBOMs, provenance")).to_be_visible()
    platforms = visitor.page.locator(".card", has=visitor.page.get_by_role("heading", name="Platforms")).locator(
        "tbody tr"
    )
    expect(platforms).to_have_count(2)
    assert all("KiB" in text for text in platforms.all_inner_texts())


def test_a_repository_says_what_it_is(admin: Visitor, visitor: Visitor, project: str) -> None:
    at = f"/projects/{project}/repositories/aligner"
    visitor.go(at)
    expect(visitor.page.locator(".sub-head")).to_contain_text("Aligns reads to a genome")
    about = visitor.page.locator(".facts")
    expect(about).to_contain_text("Apache-2.0")
    assert about.get_by_role("link", name="github.com/example/aligner").get_attribute("href") == SOURCE
    assert about.get_by_role("link", name="0123456789ab").get_attribute("href") == (
        f"{SOURCE}/commit/0123456789abcdef0123456789abcdef01234567"
    )
    admin.go(at).open("Edit description").fill("Description", README).click("Save")
    visitor.go(at)
    readme = visitor.page.locator(".readme")
    expect(readme.get_by_role("heading", name="Aligner")).to_be_visible()
    expect(readme.locator("td")).to_have_text(["-t", "threads"])
    assert readme.locator("img, script").count() == 0
    expect(readme).to_contain_text("<script>alert(1)</script>")
    visitor.screen("repository-readme")


@pytest.mark.parametrize(
    ("repository", "lines"),
    [
        ("aligner:2.0", ["docker pull AT", "podman pull AT", "apptainer pull docker://AT", "ch-image pull AT",
                         "FROM AT", "process.container = 'AT'", 'container: "docker://AT"']),
        ("chart:1.2.3_build.7", ["helm pull oci://BASE --version 1.2.3+build.7",
                                 "helm install NAME oci://BASE --version 1.2.3+build.7", "oras pull AT"]),
    ],
)  # fmt: skip
def test_the_commands_for_every_client(
    visitor: Visitor, stage: Service, project: str, repository: str, lines: list[str]
) -> None:
    at = f"{stage.host}/{project}/{repository}"
    expected = [line.replace("AT", at).replace("BASE", at.rpartition(":")[0]) for line in lines]
    for path in (repository, repository.partition(":")[0]):
        visitor.go(f"/projects/{project}/repositories/{path}")
        shown_lines = visitor.page.locator(".card-body > .copy-line code").all_inner_texts()
        assert [line for line in shown_lines if line in expected] == expected


def test_an_image_shows_its_environment_and_labels(visitor: Visitor, owner: Registry, project: str) -> None:
    config = json.dumps({"os": "linux", "architecture": "amd64",
                         "config": {"Env": ["LANG=C.UTF-8"], "Labels": {"maintainer": "mari"}}}).encode()  # fmt: skip
    payload = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, layers=[descriptor(EMPTY)],
        config=descriptor(config, "application/vnd.oci.image.config.v1+json"),
    )  # fmt: skip
    blobs = {digest_of(data): data for data in (config, EMPTY)}
    image = Image(blobs, {digest_of(payload): (OCI_MANIFEST, payload)}, digest_of(payload))
    owner.push_image(f"{project}/configured", "1", image)
    visitor.go(f"/projects/{project}/repositories/configured:1").open("Environment").open("Labels of the image")
    expect(visitor.page.locator(".facts-stacked").first).to_contain_text("C.UTF-8")
    expect(visitor.page.get_by_text("maintainer")).to_be_visible()


def test_artifacts_without_a_tag_have_a_list_of_their_own(visitor: Visitor, owner: Registry, project: str) -> None:
    image = single("untagged", sizes=(300,))
    for data in image.blobs.values():
        owner.push_blob(f"{project}/untagged", data)
    owner.put_manifest(f"{project}/untagged", image.digest, image.payload, image.media_type)
    visitor.go(f"/projects/{project}/repositories/untagged")
    expect(visitor.page.locator("table.list tbody tr")).to_have_count(1)
    expect(visitor.page.locator("table.list")).to_contain_text(image.digest[:19])
    visitor.go(f"/projects/{project}/repositories/nightly").page.locator(".choice a", has_text="Artifacts").click()
    visitor.page.wait_for_url("**show=artifacts")
    expect(visitor.page.locator("table.list tbody tr")).to_have_count(1)


def test_no_page_of_a_long_list_is_heavy(stage: Service, owner: Registry, project: str) -> None:
    """Under 100 kB of HTML with the longest tags, for somebody who has every control."""
    image = single("heavy", sizes=(300,))
    name = f"{project}/{'r' * 60}/{'s' * 60}"
    owner.push_image(name, "t" * 126 + "00", image)
    for number in range(1, 26):
        owner.put_manifest(name, "t" * 126 + f"{number:02}", image.payload, image.media_type)
    admin = Person(stage.host).log_in(stage.username, stage.password)
    page = admin.get(f"/projects/{project}/repositories/{'r' * 60}/{'s' * 60}")
    assert len(page.text.encode()) < 100_000


def test_no_page_of_an_artifact_is_heavy(visitor: Visitor, stage: Service, owner: Registry, project: str) -> None:
    """Whatever an image says about itself, however often and at whatever length."""
    long = '<"&é' * 200
    run = {"Env": [f"N{number}={long}" for number in range(300)], "Entrypoint": [long] * 50, "User": long,
           "Labels": {f"l{number}": long for number in range(300)}}  # fmt: skip
    history = [{"created_by": long} for _ in range(300)]
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": run, "author": long, "history": history})
    blobs = {digest_of(data): data for data in (config.encode(), EMPTY)}
    payload = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, layers=[descriptor(EMPTY)] * 300,
        config=descriptor(config.encode(), "application/vnd.oci.image.config.v1+json"),
        annotations={f"a{number}": long for number in range(50)},
    )  # fmt: skip
    heavy = Image(blobs, {digest_of(payload): (OCI_MANIFEST, payload)}, digest_of(payload))
    owner.push_image(f"{project}/heavy", "1", heavy)
    entries = [
        descriptor(payload, OCI_MANIFEST, platform={"os": "linux", "architecture": f"a{number}"})
        for number in range(300)
    ]
    index = document(schemaVersion=2, mediaType=OCI_INDEX, manifests=entries)
    owner.put_manifest(f"{project}/heavy", "many", index, OCI_INDEX)
    person = Person(stage.host)
    for path in ("heavy", f"heavy@{heavy.digest}", f"heavy@{digest_of(index)}", "heavy?show=artifacts"):
        answer = person.get(f"/projects/{project}/repositories/{path}")
        assert answer.status == 200
        assert len(answer.text.encode()) < 100_000, path


def push_chart(owner: Registry, repository: str, files: dict[str, bytes], **said: object) -> str:
    """Push a chart as Helm does, and give its digest; ``said`` is its Chart.yaml."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    config, archive = json.dumps(said).encode(), packed.getvalue()
    payload = document(
        schemaVersion=2, mediaType=OCI_MANIFEST,
        config=descriptor(config, "application/vnd.cncf.helm.config.v1+json"),
        layers=[descriptor(archive, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
    )  # fmt: skip
    blobs = {digest_of(data): data for data in (config, archive)}
    chart = Image(blobs, {digest_of(payload): (OCI_MANIFEST, payload)}, digest_of(payload))
    owner.push_image(repository, "1.0.0_build.1", chart)
    return chart.digest


def test_a_chart_shows_its_values_readme_and_dependencies(visitor: Visitor, owner: Registry, project: str) -> None:
    readme = b"# Web\n\n<script>alert(1)</script> ![x](https://example.org/x.png)\n"
    push_chart(
        owner, f"{project}/web", {"web/values.yaml": b"replicas: <2>", "web/README.md": readme},
        name="web", version="1.0.0+build.1", appVersion="9", description="A <b>web</b> server",
        home="javascript:alert(1)",
        dependencies=[{"name": "postgresql", "version": "~15", "repository": "oci://example.org/charts"}],
    )  # fmt: skip
    visitor.go(f"/projects/{project}/repositories/web:1.0.0_build.1")
    expect(visitor.page.locator(".copy-line code").first).to_have_text(
        re.compile(r"helm pull .* --version 1\.0\.0\+build\.1")
    )
    expect(visitor.row("postgresql")).to_contain_text("oci://example.org/charts")
    expect(visitor.page.get_by_text("A <b>web</b> server")).to_be_visible()
    assert visitor.page.locator("a[href^='javascript']").count() == 0
    assert "replicas" not in visitor.text()
    visitor.click("Show the values and the README", role="link")
    expect(visitor.page.locator("#values")).to_have_text("replicas: <2>")
    chart = visitor.page.locator(".readme")
    expect(chart.get_by_role("heading", name="Web")).to_be_visible()
    assert chart.locator("script, img").count() == 0
    visitor.screen("chart")


def test_a_chart_that_cannot_be_read_says_so(stage: Service, owner: Registry, project: str) -> None:
    """An archive that is too large is not read at all, and no page of a chart is heavy."""
    person, at = Person(stage.host), f"/projects/{project}/repositories"
    large = push_chart(owner, f"{project}/large", {"x/values.yaml": secrets.token_bytes(5_000_000)}, name="x")
    answer = person.get(f"{at}/large@{large}?show=files")
    assert (answer.status, "only 4.0 MiB are read here" in answer.text) == (412, True)
    text = ('<"&' * 40 + "\n").encode() * 3000
    heavy = push_chart(
        owner, f"{project}/heavy-chart", {"x/values.yaml": text, "x/README.md": b"|a|b|\n|-|-|\n" + b"|" * 60_000},
        name="x", dependencies=[{"name": "<" * 500, "version": "<" * 500, "repository": "<" * 500}] * 100,
    )  # fmt: skip
    answer = person.get(f"{at}/heavy-chart@{heavy}?show=files")
    assert (answer.status, "values.yaml" in answer.text) == (200, True)
    assert len(answer.text.encode()) < 100_000
