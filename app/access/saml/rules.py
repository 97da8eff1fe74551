"""Rules on a person's attributes: which user they are, whether they may log in, and whether they are an admin.

Invariant: no value of a scoped attribute gets past here with a scope (the part after the @) that is not the identity
provider's own.

Source: eduPerson, "scope" and eduPersonPrincipalName; Shibboleth, shibmd:Scope.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields

from app.access.people import Identity
from app.config import Saml, SamlAttributes, SamlRule

from .refused import Code, Refused

Values = Mapping[str, Sequence[str]]

# Attributes that have a scope by their definition, even if the configuration uses them for something else.
_ALWAYS_SCOPED = frozenset(
    {
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "eduPersonPrincipalName",
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.9", "eduPersonScopedAffiliation",
        "urn:oasis:names:tc:SAML:attribute:subject-id", "urn:oasis:names:tc:SAML:attribute:pairwise-id",
    }
)  # fmt: skip
_WORDS = frozenset(field.name for field in fields(SamlAttributes))
# ASCII only, because letters of other alphabets can look the same, or become ASCII in lower case.
_USERNAME = re.compile(r"[a-z0-9_][a-z0-9._+=-]{0,127}(?:@[a-z0-9][a-z0-9.-]{0,126})?\Z")
_LONGEST_TEXT = 255
_MOST_GROUPS = 1000


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope of the identity provider: a plain text, or a regular expression that must match the whole scope."""

    text: str
    is_pattern: bool = False

    def holds(self, scope: str) -> bool:
        """Return whether a value's scope is this one; scopes are domains, whose case does not matter.

        They are ASCII. Otherwise some sign, as that of Kelvin, would be taken for another case of a letter.
        """
        if not scope.isascii():
            return False
        if self.is_pattern:
            return re.fullmatch(self.text, scope, re.IGNORECASE) is not None
        return scope.lower() == self.text.lower()


class Rules:
    """Reads attributes by the configuration; ``by_name`` and ``by_friendly_name`` are as in the assertion."""

    def __init__(self, config: Saml) -> None:
        self._names = config.attributes
        self._lasting = config.lasting_ids
        self._scopes = tuple(Scope(text) for text in config.scopes)
        self._allow = config.allow
        self._admins = config.admins
        self._scoped = _ALWAYS_SCOPED | set(config.attributes.identity) | set(config.attributes.affiliation)

    def own_scopes(self, announced: Collection[Scope]) -> Collection[Scope]:
        """Return the accepted scopes: those of the configuration, or else those of the metadata.

        If there are none, no value with a scope is accepted.
        """
        return self._scopes or announced

    def identify(self, by_name: Values, by_friendly_name: Values, announced: Collection[Scope]) -> Identity:
        """Return the person's identity; raises Refused if it is not clear, or if no rule lets them in.

        An affiliation with a foreign scope is left out; an identity with one is refused.
        """
        scopes = self.own_scopes(announced)
        username = self._identity(_Attributes(by_name, by_friendly_name), scopes)
        attributes = _Attributes(self._clean(by_name, scopes), self._clean(by_friendly_name, scopes))
        if self._allow and not any(self._holds(rule, attributes) for rule in self._allow):
            raise Refused(f"no rule of saml.allow holds for {username!r}", Code.RULE)
        texts = {word: [_text(value) for value in attributes.first(getattr(self._names, word))] for word in _WORDS}
        groups = sorted({group for group in texts["groups"] if group})[:_MOST_GROUPS]
        return Identity(
            username,
            full_name=next(iter(texts["name"]), ""),
            email=next(iter(texts["mail"]), ""),
            groups=tuple(groups),
            is_admin=any(self._holds(rule, attributes) for rule in self._admins) if self._admins else None,
            lasting=self._lasting_ids(_Attributes(by_name, by_friendly_name), scopes) if self._lasting else None,
        )

    def _lasting_ids(self, attributes: _Attributes, scopes: Collection[Scope]) -> tuple[str, ...]:
        """Return the values of `saml.lasting_ids` with their names; raises Refused for several, or a foreign scope."""
        found = []
        for name in self._lasting:
            values = {value.lower() if name in _ALWAYS_SCOPED else value for value in attributes.of(name)}
            if len(values) > 1:
                raise Refused(f"the lasting id {name} has {len(values)} values, not one", Code.IDENTITY)
            for value in values:
                if not self._is_own(name, value, scopes) or len(value) > _LONGEST_TEXT or not value.isprintable():
                    raise Refused(f"the lasting id {value[:100]!r} is not this identity provider's", Code.IDENTITY)
                found.append(f"{name} {value}")
        return tuple(found)

    def _identity(self, attributes: _Attributes, scopes: Collection[Scope]) -> str:
        name = attributes.found(self._names.identity)
        if name is None:
            names = " or ".join(self._names.identity)
            raise Refused(f"the assertion has no identity attribute ({names})", Code.IDENTITY)
        values = set(attributes.of(name))
        if len(values) != 1:
            raise Refused(f"the identity attribute {name} has {len(values)} values, not one", Code.IDENTITY)
        value = values.pop()
        if not self._is_own(name, value, scopes):
            known = ", ".join(scope.text for scope in scopes) or "none known: set saml.scopes"
            raise Refused(
                f"the identity {value[:100]!r} has no scope of this identity provider ({known})", Code.IDENTITY
            )
        if not value.isascii() or not _USERNAME.match(value.lower()):
            raise Refused(f"the identity {value[:100]!r} cannot be a user name here", Code.IDENTITY)
        return value.lower()

    def _clean(self, attributes: Values, scopes: Collection[Scope]) -> Values:
        return {
            name: [value for value in values if name not in self._scoped or self._is_own(name, value, scopes)]
            for name, values in attributes.items()
        }

    def _is_own(self, name: str, value: str, scopes: Collection[Scope]) -> bool:
        _, at, scope = value.partition("@")
        if not at:
            return name not in _ALWAYS_SCOPED
        return len(scope) <= _LONGEST_TEXT and any(known.holds(scope) for known in scopes)

    def _holds(self, rule: SamlRule, attributes: _Attributes) -> bool:
        names = getattr(self._names, rule.attribute) if rule.attribute in _WORDS else (rule.attribute,)
        return any(_fits(value, wanted) for value in attributes.first(names) for wanted in rule.values)


@dataclass(frozen=True, slots=True)
class _Attributes:
    by_name: Values
    by_friendly_name: Values

    def of(self, name: str) -> Sequence[str]:
        return self.by_name.get(name) or self.by_friendly_name.get(name) or ()

    def found(self, names: Sequence[str]) -> str | None:
        """Return the first of several names that has values."""
        return next((name for name in names if self.of(name)), None)

    def first(self, names: Sequence[str]) -> Sequence[str]:
        name = self.found(names)
        return () if name is None else self.of(name)


def _fits(value: str, wanted: str) -> bool:
    """Return whether a value fits one of the configuration, in which ``*`` stands for anything."""
    first, *others = wanted.split("*")
    if not others:
        return value == wanted
    *between, last = others
    place, end = len(first), len(value) - len(last)
    if place > end or not value.startswith(first) or not value.endswith(last):
        return False
    for part in between:
        found = value.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True


def _text(value: str) -> str:
    return "".join(filter(str.isprintable, value)).strip()[:_LONGEST_TEXT]
