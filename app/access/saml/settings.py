"""Settings of python3-saml: the service provider, the identity provider, and its strictest checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.settings import OneLogin_Saml2_Settings as Settings

from .key_pairs import KeyPair
from .metadata import IdpMetadata

ACS, SLS, METADATA = "/saml/acs", "/saml/sls", "/saml/metadata"

_SECURITY = {
    "authnRequestsSigned": True,
    "logoutRequestSigned": True,
    "logoutResponseSigned": True,
    "wantAssertionsSigned": True,
    # Attributes have a name for the person, and some identity providers send no NameID.
    "wantNameId": False,
    "allowRepeatAttributeName": True,
    "requestedAuthnContext": False,
    "rejectDeprecatedAlgorithm": True,
    "allowSingleLabelDomains": True,
    # Our metadata is valid until it is replaced; the default is two days.
    "metadataValidUntil": "",
    "metadataCacheDuration": "",
}


class ServiceProvider:
    """The registry as a service provider: its entity id and its addresses."""

    def __init__(self, external_url: str, entity_id: str | None, *, encrypted: bool = True) -> None:
        """``encrypted``: accept an assertion only if it is encrypted."""
        self.encrypted = encrypted
        self.url = external_url.rstrip("/")
        self.entity_id = entity_id or self.url + METADATA
        self.acs, self.sls = self.url + ACS, self.url + SLS

    def settings(self, idp: IdpMetadata, pair: KeyPair, *, signed_messages: bool = False) -> Settings:
        """Return settings with one of our key pairs; logout needs ``signed_messages``, because it has no assertion."""
        return Settings(
            {
                "strict": True,
                "sp": self._sp(pair),
                "idp": _idp(idp),
                "security": {
                    **_SECURITY,
                    "wantMessagesSigned": signed_messages,
                    "wantAssertionsEncrypted": self.encrypted,
                },
            }
        )

    def metadata_settings(self, pair: KeyPair, next_pair: KeyPair | None) -> Settings:
        """Return the settings for writing our own metadata, with both certificates during a key rollover."""
        sp = self._sp(pair)
        if next_pair is not None:
            sp["x509certNew"] = next_pair.certificate
        # They have our key in any case, so that an identity provider that can encrypt does.
        security = {**_SECURITY, "wantAssertionsEncrypted": True}
        return Settings({"strict": True, "sp": sp, "security": security}, sp_validation_only=True)

    def request(self, path: str, **data: Any) -> Mapping[str, Any]:
        """Describe a request to our external address for python3-saml; its own headers do not count."""
        parts = urlsplit(self.url)
        return {
            "https": "on" if parts.scheme == "https" else "off",
            "http_host": parts.netloc,
            "script_name": path,
            **data,
        }

    def _sp(self, pair: KeyPair) -> dict[str, Any]:
        return {
            "entityId": self.entity_id,
            "assertionConsumerService": {"url": self.acs, "binding": Constants.BINDING_HTTP_POST},
            "singleLogoutService": {"url": self.sls, "binding": Constants.BINDING_HTTP_REDIRECT},
            "NameIDFormat": Constants.NAMEID_TRANSIENT,
            "x509cert": pair.certificate,
            "privateKey": pair.private_key,
        }


def _idp(idp: IdpMetadata) -> dict[str, Any]:
    redirect = Constants.BINDING_HTTP_REDIRECT
    settings: dict[str, Any] = {
        "entityId": idp.entity_id,
        "singleSignOnService": {"url": idp.sso_url, "binding": redirect},
        "x509cert": idp.certificates[0],
        "x509certMulti": {"signing": list(idp.certificates)},
    }
    if idp.slo_url is not None:
        answers = {"responseUrl": idp.slo_answer_url or idp.slo_url}
        settings["singleLogoutService"] = {"url": idp.slo_url, "binding": redirect, **answers}
    return settings
