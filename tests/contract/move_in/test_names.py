"""People under their new names, caches as mirrors, and everything that has no place here."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.access.absence import Absence
from app.access.people import Identity, People
from app.access.sessions import Sessions
from app.cache import Cache
from app.move_in.naming import Names
from app.move_in.people import decrypted
from app.oci.errors import Unavailable
from tests.parts.harbor import KEY, blob_path, encrypted

from .scene import Scene, fill

DOCKER = "https://hub.docker.com"


async def test_a_first_log_in_finds_what_was_theirs(scene: Scene) -> None:
    fill(scene.harbor)
    await scene.move()
    people = People(scene.database, Sessions(Cache("redis://127.0.0.1:9"), 60, 60), "robot-", Absence(None))
    signed = await people.signed_in(Identity("mari@ut.ee", "Mari Maasikas", "mari@ut.ee", ("staff",), None))
    assert signed.changes == (), "the account was there"
    roles = dict(
        await scene.rows(
            "SELECT p.name, m.role FROM member m JOIN project p ON p.id = m.project_id "
            f"WHERE m.account_id = {signed.person.id}"
        )
    )
    assert roles == {"lab": "project admin", "inner": "limited guest"}
    owner = await scene.rows("SELECT owner_id FROM project WHERE name = 'lab'")
    assert owner == [(signed.person.id,)]


async def test_tables_and_rules_give_names(tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    table.write_text("user,mari,m.maasikas@ut.ee\n\ngroup, hpc-staff , urn:hpc\n")
    names = Names.read("{email}", table)
    assert names.people == {"mari": "m.maasikas@ut.ee"}
    assert (names.of_group("hpc-staff"), names.of_group("other")) == ("urn:hpc", "other")
    for wrong in ("user,mari\n", "person,a,b\n", "user,,b\n"):
        table.write_text(wrong)
        with pytest.raises(ValueError, match=r"names\.csv:1"):
            Names.read("{email}", table)
    with pytest.raises(ValueError, match="--people"):
        Names.read("{uid}@ut.ee", None)


async def test_people_who_would_share_or_take_a_name_do_not_move(scene: Scene) -> None:
    scene.harbor.add_user("mari")
    scene.harbor.add_user("MARI")
    scene.harbor.add_user("robot-x", "password", version="sha256")
    lab = scene.harbor.add_project("lab", owner=2)
    scene.harbor.add_member(lab, 3, 1)
    told = await scene.move()
    assert "people: 2 new, 2 cannot move" in told
    assert "somebody else of Harbor has the same user name here (1)\n  MARI" in told
    assert "begins like a robot account's" in told
    assert "members that cannot move: the person does not move (1)\n  user 3 in lab" in told


async def test_a_newcomer_never_gets_the_account_of_somebody_who_has_moved(scene: Scene) -> None:
    scene.harbor.add_user("mari")
    await scene.move()
    scene.harbor.add_user("MARI", cli_secret="somebody else's")
    told = await scene.move()
    assert "somebody else of Harbor has the same user name here (1)\n  MARI" in told
    assert await scene.rows("SELECT count(*) FROM access_key") == [(0,)]
    scene.harbor.execute("UPDATE harbor_user SET realname = 'Mari Maasikas' WHERE username = 'mari'")
    await scene.move()
    assert ("mari@ut.ee", "Mari Maasikas") in await scene.rows("SELECT username, full_name FROM account")


async def test_a_proxy_cache_becomes_a_mirror_with_its_images(scene: Scene) -> None:
    harbor = scene.harbor
    hub = harbor.add_registry(DOCKER, account=("hubuser", "hubpassword"))
    other = harbor.add_registry("https://ghcr.example.org")
    cache = harbor.add_project(
        "dockerhub", registry=hub, quota=5 * 10**9, public="true", proxy_cache_filter_pattern="library/**"
    )
    harbor.add_project("ghcr", registry=other)
    one = harbor.image(cache, "dockerhub/library/redis", "redis", "7")
    harbor.index(cache, "dockerhub/library/redis", [one], "latest")
    told = await scene.move()
    assert "no upstream is configured for https://ghcr.example.org" in told
    assert "an index of a cache may be trimmed" in told
    found = await scene.rows("SELECT upstream, settings, quota_bytes, upstream_credential FROM project")
    assert len(found) == 1
    assert (found[0][0], found[0][2]) == ("docker.io", None)
    assert '"library/**"' in str(found[0][1]).replace("'", '"')
    assert "hubpassword" not in found[0][3]
    assert await scene.rows("SELECT name, digest, checked_at FROM tag") == [("7", one, 0.0)]
    assert "Nothing differs." in told


async def test_a_webhook_that_could_not_be_made_here_does_not_move(scene: Scene) -> None:
    harbor = scene.harbor
    lab = harbor.add_project("lab")
    good = harbor.hook(lab, "good", "https://chat.example.org/a")
    for name, address in (("inside", "http://10.0.0.7/hook"), ("none", "no address"), ("user", "https://u:p@a.org/")):
        harbor.hook(lab, name, address)
    harbor.hook(lab, "header", "https://example.org/", header="a\nb")
    harbor.hook(lab, "slack", "https://example.org/", type="slack")
    for dry in (True, False):
        told = await scene.move(dry=dry)
        assert "webhooks: 1 new, 5 cannot move" in told
        assert "the target must be a public address; nothing is sent to private networks (1)\n  inside of lab" in told
        assert "the target must be an http:// or https:// address" in told
        assert "the header needs printable ASCII characters, at most 1000 (1)\n  header of lab" in told
        assert "only one target of the type http is possible here (1)\n  slack of lab" in told
    assert await scene.rows("SELECT name FROM webhook") == [("good",)]
    targets = '[{"type": "http", "address": "http://127.0.0.1/"}]'
    harbor.execute("UPDATE notification_policy SET targets = %s WHERE id = %s", targets, good)
    assert "private networks (2)" in await scene.move()
    assert await scene.rows("SELECT url FROM webhook") == [("https://chat.example.org/a",)], "as it was moved"


async def test_what_failed_in_harbor_is_no_success_here(scene: Scene) -> None:
    if scene.harbor.log_table != "audit_log_ext":
        pytest.skip("Harbor notes since 2.13 how an operation ended")
    scene.harbor.add_user("mari")
    lab = scene.harbor.add_project("lab")
    for operation, resource, username in (
        ("login", "user", "mari"), ("login", "user", "a-password-in-the-wrong-field"), ("delete", "lab", "mari"),
    ):  # fmt: skip
        scene.harbor.log(lab, operation, resource, username, succeeded=False)
    scene.harbor.log(lab, "login", "mari", "mari", succeeded=True)
    await scene.move()
    found = await scene.rows("SELECT actor, operation, resource FROM audit WHERE operation NOT LIKE 'move-in%'")
    assert sorted(found) == [
        ("anonymous", "refuse", ""), ("anonymous", "refuse", "mari"), ("person:mari", "login", "mari"),
        ("person:mari", "reject", "lab"),
    ]  # fmt: skip


async def test_what_is_damaged_in_harbor_does_not_move(scene: Scene) -> None:
    made, root = fill(scene.harbor), scene.folder / "harbor"
    whole = (root / blob_path(made["two"])).read_bytes()
    (root / blob_path(made["two"])).write_bytes(whole[::-1])
    (root / blob_path(made["signature"])).write_bytes(b"{}")
    layer = scene.harbor.put(b"a layer that is lost")
    lost = scene.harbor.image(made["lab"], "lab/app", "lost", "lost", shared=b"a layer that is lost")
    (root / blob_path(layer)).unlink()
    told = await scene.move()
    assert "it has another digest (1)\n  lab/app@" + made["two"] in told
    assert "it has another size (1)\n  lab/app@" + made["signature"] in told
    assert "missing from Harbor's store (1)\n  lab/app@" + lost in told
    assert "indexes that move as they are" not in told, "Harbor has the child's row"
    tags = {row[0] for row in await scene.rows("SELECT name FROM tag")}
    assert tags == {"v1", "latest", "both"}


async def test_a_place_without_harbors_blobs_is_told_before_anything_else(scene: Scene) -> None:
    fill(scene.harbor)
    for path in (scene.folder / "harbor").rglob("data"):
        path.unlink()
    with pytest.raises(ValueError, match=r"harbor\.driver"):
        await scene.move(dry=True)


async def test_a_database_that_is_none_of_harbors_is_refused(scene: Scene) -> None:
    scene.harbor.execute("UPDATE schema_migrations SET version = 100")
    with pytest.raises(ValueError, match="its schema is 100"):
        await scene.move()
    scene.harbor.execute("DROP TABLE schema_migrations")
    with pytest.raises(ValueError, match="its schema is None"):
        await scene.move()
    scene.harbor.execute("CREATE TABLE schema_migrations (version bigint)")
    scene.harbor.execute("INSERT INTO schema_migrations VALUES (190)")
    scene.harbor.execute("DROP TABLE project CASCADE")
    with pytest.raises(Unavailable, match="relation"):
        await scene.move()


async def test_only_one_moves_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.database.harbor._LOCK_ATTEMPTS", 2)
    scene.harbor.execute("SELECT pg_advisory_lock(%s::bigint)", 0x6D6F7665)
    with pytest.raises(ValueError, match="another move-in"):
        await scene.move()


def test_secrets_are_decrypted_with_harbors_key() -> None:
    assert decrypted(encrypted("geheim"), KEY) == "geheim"
    assert decrypted(encrypted("geheim"), None) is None
    assert decrypted("Z2VoZWlt", None) == "geheim"
    assert decrypted("<enc-v1>%%%", KEY) is None
