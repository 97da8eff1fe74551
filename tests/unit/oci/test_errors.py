"""Errors: the specification's JSON, and one class for each code."""

from __future__ import annotations

import json

import pytest

from app.oci import errors
from app.oci.errors import OCIError

# The table "Error Codes" of the distribution specification, and what clients of Docker's protocol know besides.
CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OCIError)]


def test_every_code_of_the_specification_has_its_exception() -> None:
    codes = {kind.code for kind in KINDS}
    assert codes == CODES | {"UNAVAILABLE", "UNKNOWN"}
    assert len([kind for kind in KINDS if kind is not OCIError]) == len(KINDS) - 1 >= len(CODES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_body(kind: type[OCIError]) -> None:
    assert 400 <= kind.status < 600
    assert json.loads(kind().body()) == {"errors": [{"code": kind.code, "message": kind.text}]}
    error = kind("öö <b> \N{SNOWMAN} \"'\n", detail={"digest": "x"}, headers={"Retry-After": "5"}, status=418)
    assert json.loads(error.body())["errors"][0] == {
        "code": kind.code,
        "message": "öö <b> \N{SNOWMAN} \"'\n",
        "detail": {"digest": "x"},
    }
    assert (error.answer_status, error.headers) == (418, {"Retry-After": "5"})
    assert str(error) == error.message


def test_what_cannot_be_encoded_is_escaped() -> None:
    answer = json.loads(OCIError("half a pair: \ud800", detail=["\udfff"]).body())
    assert answer["errors"][0]["message"] == "half a pair: \ud800"
