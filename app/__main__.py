"""Run the registry's commands, ``python -m app serve | migrate | check | admin …``, each with ``--config FILE``."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from app.config import Config, ConfigError, load
from app.kit.journal import priority

Command = Callable[[Config, argparse.Namespace], Coroutine[Any, Any, str]]


def main() -> int:
    """Run a command and return the exit status."""
    arguments = _parser().parse_args()
    # Files are for the service's user, and for its group if the host's administrator wants that.
    os.umask(os.umask(0o077) | 0o007)
    try:
        config = load(arguments.config)
        if arguments.command is None:
            _prepare_metrics(config)
    except (ConfigError, OSError, ValueError) as error:
        return _complain(str(error))
    from app.cache.embedded import EmbeddedError
    from app.database.migrate import SchemaError
    from app.main import serve
    from app.oci.errors import OCIError
    from app.web.observe import configure_logging

    configure_logging()
    try:
        if arguments.command is None:
            serve(config)
            shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
        else:
            print(asyncio.run(arguments.command(config, arguments)))
    except OCIError as error:
        return _complain(error.message)
    except (OSError, EmbeddedError, SchemaError, ValueError) as error:
        return _complain(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="A container registry and pull-through cache.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "serve", "run the registry", None)
    _add(commands, "migrate", "bring the database to this release's schema", _migrate)
    _add(commands, "check", "read the configuration and name the first fault in it", _check)
    proxy_log = _add(commands, "proxy-log", "count the events that the web server in front writes", _proxy_log)
    proxy_log.add_argument("file", type=Path)
    proxy_log.add_argument("--port", type=int, required=True, help="where Prometheus asks, on the loopback address")
    _add_move_in(commands)
    admin = commands.add_parser("admin", help="manage projects, passwords and keys").add_subparsers(
        required=True, metavar="COMMAND"
    )
    project = _add(admin, "create-project", "make a project that hosts images", _create_project)
    project.add_argument("name")
    project.add_argument("--public", action="store_true", help="anyone may pull; without it, only those with access")
    change = _add(admin, "change-project", "change a project's settings; others stay as they are", _change_project)
    change.add_argument("name")
    change.add_argument("--public", action=argparse.BooleanOptionalAction, help="whether anyone may pull")
    change.add_argument(
        "--official-images",
        choices=("explain", "alias"),
        help="how a mirror answers a Docker Hub name without library/",
    )
    change.add_argument("--cache-bytes", type=int, metavar="N", help="the most bytes a mirror may keep; 0: no bound")
    for word in ("allowed", "denied"):
        change.add_argument(
            f"--{word}-names",
            nargs="*",
            metavar="GLOB",
            help=f"the names within a mirror that are {word}, such as 'library/*'; without any: no such rule",
        )
    password = _add(
        admin, "set-password", "change a local account's password, which is asked for or read from stdin", _password
    )
    password.add_argument("username")
    forget = _add(admin, "forget-identities", "let the next log-in of a name be that account's person", _forget)
    whose = forget.add_mutually_exclusive_group(required=True)
    whose.add_argument("username", nargs="?")
    whose.add_argument("--all", action="store_true", help="of everybody, after the university has changed its ids")
    export = _add(admin, "export-person", "print all that is kept of a person, as JSON", _export_person)
    export.add_argument("username")
    erase = _add(admin, "erase-person", "remove a person's account and all that is kept of them", _erase_person)
    erase.add_argument("username")
    erase.add_argument("--to", metavar="USERNAME", help="who gets the projects that nobody else manages")
    explain = _add(admin, "explain", "say why a request was refused, failed, was slow or filled the cache", _explain)
    explain.add_argument("what", help="a request's id, a client's address, a repository, or a name")
    _add(admin, "status", "show parts, workers, disk, budgets, certificate, backup and the last failures", _status)
    _add(admin, "rotate-keys", "sign tokens with a new key; issued tokens stay valid until they expire", _rotate_keys)
    return parser


def _add_move_in(commands: Any) -> None:
    parser = _add(commands, "move-in", "move a Harbor in, or bring what has changed there since", _move_in)
    parser.add_argument(
        "--people",
        default="{username}",
        metavar="RULE",
        help="the user names of the university's people, such as '{username}@example.org' or '{email}'",
    )
    parser.add_argument("--names", type=Path, metavar="FILE", help="CSV of user,OLD,NEW and group,OLD,NEW")
    parser.add_argument("--copy", action="store_true", help="copy blobs into our store; without it, they stay")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="report what would move and what cannot; write nothing")
    what.add_argument("--final", action="store_true", help="declare the move final; only then Harbor's blobs go, too")


def _add(commands: Any, name: str, text: str, command: Command | None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), metavar="FILE")
    parser.set_defaults(command=command)
    return parser


def _prepare_metrics(config: Config) -> None:
    # All workers share the metrics through files, whose folder the library reads at its first import. It maps the files
    # into memory. A write to a full disk would kill the worker (SIGBUS), so the files are kept in memory.
    memory = Path("/dev/shm")  # noqa: S108  # the folder is named after our data folder, and made again for us only
    name = f"registry-{hashlib.sha256(bytes(config.data_dir)).hexdigest()[:16]}"
    metrics = memory / name if os.access(memory, os.W_OK) else config.data_dir / "run" / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True, mode=0o700)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)


async def _migrate(config: Config, _: argparse.Namespace) -> str:
    from app.database.migrate import migrate

    if await migrate(config.database_url):
        return "the database has this release's schema"
    return "the database has the schema of a newer release, which this one works with; nothing was changed"


async def _check(config: Config, _: argparse.Namespace) -> str:
    from app.access.saml import configured_keys

    if config.saml.enabled:
        configured_keys(config.saml)
    return "the configuration is fine"


async def _proxy_log(config: Config, arguments: argparse.Namespace) -> str:
    from app.proxy_log import follow

    await follow(config, arguments.file, arguments.port)
    return "stopped"


async def _move_in(config: Config, arguments: argparse.Namespace) -> str:
    from app.moving import finish, move_in

    if arguments.final:
        return await finish(config)
    return await move_in(
        config, rule=arguments.people, names=arguments.names, dry=arguments.dry_run, copy=arguments.copy
    )


async def _create_project(config: Config, arguments: argparse.Namespace) -> str:
    from app.commands import create_project

    return await create_project(config, arguments.name, public=arguments.public)


async def _change_project(config: Config, arguments: argparse.Namespace) -> str:
    from app.commands import change_project
    from app.oci.errors import Term
    from app.projects.allowed_names import checked_globs

    settings: dict[str, object] = {}
    if arguments.official_images is not None:
        settings["official_images"] = arguments.official_images
    if arguments.cache_bytes is not None:
        settings["cache_bytes"] = arguments.cache_bytes or None
    for key in ("allowed_names", "denied_names"):
        if getattr(arguments, key) is not None:
            settings[key] = checked_globs(getattr(arguments, key), Term(key))
    return await change_project(config, arguments.name, public=arguments.public, settings=settings)


async def _password(config: Config, arguments: argparse.Namespace) -> str:
    from app.commands import set_password

    password = getpass.getpass("new password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    return await set_password(config, arguments.username, password)


async def _forget(config: Config, arguments: argparse.Namespace) -> str:
    from app.commands import forget_identities

    return await forget_identities(config, None if arguments.all else arguments.username)


async def _export_person(config: Config, arguments: argparse.Namespace) -> str:
    from app.commands import export_person

    return await export_person(config, arguments.username)


async def _erase_person(config: Config, arguments: argparse.Namespace) -> str:
    from app.commands import erase_person

    return await erase_person(config, arguments.username, arguments.to)


async def _rotate_keys(config: Config, _: argparse.Namespace) -> str:
    from app.commands import rotate_keys

    return await rotate_keys(config)


async def _explain(config: Config, arguments: argparse.Namespace) -> str:
    from app.inspection import explain

    return await explain(config, arguments.what)


async def _status(config: Config, _: argparse.Namespace) -> str:
    from app.inspection import status

    return await status(config)


def _complain(message: str) -> int:
    print(f"{priority(logging.ERROR)}registry: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
