"""Digests: the grammar, and what is computed."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.digest import ALGORITHMS, Digest, new_hash
from app.oci.errors import DigestInvalid

HEX = "0123456789abcdef" * 4
EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX * 2}", EMPTY])
def test_digests(text: str) -> None:
    digest = Digest.parse(text)
    assert digest == text
    assert f"{digest.algorithm}:{digest.hex}" == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "sha256:", HEX, f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"SHA256:{HEX}",
        f"sha256:{HEX}\n", f" sha256:{HEX}", f"sha256:{HEX[:-1]}g", f"sha256 :{HEX}", f"sha256::{HEX}",
        f"sha256:{HEX[:-1]}\x00", f"sha512:{HEX}", f"sha256:{HEX * 2}", f"sha384:{HEX}{HEX[:32]}", "md5:" + "0" * 32,
        f"sha256+b64:{HEX}", f"sha256:{HEX[:-1]}٣", "sha256:../../../../etc/passwd", "sha256:" + "." * 64,
        f"sha256:{HEX}:sha256:{HEX}", "sha256:" + "0" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(DigestInvalid, match="expected sha256: or sha512:") as caught:
        Digest.parse(text)
    assert len(caught.value.message) < 1000


@given(st.binary(max_size=200), st.sampled_from(sorted(ALGORITHMS)))
def test_a_running_hash_names_what_it_has_seen(data: bytes, algorithm: str) -> None:
    running = new_hash(algorithm)
    for byte in data:
        running.update(bytes([byte]))
    assert Digest.finish(running) == Digest.of(data, algorithm)
    assert Digest.parse(Digest.of(data, algorithm)).hex == hashlib.new(algorithm, data).hexdigest()
    running.update(b"more")
    assert Digest.finish(running) == Digest.of(data + b"more", algorithm)


@pytest.mark.parametrize("algorithm", ["", "md5", "sha1", "sha384", "SHA256", "sha256 ", "shake_128", "x" * 10_000])
def test_algorithms_that_are_not_verified_here(algorithm: str) -> None:
    with pytest.raises(DigestInvalid, match="use sha256 or sha512") as caught:
        new_hash(algorithm)
    assert len(caught.value.message) < 200
