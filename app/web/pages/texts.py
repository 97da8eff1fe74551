"""The pages' languages: English texts are the source, and ../locale/et_EE.csv has them in Estonian."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tornado.locale

from app.kit.words import mark
from app.oci.errors import OCIError

__all__ = ["COOKIE", "LANGUAGES", "LOCALE_FOLDER", "NAMES", "choose", "load", "mark", "said"]

LOCALE_FOLDER = Path(__file__).parent.parent / "locale"
COOKIE = "language"

# The locale's code of each language, and the language's own name for itself.
LANGUAGES: Mapping[str, str] = {"et": "et_EE", "en": "en_US"}
NAMES: Mapping[str, str] = {"et": "Eesti", "en": "English"}
_DEFAULT = "en"


def load() -> None:
    """Read the catalogues. Call it once, when the routes are built."""
    tornado.locale.set_default_locale(LANGUAGES[_DEFAULT])
    tornado.locale.load_translations(str(LOCALE_FOLDER), encoding="utf-8")


def choose(chosen: str | None, accept: str) -> tornado.locale.Locale:
    """Return the locale of the chosen language, or else of the one of ours that the browser prefers."""
    language = chosen if chosen is not None and chosen in LANGUAGES else _liked(accept)
    return tornado.locale.get(LANGUAGES[language])


def said(error: OCIError, locale: tornado.locale.Locale) -> str:
    """Return an error's text in this language, or in English if the catalogue lacks it. Templates escape it."""
    return error.fill(locale.translate(error.template), locale.translate)


def _liked(accept: str) -> str:
    """Return the preferred language of an Accept-Language header (RFC 9110, 12.5.4)."""
    liked: list[tuple[float, str]] = []
    for item in accept[:500].split(","):
        tag, _, parameters = item.partition(";")
        language = tag.strip().partition("-")[0].lower()
        try:
            weight = float(parameters.strip().removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        if language in LANGUAGES and weight > 0:
            liked.append((weight, language))
    # The first wins among equals.
    return max(liked, key=lambda one: one[0])[1] if liked else _DEFAULT
