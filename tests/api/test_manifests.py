"""``/v2/<name>/manifests/<reference>``: push, pull, tags in the query, and delete."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import Answer, Registry, digest_of, expect, location, refused
from tests.api.documents import (
    CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY,
    EMPTY_TYPE,
    OCI_INDEX,
    OCI_MANIFEST,
    buildkit_cache,
    descriptor,
    document,
    fresh,
    image,
    index,
)
from tests.images import Style, multi, single

LIMIT = 4 * 1024 * 1024


@pytest.fixture
def parts(admin: Registry, name: str) -> tuple[bytes, bytes]:
    """Two layers in the repository, beside the empty config."""
    layers = fresh(), fresh()
    for data in (EMPTY, *layers):
        admin.push_blob(name, data)
    return layers


def created(answer: Answer, name: str, digest: str) -> None:
    expect(answer, 201)
    assert answer["Docker-Content-Digest"] == digest
    assert location(answer) == f"/v2/{name}/manifests/{digest}"
    assert answer.get("OCI-Subject") is None


@pytest.mark.parametrize("style", ["oci", "docker"])
@pytest.mark.parametrize("build", [single, multi])
def test_images(admin: Registry, outsider: Registry, name: str, style: Style, build: Any) -> None:
    picture = build(f"manifests {style}", style=style)
    admin.push_image(name, "v1", picture)
    pulled = outsider.pull_image(name, "v1")
    assert pulled == {
        **picture.blobs,
        **{digest: payload for digest, (_, payload) in picture.manifests.items()},
    }
    for digest, (media_type, payload) in picture.manifests.items():
        answer = expect(outsider.manifest(name, digest), 200)
        assert answer["Content-Type"] == media_type
        assert answer.body == payload


def test_by_tag_and_by_digest(admin: Registry, outsider: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
    payload = image(*parts)
    digest = digest_of(payload)
    created(admin.put_manifest(name, "latest", payload, OCI_MANIFEST), name, digest)
    created(admin.put_manifest(name, digest, payload, OCI_MANIFEST), name, digest)
    for reference in ("latest", digest):
        answer = expect(outsider.manifest(name, reference), 200)
        assert answer.body == payload
        assert answer["Docker-Content-Digest"] == digest
        assert answer["Content-Type"] == OCI_MANIFEST
        assert answer["ETag"] == f'"{digest}"'
        head = expect(outsider.call("HEAD", f"/v2/{name}/manifests/{reference}"), 200)
        assert head["Content-Length"] == str(len(payload))
        assert unvarying(head) == unvarying(answer)


def unvarying(answer: Answer) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.headers.items() if name not in ("Date", "X-Request-Id")]


def test_under_sha512(admin: Registry, name: str) -> None:
    layer = fresh()
    for data in (EMPTY, layer):
        admin.push_blob(name, data, "sha512")
    payload = image(
        config=EMPTY,
        layers=[descriptor(layer, algorithm="sha512")],
    ).replace(digest_of(EMPTY).encode(), digest_of(EMPTY, "sha512").encode())
    digest = digest_of(payload, "sha512")
    created(admin.put_manifest(name, digest, payload, OCI_MANIFEST), name, digest)
    assert expect(admin.manifest(name, digest), 200).body == payload
    assert admin.manifest(name, digest_of(payload)).status == 404
    listing = index(payload).replace(digest_of(payload).encode(), digest.encode())
    answer = admin.put_manifest(name, f"{digest_of(listing, 'sha512')}?tag=a&tag=b", listing, OCI_INDEX)
    created(answer, name, digest_of(listing, "sha512"))
    assert expect(admin.manifest(name, "b"), 200)["Docker-Content-Digest"] == digest_of(listing, "sha512")
    assert admin.pull_image(name, "a")[digest] == payload


def test_a_tag_moves(first: Registry, second: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
    """What one worker answered, the other one shows at once."""
    payloads = [image(layer) for layer in parts] * 3
    for number, payload in enumerate(payloads):
        writer, reader = (first, second) if number % 2 else (second, first)
        writer.push_manifest(name, "latest", payload, OCI_MANIFEST)
        assert expect(reader.manifest(name, "latest"), 200).body == payload
    assert first.tags(name) == ["latest"]


@pytest.mark.parametrize(
    "tag", ["a", "_", "0", "v1.2.3-rc_4", "A-Z", "x" * 128, "latest", "sha256-" + "0" * 64, "__", "1..2"]
)
def test_tags_of_every_spelling(admin: Registry, name: str, parts: tuple[bytes, bytes], tag: str) -> None:
    payload = image(*parts)
    admin.push_manifest(name, tag, payload, OCI_MANIFEST)
    assert expect(admin.manifest(name, tag), 200).body == payload
    assert admin.tags(name) == [tag]


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (OCI_MANIFEST, OCI_MANIFEST),
        (f"{OCI_MANIFEST}; charset=utf-8", OCI_MANIFEST),
        (OCI_MANIFEST.upper(), OCI_MANIFEST),
        (None, OCI_MANIFEST),
        ("application/json", OCI_MANIFEST),
        ("application/octet-stream", OCI_MANIFEST),
        (DOCKER_MANIFEST, DOCKER_MANIFEST),
    ],
)
def test_media_type_of_the_header(
    admin: Registry, name: str, parts: tuple[bytes, bytes], header: str | None, kept: str
) -> None:
    payload = image(*parts, mediaType=None)
    expect(admin.put_manifest(name, "latest", payload, header), 201)
    assert admin.manifest(name, "latest")["Content-Type"] == kept


@pytest.mark.parametrize("header", [None, "application/json"])
@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST, None])
def test_media_type_of_an_index(admin: Registry, name: str, header: str | None, media_type: str | None) -> None:
    expect(admin.put_manifest(name, "latest", index(mediaType=media_type), header), 201)
    assert admin.manifest(name, "latest")["Content-Type"] == media_type or OCI_INDEX


def test_bytes_are_kept_as_they_are(admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
    payload = b"\n \t" + image(*parts).replace(b", ", b" ,\r\n\t ") + b"\n\n"
    digest = admin.push_manifest(name, "odd", payload, OCI_MANIFEST)
    assert digest == digest_of(payload)
    assert expect(admin.manifest(name, "odd"), 200).body == payload


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
@pytest.mark.parametrize("stream", [False, True])
def test_as_large_as_they_may_be(admin: Registry, outsider: Registry, name: str, size: int, stream: bool) -> None:
    admin.push_blob(name, EMPTY)
    payload = image(annotations={"filling": ""})
    payload = payload.replace(b'"filling": ""', b'"filling": "' + b"x" * (size - len(payload)) + b'"')
    assert len(payload) == size
    path = f"/v2/{name}/manifests/large"
    body = iter([payload[:1_000_000], payload[1_000_000:]]) if stream else payload
    created(admin.call("PUT", path, body, {"Content-Type": OCI_MANIFEST}), name, digest_of(payload))
    for _ in range(2):
        assert expect(outsider.manifest(name, "large"), 200).body == payload


def test_an_index_of_depth_three(admin: Registry, outsider: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
    leaves = [image(layer) for layer in parts]
    middle = index(*leaves, media_type=DOCKER_LIST)
    top = index(middle, child_type=DOCKER_LIST)
    for payload, media_type in ((leaves[0], OCI_MANIFEST), (leaves[1], OCI_MANIFEST), (middle, DOCKER_LIST)):
        admin.push_manifest(name, digest_of(payload), payload, media_type)
    admin.push_manifest(name, "top", top, OCI_INDEX)
    pulled = outsider.pull_image(name, "top")
    assert set(pulled) == {digest_of(data) for data in (*leaves, middle, top, EMPTY, *parts)}


def test_an_index_names_one_child_twice(admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
    child = image(*parts)
    admin.push_manifest(name, digest_of(child), child, OCI_MANIFEST)
    payload = index(child, child)
    admin.push_manifest(name, "twice", payload, OCI_INDEX)
    assert expect(admin.manifest(name, "twice"), 200).body == payload


def test_an_image_names_one_layer_twice(admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
    payload = image(parts[0], parts[0], EMPTY)
    admin.push_manifest(name, "twice", payload, OCI_MANIFEST)
    assert expect(admin.manifest(name, "twice"), 200).body == payload


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ],
)
def test_a_layer_that_must_not_be_distributed(
    admin: Registry, name: str, parts: tuple[bytes, bytes], media_type: str
) -> None:
    layers = [
        descriptor(parts[0]),
        descriptor(fresh(), media_type, urls=["https://example.org/layer"]),
    ]
    admin.push_manifest(name, "windows", image(layers=layers), OCI_MANIFEST)


@pytest.mark.parametrize("layers", [[], None])
def test_without_layers(admin: Registry, name: str, layers: list[Any] | None) -> None:
    admin.push_blob(name, EMPTY)
    admin.push_manifest(name, "bare", image(layers=layers), OCI_MANIFEST)


def test_an_empty_index(admin: Registry, name: str) -> None:
    admin.push_manifest(name, "empty", index(), OCI_INDEX)


def test_an_artifact(admin: Registry, name: str) -> None:
    """As image-spec's guidance has it: the empty config, data in a layer or in the descriptor."""
    admin.push_blob(name, EMPTY)
    layer = descriptor(EMPTY, EMPTY_TYPE, data="e30=")
    payload = image(
        artifactType="application/vnd.example.sbom.v1", config=EMPTY, layers=[layer], annotations={"a": "b"}
    )
    admin.push_manifest(name, "artifact", payload, OCI_MANIFEST)


class TestTagParameters:
    def test_ten_tags(self, admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
        payload = image(*parts)
        digest = digest_of(payload)
        tags = [f"v{number}" for number in range(10)]
        query = "&".join(f"tag={tag}" for tag in tags)
        answer = admin.put_manifest(name, f"{digest}?{query}", payload, OCI_MANIFEST)
        created(answer, name, digest)
        assert answer["OCI-Tag"].split(", ") == tags
        assert admin.tags(name) == tags
        for tag in tags:
            assert admin.manifest(name, tag)["Docker-Content-Digest"] == digest

    def test_one_that_breaks_the_grammar_fails_all(
        self, admin: Registry, name: str, parts: tuple[bytes, bytes]
    ) -> None:
        payload = image(*parts)
        path = f"{digest_of(payload)}?tag=good&tag=.bad"
        assert "'.bad'" in refused(admin.put_manifest(name, path, payload, OCI_MANIFEST), 400, "MANIFEST_INVALID")
        assert admin.tags(name) == []
        assert admin.manifest(name, digest_of(payload)).status == 404

    def test_beside_a_tag(self, admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
        refused(admin.put_manifest(name, "a?tag=b", image(*parts), OCI_MANIFEST), 400, "MANIFEST_INVALID")
        assert admin.tags(name) == []

    def test_too_many(self, admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
        payload = image(*parts)
        for count in (101, 201):
            query = "&".join(f"tag=v{number}" for number in range(count))
            answer = admin.put_manifest(name, f"{digest_of(payload)}?{query}", payload, OCI_MANIFEST)
            assert answer.status == (414 if count == 101 else 400), answer
        assert admin.tags(name) == []

    def test_an_old_tag_moves(self, admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
        old, new = (image(layer) for layer in parts)
        admin.push_manifest(name, "latest", old, OCI_MANIFEST)
        expect(admin.put_manifest(name, f"{digest_of(new)}?tag=latest&tag=new", new, OCI_MANIFEST), 201)
        assert admin.manifest(name, "latest").body == new
        assert admin.manifest(name, digest_of(old)).body == old


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('"{digest}"', 304),
        ('W/"{digest}"', 304),
        ('"other", "{digest}"', 304),
        ('"other"', 200),
        ("{digest}", 304),
        ("*", 304),
        ("", 200),
    ],
)
def test_if_none_match(
    admin: Registry, outsider: Registry, name: str, parts: tuple[bytes, bytes], header: str, status: int
) -> None:
    payload = image(*parts)
    digest = admin.push_manifest(name, "latest", payload, OCI_MANIFEST)
    for method in ("GET", "HEAD"):
        path = f"/v2/{name}/manifests/latest"
        answer = expect(outsider.call(method, path, None, {"If-None-Match": header.format(digest=digest)}), status)
        assert answer["ETag"] == f'"{digest}"'
        assert answer.body == (payload if (status, method) == (200, "GET") else b"")


@pytest.mark.parametrize(("header", "status"), [('"{digest}"', 200), ("*", 200), ('"other"', 412)])
def test_if_match(
    admin: Registry, outsider: Registry, name: str, parts: tuple[bytes, bytes], header: str, status: int
) -> None:
    payload = image(*parts)
    digest = admin.push_manifest(name, "latest", payload, OCI_MANIFEST)
    for path in (f"manifests/{digest}", "manifests/latest", f"blobs/{digest_of(parts[0])}"):
        tag = digest_of(parts[0]) if path.startswith("blobs") else digest
        for method in ("GET", "HEAD"):
            headers = {"If-Match": header.format(digest=tag)}
            answer = expect(outsider.call(method, f"/v2/{name}/{path}", None, headers), status)
            assert answer["ETag"] == f'"{tag}"'
    headers = {"If-Match": "*", "If-None-Match": "*"}
    assert outsider.call("GET", f"/v2/{name}/manifests/none", None, headers).status == 404
    assert outsider.call("GET", f"/v2/{name}/blobs/{digest_of(b'none')}", None, headers).status == 404


SINGLE = f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"


def test_who_reads_no_indexes(admin: Registry, outsider: Registry, name: str) -> None:
    """As distribution: an image of a Docker list, an error for an OCI index; a list by its digest stays what it is."""
    docker, oci = multi("accept docker", style="docker"), multi("accept oci")
    for tag, picture in (("docker", docker), ("oci", oci)):
        admin.push_image(name, tag, picture)
    only = docker.platform("linux/amd64")
    for method in ("GET", "HEAD"):
        answer = expect(outsider.call(method, f"/v2/{name}/manifests/docker", None, {"Accept": SINGLE}), 200)
        assert (answer["Docker-Content-Digest"], answer["Content-Type"]) == (only.digest, DOCKER_MANIFEST)
        assert answer["Content-Length"] == str(len(only.payload))
        by_digest = outsider.call(method, f"/v2/{name}/manifests/{docker.digest}", None, {"Accept": SINGLE})
        assert by_digest["Content-Type"] == DOCKER_LIST
        for reference in ("oci", oci.digest):
            answer = outsider.call(method, f"/v2/{name}/manifests/{reference}", None, {"Accept": SINGLE})
            assert answer.status == 404
    words = refused(
        outsider.call("GET", f"/v2/{name}/manifests/oci", None, {"Accept": SINGLE}), 404, "MANIFEST_UNKNOWN"
    )
    assert "index" in words
    for accept in ("*/*", "application/json", f"{SINGLE}, */*;q=0.1"):
        assert outsider.call("GET", f"/v2/{name}/manifests/oci", None, {"Accept": accept}).body == oci.payload


def test_a_docker_list_without_the_default_platform(admin: Registry, outsider: Registry, name: str) -> None:
    payload = index(media_type=DOCKER_LIST)
    admin.push_manifest(name, "list", payload, DOCKER_LIST)
    assert outsider.call("GET", f"/v2/{name}/manifests/list", None, {"Accept": SINGLE}).status == 404


def test_a_cache_of_buildkit(admin: Registry, outsider: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
    """The requests of ``--cache-to`` and ``--cache-from``: blobs, an index of them, and the same again."""
    cache = buildkit_cache(*parts)
    for data in (EMPTY, *parts):
        digest = digest_of(data)
        assert admin.call("HEAD", f"/v2/{name}/blobs/{digest}").status == 200
    assert admin.call("HEAD", f"/v2/{name}/manifests/cache", None, {"Accept": f"{OCI_INDEX}, */*"}).status == 404
    created(admin.put_manifest(name, "cache", cache, OCI_INDEX), name, digest_of(cache))
    accept = {"Accept": f"{SINGLE}, */*"}
    assert outsider.call("HEAD", f"/v2/{name}/manifests/cache", None, accept)["Content-Type"] == OCI_INDEX
    assert outsider.call("GET", f"/v2/{name}/manifests/cache", None, accept).body == cache
    for data in (EMPTY, *parts):
        assert outsider.blob(name, digest_of(data)).body == data
    # Into another repository, BuildKit mounts what the first one has.
    other = f"{name}-2"
    both = admin.token(f"repository:{other}:pull,push", f"repository:{name}:pull")
    for data in (EMPTY, *parts):
        query = f"mount={digest_of(data)}&from={name}"
        expect(admin.call("POST", f"/v2/{other}/blobs/uploads/?{query}", b"", token=both), 201)
    expect(admin.put_manifest(other, "cache", cache, OCI_INDEX), 201)


class TestDelete:
    def test_a_tag(self, first: Registry, second: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
        payload = image(*parts)
        digest = first.push_manifest(name, "gone", payload, OCI_MANIFEST)
        first.push_manifest(name, "stays", payload, OCI_MANIFEST)
        expect(first.call("DELETE", f"/v2/{name}/manifests/gone"), 202)
        for user in (first, second):
            refused(user.manifest(name, "gone"), 404, "MANIFEST_UNKNOWN")
            assert user.manifest(name, "stays").body == payload
            assert user.manifest(name, digest).body == payload
        refused(second.call("DELETE", f"/v2/{name}/manifests/gone"), 404, "MANIFEST_UNKNOWN")

    def test_a_manifest_with_all_its_tags(
        self, first: Registry, second: Registry, name: str, parts: tuple[bytes, bytes]
    ) -> None:
        payload, other = image(*parts), image()
        digest = first.push_manifest(name, "a", payload, OCI_MANIFEST)
        first.push_manifest(name, "b", payload, OCI_MANIFEST)
        first.push_manifest(name, "c", other, OCI_MANIFEST)
        for user in (first, second):  # both have the payload in memory
            assert user.manifest(name, digest).body == payload
        expect(first.call("DELETE", f"/v2/{name}/manifests/{digest}"), 202)
        for user in (first, second):
            for reference in ("a", "b", digest):
                refused(user.manifest(name, reference), 404, "MANIFEST_UNKNOWN")
            assert user.tags(name) == ["c"]
            assert user.manifest(name, "c").body == other
        refused(first.call("DELETE", f"/v2/{name}/manifests/{digest}"), 404, "MANIFEST_UNKNOWN")

    def test_a_child_of_an_index(self, admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
        child = image(*parts)
        digest = admin.push_manifest(name, digest_of(child), child, OCI_MANIFEST)
        admin.push_manifest(name, "list", index(child), OCI_INDEX)
        refused = expect(admin.call("DELETE", f"/v2/{name}/manifests/{digest}"), 405)
        assert refused.json()["errors"][0]["code"] == "DENIED"
        assert admin.manifest(name, digest).status == 200
        expect(admin.call("DELETE", f"/v2/{name}/manifests/{digest_of(index(child))}"), 202)
        expect(admin.call("DELETE", f"/v2/{name}/manifests/{digest}"), 202)
        assert admin.manifest(name, digest).status == 404

    def test_and_pushed_again(self, admin: Registry, name: str, parts: tuple[bytes, bytes]) -> None:
        payload = image(*parts)
        for _ in range(3):
            digest = admin.push_manifest(name, "again", payload, OCI_MANIFEST)
            assert admin.manifest(name, "again").body == payload
            expect(admin.call("DELETE", f"/v2/{name}/manifests/{digest}"), 202)

    def test_where_nothing_is(self, admin: Registry, outsider: Registry, name: str) -> None:
        for reference in ("latest", digest_of(b"")):
            path = f"/v2/{name}/manifests/{reference}"
            refused(admin.call("DELETE", path), 404, "NAME_UNKNOWN")
            refused(outsider.call("DELETE", path), 401, "UNAUTHORIZED")


def test_in_one_repository_is_not_in_another(
    admin: Registry, name: str, secret: str, parts: tuple[bytes, bytes]
) -> None:
    digest = admin.push_manifest(name, "latest", image(*parts), OCI_MANIFEST)
    for other in (secret, f"{name}-2"):
        admin.push_blob(other, EMPTY)
        for reference in ("latest", digest):
            refused(admin.manifest(other, reference), 404, "MANIFEST_UNKNOWN")


def test_two_repositories_with_one_manifest(admin: Registry, name: str) -> None:
    other = f"{name}-2"
    for repository in (name, other):
        admin.push_blob(repository, EMPTY)
    payload = image(mediaType=None)
    digest = admin.push_manifest(name, "latest", payload, OCI_MANIFEST)
    admin.push_manifest(other, "latest", payload, DOCKER_MANIFEST)
    assert admin.manifest(name, digest)["Content-Type"] == OCI_MANIFEST
    assert admin.manifest(other, digest)["Content-Type"] == DOCKER_MANIFEST
    expect(admin.call("DELETE", f"/v2/{name}/manifests/{digest}"), 202)
    refused(admin.manifest(name, digest), 404, "MANIFEST_UNKNOWN")
    assert expect(admin.manifest(other, digest), 200).body == payload


def test_the_type_of_a_config_is_anybodys(admin: Registry, name: str) -> None:
    admin.push_blob(name, EMPTY)
    fields = {"schemaVersion": 2, "config": descriptor(EMPTY, "application/vnd.cncf.helm.config.v1+json"), "layers": []}
    admin.push_manifest(name, "chart", document(**fields), OCI_MANIFEST)
    assert CONFIG not in admin.manifest(name, "chart").body.decode()
