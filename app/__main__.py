"""``python -m app serve | migrate | admin …``"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from app.config import Config, ConfigError, load


def main() -> int:
    """Run a command; answers the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("serve", "run the registry"), ("migrate", "bring the database to this release's schema")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, default=Path("config.yaml"))
    arguments = parser.parse_args()
    try:
        config = load(arguments.config)
    except ConfigError as error:
        return _complain(str(error))
    return _serve(config)


def _serve(config: Config) -> int:
    # The metrics of all workers meet in files; the library looks for them when it is first imported.
    metrics = config.data_dir / "run" / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    from app.cache.embedded import EmbeddedError
    from app.database.migrate import SchemaError
    from app.main import serve
    from app.oci.errors import OCIError
    from app.web.observe import configure_logging

    configure_logging()
    try:
        serve(config)
    except OCIError as error:
        return _complain(error.message)
    except (OSError, EmbeddedError, SchemaError, ValueError) as error:
        return _complain(str(error))
    return 0


def _complain(message: str) -> int:
    print(f"registry: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
