"""Formats numbers, times and icons for pages.

A function that returns markup has a name that ends in `_html`, and builds it of escaped parts only. A template may put
in raw nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

from tornado.escape import xhtml_escape
from tornado.locale import Locale

from app.database.keyset import MOST_COUNTED

from .static import address
from .texts import mark

# In characters of a text to copy: so much of it tells it apart from the others on a page.
_MOST_NAMED = 160
_DIGEST = re.compile(r"sha(?:256|512):[0-9a-f]{64,128}")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# The first match counts, because a browser's User-Agent also names the browsers that it imitates.
_BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iOS"), ("iPad", "iPadOS"), ("Windows", "Windows"), ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip

_PAST = (
    (_MINUTE, _HOUR, mark("%(count)d minute ago"), mark("%(count)d minutes ago")),
    (_HOUR, _DAY, mark("%(count)d hour ago"), mark("%(count)d hours ago")),
    (_DAY, 60 * _DAY, mark("%(count)d day ago"), mark("%(count)d days ago")),
)
_FUTURE = (
    (_MINUTE, _HOUR, mark("in %(count)d minute"), mark("in %(count)d minutes")),
    (_HOUR, _DAY, mark("in %(count)d hour"), mark("in %(count)d hours")),
    (_DAY, 3650 * _DAY, mark("in %(count)d day"), mark("in %(count)d days")),
)


def size(count: float | None) -> str:
    """Format a number of bytes in binary units, with at most three digits before the unit grows."""
    if count is None:
        return "–"
    value = float(count)
    for unit in _UNITS:
        if abs(value) < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    if unit == "B" or value >= 100:
        return f"{value:.0f} {unit}"
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def browser(agent: str) -> str:
    """Return the usual names of a browser and its system, or else the start of its own User-Agent."""
    found = [next((name for sign, name in names if sign in agent), "") for names in (_BROWSERS, _SYSTEMS)]
    return " · ".join(filter(None, found)) or agent[:120] or "–"


def counted(count: int) -> str:
    """Write a count that ends beyond `MOST_COUNTED`: ``1 000+`` says that there are more."""
    return number(count) if count <= MOST_COUNTED else f"{number(MOST_COUNTED)}+"


def number(count: int) -> str:
    """Group an integer's digits with a narrow space."""
    return f"{count:,}".replace(",", "\u202f")


def short(digest: str) -> str:
    """Shorten a digest to the digits that people compare."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}"


def short_names(text: str) -> str:
    """Shorten every digest in a text."""
    return _DIGEST.sub(lambda match: short(match.group()), text)


def moment(seconds: float) -> str:
    """Format a time in full, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def distance(seconds: float, locale: Locale, now: float | None = None) -> str:
    """Return how long ago a time was, or in how long it will be. Beyond 60 days ago it is the date."""
    away = (time.time() if now is None else now) - seconds
    steps, span = (_PAST, away) if away >= 0 else (_FUTURE, -away)
    if span < _MINUTE:
        return locale.translate("just now") if away >= 0 else locale.translate("in a moment")
    for unit, until, singular, plural in steps:
        if span < until:
            # The past is counted in full units. The future is rounded, so that a key for 30 days ends "in 30 days".
            count = int(span // unit) if away >= 0 else max(1, round(span / unit))
            return locale.translate(singular, plural, count) % {"count": count}
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def when_html(seconds: float | None, locale: Locale) -> str:
    """Return a time as a distance from now, with the full time as a tooltip. None is never."""
    if seconds is None:
        return f'<span class="text-quiet">{xhtml_escape(locale.translate("never"))}</span>'
    iso = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f'<time datetime="{iso}" title="{moment(seconds)}">{xhtml_escape(distance(seconds, locale))}</time>'


def icon_html(name: str) -> str:
    """Return an icon of static/icons.svg. It is hidden from screen readers, because words beside it say the same."""
    return f'<svg class="icon" aria-hidden="true"><use href="{address("icons.svg")}#{xhtml_escape(name)}"></use></svg>'


def dot_html(colour: str) -> str:
    """Return a dot in a label's colour."""
    circle = f'<circle cx="5" cy="5" r="5" fill="{xhtml_escape(colour)}"/>'
    return f'<svg class="dot" viewBox="0 0 10 10" aria-hidden="true">{circle}</svg>'


def copy_html(text: str, locale: Locale, what: str = "") -> str:
    """Return a button that copies this text. Its name is ``what``, by default the beginning of the text."""
    return _copy_button(f'data-copy="{xhtml_escape(text)}"', locale, what or text[:_MOST_NAMED])


def copy_from_html(element: str, locale: Locale, what: str) -> str:
    """Return a button that copies the text of another element, given by its id. ``what`` names the text."""
    return _copy_button(f'data-copy-from="{xhtml_escape(element)}"', locale, what)


def _copy_button(source: str, locale: Locale, what: str) -> str:
    label = xhtml_escape(locale.translate("Copy"))
    return (
        f'<button type="button" class="copy" {source} title="{label}">'
        f'<span class="todo">{icon_html("copy")}</span><span class="done">{icon_html("check")}</span>'
        f'<span class="visually-hidden">{label} {xhtml_escape(what)}</span></button>'
    )


def beginning(text: str, room: int) -> str:
    """Return the beginning of a text that takes at most ``room`` bytes of HTML."""
    while (takes := _bytes(text)) > room:
        text = text[: min(len(text) - 1, len(text) * room // takes)]
    return text


def fitting(entries: Iterable[tuple[str, ...]], room: int, longest: int = 500) -> list[tuple[str, ...]]:
    """Return the first entries that take at most ``room`` bytes of HTML, each text cut after ``longest`` characters."""
    found: list[tuple[str, ...]] = []
    for entry in entries:
        cut = tuple(text[:longest] for text in entry)
        room -= sum(map(_bytes, cut))
        if room < 0:
            break
        found.append(cut)
    return found


def _bytes(text: str) -> int:
    return len(xhtml_escape(text).encode())


def in_path(text: str) -> str:
    """Quote a name as part of a path, but keep its slashes."""
    return quote(text, safe="/:@")
