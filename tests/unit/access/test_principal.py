from __future__ import annotations

import pytest

from app.access.principal import ANONYMOUS, Principal, PrincipalKind, address_block


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("193.40.5.7", "193.40.5.7"),
        ("2001:bb8:2002:100:1::7", "2001:bb8:2002:100::/64"),
        ("2001:bb8:2002:100:ffff:ffff:ffff:ffff", "2001:bb8:2002:100::/64"),
        ("2001:bb8:2002:101::1", "2001:bb8:2002:101::/64"),
        ("::ffff:193.40.5.7", "193.40.5.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", "unknown"),
        ("not-an-address", "unknown"),
    ],
)
def test_an_address_block_is_what_one_host_may_roam_in(address: str, block: str) -> None:
    assert address_block(address) == block


@pytest.mark.parametrize(
    "principal",
    [
        ANONYMOUS,
        Principal(PrincipalKind.PERSON, "mari"),
        Principal(PrincipalKind.PERSON, "a:b", is_admin=True),
        Principal(PrincipalKind.ROBOT, "robot$ci+push"),
    ],
)
def test_a_subject_reads_back(principal: Principal) -> None:
    assert Principal.from_subject(principal.subject, is_admin=principal.is_admin) == principal


def test_nobody_can_pass_for_another_by_name() -> None:
    subjects = {
        ANONYMOUS.subject,
        Principal(PrincipalKind.PERSON, "anonymous").subject,
        Principal(PrincipalKind.PERSON, "ci").subject,
        Principal(PrincipalKind.ROBOT, "ci").subject,
    }
    assert len(subjects) == 4


def test_an_unknown_subject_is_refused() -> None:
    with pytest.raises(ValueError, match="ghost"):
        Principal.from_subject("ghost:mari", is_admin=True)
