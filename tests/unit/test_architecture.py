"""The rules of the house that a program can check: who imports whom, and that importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
# Loaded by Alembic, by their paths and with a database at hand.
_NOT_IMPORTED = ("app.database.migrations.", "app.__main__")

# An audit hook sees every socket, process and file that importing the rooms would open to write.
_IMPORT_ALL = """
import importlib, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "sqlite3.connect", "os.mkdir"):
        raise RuntimeError(f"{event} {arguments!r} at import")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise RuntimeError(f"{arguments[0]} opened for writing at import")

sys.dont_write_bytecode = True
sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def modules() -> list[str]:
    """Name every module of the service."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(APP.rglob("*.py"))]
    return [name.removesuffix(".__init__") for name in names if not name.startswith(_NOT_IMPORTED)]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_rooms_import_downwards_and_keep_their_libraries_to_themselves() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("oci/digest.py", "import app.storage", "Rooms import downwards only"),
        ("database/blobs.py", "from app.storage import new_key", "Rooms import downwards only"),
        ("access/tokens.py", "from app.registry import review", "Rooms import downwards only"),
        ("registry/blobs.py", "import tornado.web", "Tornado stands at the edge only"),
        ("registry/blobs.py", "from sqlalchemy import select", "SQL is spoken in the database's room only"),
        ("web/base.py", "import redis.asyncio", "Redis is spoken in the cache's room only"),
        ("web/base.py", "import botocore", "S3 is spoken in the storage's room only"),
        ("registry/blobs.py", "import aiohttp", "Upstreams are asked by the mirror only"),
        ("a_new_room.py", "", "Rooms import downwards only"),
    ],
)
def test_a_breach_is_noticed(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for path in [*APP.rglob("*.py"), ROOT / "pyproject.toml"]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    with (tmp_path / "app" / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout, done.stdout + done.stderr


def test_importing_opens_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, *modules()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is_for(name: str) -> None:
    path = ROOT / name.replace(".", "/")
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    assert ast.get_docstring(ast.parse(source)), f"{name} has no docstring"
