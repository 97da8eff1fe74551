"""Estonian and English: English is the source text, what it is in Estonian stands in ../locale/et_EE.csv."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tornado.locale

from app.oci.errors import OCIError

LOCALE_FOLDER = Path(__file__).parent.parent / "locale"
COOKIE = "language"

# The locale's code by the language's, and what people who read that language call it.
LANGUAGES: Mapping[str, str] = {"et": "et_EE", "en": "en_US"}
NAMES: Mapping[str, str] = {"et": "Eesti", "en": "English"}
_DEFAULT = "en"


def load() -> None:
    """Read the catalogues; to be called once, where the pages are put together."""
    tornado.locale.set_default_locale(LANGUAGES[_DEFAULT])
    tornado.locale.load_translations(str(LOCALE_FOLDER), encoding="utf-8")


def choose(chosen: str | None, accept: str) -> tornado.locale.Locale:
    """Take the language that was chosen, else the one the browser likes best of ours."""
    language = chosen if chosen is not None and chosen in LANGUAGES else _liked(accept)
    return tornado.locale.get(LANGUAGES[language])


def mark(message: str) -> str:
    """Mark a text for the catalogue that is translated where it is shown."""
    return message


def said(error: OCIError, locale: tornado.locale.Locale) -> str:
    """Say an error in this language; what the catalogue lacks stays English. It is escaped where it is shown."""
    return error.fill(locale.translate(error.template), locale.translate)


def _liked(accept: str) -> str:
    """Read Accept-Language (RFC 9110, 12.5.4)."""
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
    # The first of those liked alike.
    return max(liked, key=lambda one: one[0])[1] if liked else _DEFAULT
