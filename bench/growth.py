"""What each page, call and command costs in PostgreSQL's buffers as the registry grows, up to a million of each."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.growth.measuring import measure, server

_SIZES = (1_000, 100_000, 1_000_000)
_BEGIN, _END = "<!-- growth -->\n", "<!-- end of growth -->"


def growth(readme: Path, *, write: bool) -> None:
    """Measure, print the table, and put it between its marks in ``readme`` if asked to."""
    columns: list[dict[str, int]] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, server() as database:
        for size in _SIZES:
            print(f"# growth, {size:,}", file=sys.stderr, flush=True)
            enough = [*columns[0].values()] if columns else []
            columns.append(measure(Path(folder) / str(size), size, database, enough))
    lines = ["| | " + " | ".join(f"{size:,}" for size in _SIZES) + " |", "|---|" + "---:|" * len(_SIZES)]
    # The paths hold ids, which differ with the size; the requests come in one order.
    for name, *costs in zip(columns[0], *(column.values() for column in columns), strict=True):
        short = name.replace("0" * 63, "…").replace("|", "\\|")
        lines.append(f"| `{short}` | " + " | ".join(f"{cost:,}" for cost in costs) + " |")
    table = "\n".join(lines)
    print(table)
    if write:
        before, _, rest = readme.read_text().partition(_BEGIN)
        readme.write_text(f"{before}{_BEGIN}\n{table}\n\n{_END}{rest.partition(_END)[2]}")
