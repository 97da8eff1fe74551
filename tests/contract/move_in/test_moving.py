"""A whole move of a small Harbor, on both databases: what moves, what does not, again, and what changed since."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import text

from app.database import Database, blobs
from app.oci.digest import Digest
from app.oci.errors import Unauthorized
from tests.parts.harbor import blob_path, hashed

from .scene import CLI_SECRET, SECRET, Scene, fill


async def test_a_dry_run_says_what_moves_and_what_cannot_and_writes_nothing(scene: Scene) -> None:
    fill(scene.harbor)
    before = await scene.state()
    told = await scene.move(dry=True)
    assert await scene.state() == before
    assert "projects: 2 new, 1 cannot move" in told
    assert "artifacts: 5 new" in told
    assert "tags: 5 new" in told
    assert "our rules refuse the name: it is reserved, or no project can have it (1)\n  v2" in told
    assert "projects with auto_scan, which is not here (1)\n  lab" in told
    without_rule = await scene.move(dry=True, rule="{username}")
    assert "no match" in without_rule


async def test_everything_moves_and_a_second_run_changes_nothing(scene: Scene) -> None:
    made = fill(scene.harbor)
    told = await scene.move()
    assert "5 artifacts, 5 tags" in told.partition("The same on both sides:")[2], told
    assert "Nothing differs." in told, told
    state = await scene.state()
    assert [row[:3] for row in state["projects"]] == [("inner", 0, None), ("lab", 1, 10**9)]
    assert [row[2:4] for row in state["tags"] if row[0] == "lab"] == [
        ("both", made["index"]), ("latest", made["one"]), ("v1", made["one"]), ("v2", made["two"]),
    ]  # fmt: skip
    assert {row[3] == row[2] for row in state["links"]} == {True}, "the objects stay where they are"
    assert ("lab", None, "staff", "guest") in state["members"]
    assert ("lab", "juri", None, "developer") in state["members"]
    assert ("lab", "mari@ut.ee", None, "project admin") in state["members"]
    assert ("inner", "mari@ut.ee", None, "limited guest") in state["members"]
    assert [row[2:] for row in state["hooks"]] == [("https://chat.example.org/hook", "PUSH_ARTIFACT", "mari")]
    assert "webhooks without SCANNING_FAILED" in told
    assert state["labelled"] == [("release", made["two"])]
    assert [row[5] for row in state["manifests"] if row[2] == made["signature"]] == [made["one"]]
    assert [row[1:] for row in state["log"]] == [("person:mari", "create", "lab/app:v1", "lab")]
    again = await scene.move()
    assert await scene.state() == state
    assert " new" not in again.partition("The same")[0].replace("0 new", ""), again


async def test_blobs_are_read_where_harbor_has_them(scene: Scene) -> None:
    fill(scene.harbor)
    await scene.move()
    keys = [row[3] for row in (await scene.state())["links"]]
    async with aclosing(scene.store.read(keys[0], 0, 3)) as pieces:
        assert len(b"".join([piece async for piece in pieces])) in (2, 3)
    assert not (scene.folder / "data/blobs/objects").exists() or not any(
        path.is_file() for path in (scene.folder / "data/blobs/objects").rglob("*")
    )


async def test_robots_and_people_log_in_with_the_secrets_they_have(scene: Scene) -> None:
    fill(scene.harbor)
    await scene.move()
    kept = dict(await scene.rows("SELECT name, secret_hash FROM robot"))
    assert kept["robot$lab+ci"].startswith("harbor:")
    for _ in range(2):
        robot = await scene.login("robot$lab+ci", SECRET)
        assert robot.name == "robot$lab+ci"
        assert robot.limits is not None
        assert "repository:push" in next(iter(robot.limits.values()))
        assert (await scene.login("robot$backup", SECRET)).limits == {"*": frozenset({"repository:pull"})}
        assert (await scene.login("juri", "juri-password")).name == "juri"
        assert (await scene.login("mari", CLI_SECRET)).name == "mari@ut.ee"
        kept = dict(await scene.rows("SELECT name, secret_hash FROM robot"))
        assert len(kept["robot$lab+ci"]) == 64, "replaced by our own at the first use"
        (password,) = (await scene.rows("SELECT password_hash FROM account WHERE username = 'juri'"))[0]
        assert password.startswith("$argon2id")
    for name, secret in (
        ("robot$lab+ci", "wrong"), ("robot$lab+old", SECRET), ("robot$lab+off", SECRET), ("juri", "wrong"),
        ("mari", "wrong"), ("mari@ut.ee", "juri-password"), ("robot$lab+nobody", SECRET),
    ):  # fmt: skip
        with pytest.raises(Unauthorized):
            await scene.login(name, secret)
    kept = dict(await scene.rows("SELECT name, secret_hash FROM robot"))
    scene.harbor.execute("UPDATE robot SET description = 'changed'")
    await scene.move()
    assert dict(await scene.rows("SELECT name, secret_hash FROM robot")) == kept, "our hashes stay"
    other = hashed("A-new-secret-2", "salt")
    scene.harbor.execute("UPDATE robot SET salt = 'salt', secret = %s WHERE name = 'lab+ci'", other)
    await scene.move()
    assert (await scene.login("robot$lab+ci", "A-new-secret-2")).name == "robot$lab+ci"


async def test_a_further_run_brings_what_has_changed(scene: Scene) -> None:
    made, harbor = fill(scene.harbor), scene.harbor
    await scene.move()
    three = harbor.image(made["lab"], "lab/app", "three", "latest")
    harbor.execute("DELETE FROM tag WHERE name = 'v2'")
    harbor.execute("UPDATE project SET deleted = true, name = name || '#2' WHERE project_id = %s", made["secret"])
    harbor.execute(
        "DELETE FROM tag WHERE repository_id IN (SELECT repository_id FROM repository WHERE project_id = %s)",
        made["secret"],
    )
    for table in ("artifact", "repository"):
        harbor.execute(f"DELETE FROM {table} WHERE project_id = %s", made["secret"])
    harbor.execute("UPDATE repository SET pull_count = 10 WHERE name = 'lab/app'")
    harbor.execute("UPDATE robot SET disabled = true WHERE id = %s", made["robot"])
    harbor.execute("DELETE FROM project_member WHERE entity_type = 'g'")
    harbor.execute("UPDATE harbor_user SET deleted = true, username = 'Juri#2' WHERE user_id = %s", made["juri"])
    harbor.execute("DELETE FROM notification_policy")
    harbor.log(made["lab"], "create", "lab/app:latest", "mari")
    told = await scene.move()
    assert "Nothing differs." in told, told
    state = await scene.state()
    assert [row[2:4] for row in state["tags"] if row[0] == "lab"] == [
        ("both", made["index"]), ("latest", three), ("v1", made["one"]),
    ]  # fmt: skip
    assert [row[0] for row in state["projects"] if not row[0].startswith("~")] == ["lab"]
    assert [row[3] for row in state["repositories"] if row[0] == "lab"] == [10]
    assert [bool(row[2]) for row in state["robots"] if row[0] == "robot$lab+ci"] == [True]
    assert not [row for row in state["members"] if row[2] is not None]
    assert [bool(row[3]) for row in state["accounts"] if row[0] == "juri"] == [True]
    assert len(state["log"]) == 2
    assert state["hooks"] == []
    await scene.move()
    assert await scene.state() == state


async def test_harbors_objects_go_only_after_the_move_is_final(scene: Scene) -> None:
    made = fill(scene.harbor)
    await scene.move()
    only = Digest.of(b"layer of two")
    object_of = scene.folder / "harbor" / blob_path(only)
    links = await scene.rows(f"SELECT repository_id FROM link WHERE digest = '{only}'")
    async with scene.database.transaction() as transaction:
        assert await blobs.unlink(transaction, links[0][0], only)
    await scene.collection.collect()
    assert object_of.exists()
    await scene.finish()
    async with scene.database.transaction() as transaction:
        await transaction.execute(text("UPDATE garbage SET remove_at = 0"))
    await scene.collection.collect()
    assert not object_of.exists()
    assert (scene.folder / "harbor" / blob_path(made["one"])).exists()
    with pytest.raises(ValueError, match="final"):
        await scene.move()


async def test_copies_are_verified_and_harbors_objects_stay(scene: Scene) -> None:
    fill(scene.harbor)
    await scene.move()
    count = len({row[2] for row in (await scene.state())["links"]})
    damaged = scene.folder / "harbor" / blob_path(Digest.of(b"layer of two"))
    damaged.write_bytes(b"LAYER OF TWO")
    told = await scene.move(copy=True)
    assert f"blobs copied: {count - 1} new, 1 cannot move" in told, told
    damaged.write_bytes(b"layer of two")
    told = await scene.move(copy=True)
    assert "blobs copied: 1 new" in told
    assert all(len(row[3]) == 32 for row in (await scene.state())["links"])
    assert damaged.exists()
    await scene.collection.collect()
    assert damaged.exists()


class _Killed(BaseException):
    """Stands for kill -9 between two transactions."""


async def test_a_run_killed_after_any_transaction_is_resumed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(scene.harbor)
    whole, runs, left = Database.transact, 0, 0

    async def transact(self: Database, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left == 0:
            raise _Killed
        left -= 1
        return await whole(self, *args, **kwargs)

    monkeypatch.setattr(Database, "transact", transact)
    while runs < 50:
        # The first transaction of each run only notes that a move has begun.
        runs, left = runs + 1, 2
        try:
            told = await scene.move()
            break
        except _Killed:
            continue
    assert runs > 8
    assert "Nothing differs." in told
    state = await scene.state()
    assert len(state["log"]) == 1
    left = 50
    await scene.move()
    assert left == 49, "nothing was left to write"
    assert await scene.state() == state
    usage = await scene.rows("SELECT used_bytes FROM project WHERE name = 'lab'")
    held = await scene.rows(
        "SELECT (SELECT sum(size) FROM blob WHERE digest IN (SELECT l.digest FROM link l JOIN project p "
        "ON p.id = l.project_id WHERE p.name = 'lab')) + (SELECT sum(m.charged_bytes) FROM manifest m "
        "JOIN repository r ON r.id = m.repository_id JOIN project p ON p.id = r.project_id WHERE p.name = 'lab') + "
        "(SELECT sum(t.charged_bytes) FROM tag t JOIN repository r ON r.id = t.repository_id "
        "JOIN project p ON p.id = r.project_id WHERE p.name = 'lab') + (SELECT sum(charged_bytes) FROM manifest_label)"
    )
    assert int(usage[0][0]) == int(held[0][0])
