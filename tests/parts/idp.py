"""Debian's simplesamlphp as the university's identity provider, under PHP's own server on loopback.

It signs responses and assertions, encrypts assertions, checks our signatures, and logs out both ways. Its users:

    mari / maripass      an employee of ut.ee, in the group staff
    juri / juripass      a student of taltech.ee, a second scope of this provider
    tiina / tiinapass    an employee of ut.ee, in the groups staff and registry-admins
    nimetu / nimetupass  without eduPersonPrincipalName
    voora / voorapass    with one of a scope that this provider does not have
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from .process import Process, answers, free_port, run

_WWW = Path("/usr/share/simplesamlphp/www")
SCOPES = ("ut.ee", "taltech.ee")
_USERS = {
    "mari": ("mari@ut.ee", "Mari Maasikas", ["member", "employee"], "ut.ee", ["staff"]),
    "juri": ("juri@taltech.ee", "Jüri Juurikas", ["member", "student"], "taltech.ee", ["students"]),
    "tiina": ("tiina@ut.ee", "Tiina Tamm", ["member", "employee"], "ut.ee", ["staff", "registry-admins"]),
    "nimetu": (None, "Nimetu Nurk", ["member"], "ut.ee", []),
    "voora": ("voora@elsewhere.example", "Võõra Vaher", ["employee"], "elsewhere.example", []),
}
_EPPN, _MAIL, _NAME, _AFFILIATION, _GROUPS = (
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.6",
    "urn:oid:0.9.2342.19200300.100.1.3",
    "urn:oid:2.16.840.1.113730.3.1.241",
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.9",
    "urn:oid:1.3.6.1.4.1.5923.1.5.1.1",
)


def missing() -> str | None:
    if not _WWW.exists():
        return "no simplesamlphp here (apt: simplesamlphp)"
    if shutil.which("php") is None:
        return "no php here (apt: php-cli)"
    modules = subprocess.run(["php", "-m"], capture_output=True, text=True, check=False).stdout.lower()
    lacking = [name for name in ("xml", "mbstring", "curl", "openssl") if f"\n{name}\n" not in f"\n{modules}"]
    return f"php lacks {', '.join(lacking)} (apt: php-xml php-mbstring php-curl)" if lacking else None


class IdentityProvider:
    """A running identity provider; `trust` a service before anybody logs in to it."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder, self._listen = folder, f"{address}:{free_port()}"
        self.url = f"http://{self._listen}"
        self.entity_id = f"{self.url}/idp"
        self.metadata_url = f"{self.url}/saml2/idp/metadata.php"
        for name in ("config", "metadata", "cert", "log", "data", "tmp", "sessions"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.make_key("idp")
        (folder / "config" / "config.php").write_text(_config(self.url, folder))
        (folder / "config" / "authsources.php").write_text(_sources())
        self.use_keys("idp")
        self._trusted: dict[str, str] = {}
        self._write_trusted()
        self.start()

    def start(self) -> None:
        """Start it and wait until it shows its metadata."""
        environment = {"SIMPLESAMLPHP_CONFIG_DIR": str(self.folder / "config"), "PHP_CLI_SERVER_WORKERS": "2"}
        command = ["php", "-d", "opcache.enable=0", "-S", self._listen, "-t", str(_WWW)]
        self._process = Process("php", command, self.folder, environment=environment)
        self._process.until(lambda: answers(self.metadata_url))

    def stop(self) -> None:
        """End it; it keeps its keys, its port and what it trusts."""
        self._process.stop()

    def make_key(self, name: str) -> None:
        """Make a key pair of that name."""
        files = [str(self.folder / "cert" / f"{name}.{end}") for end in ("pem", "crt")]
        run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", f"/CN={name}",
             "-keyout", files[0], "-out", files[1]]
        )  # fmt: skip

    def use_keys(self, name: str, *, coming: str | None = None) -> None:
        """Sign with a pair, and show ``coming`` in the metadata beside it."""
        new = {"new_privatekey": f"{coming}.pem", "new_certificate": f"{coming}.crt"} if coming else {}
        text = _hosted(self.entity_id, {"privatekey": f"{name}.pem", "certificate": f"{name}.crt", **new})
        (self.folder / "metadata" / "saml20-idp-hosted.php").write_text(text)

    def trust(self, service_url: str, metadata: bytes | None = None) -> None:
        """Take a service's metadata (by default from where it shows it) and know it from now on."""
        if metadata is None:
            with urllib.request.urlopen(f"{service_url}/saml/metadata", timeout=10) as answer:
                metadata = answer.read()
        self._trusted[service_url] = _service(metadata)
        self._write_trusted()

    def log(self) -> str:
        """Read what it has logged so far."""
        path = self.folder / "log" / "ssp.log"
        return path.read_text() if path.exists() else ""

    def _write_trusted(self) -> None:
        (self.folder / "metadata" / "saml20-sp-remote.php").write_text("<?php\n" + "\n".join(self._trusted.values()))


@contextmanager
def idp(folder: Path, address: str = "127.0.0.1") -> Iterator[IdentityProvider]:
    """Run one that listens on ``address``."""
    provider = IdentityProvider(folder, address)
    try:
        yield provider
    finally:
        provider.stop()


def _config(url: str, folder: Path) -> str:
    return "<?php\n$config = " + _php(
        {
            "baseurlpath": f"{url}/",
            "certdir": f"{folder}/cert/",
            "loggingdir": f"{folder}/log/",
            "datadir": f"{folder}/data/",
            "tempdir": f"{folder}/tmp/",
            "metadatadir": f"{folder}/metadata/",
            "secretsalt": "a-salt-for-tests-only",
            "auth.adminpassword": "tests-admin-password",
            "technicalcontact_name": "Tests",
            "technicalcontact_email": "tests@ut.ee",
            "timezone": "UTC",
            "logging.level": 6,
            "logging.handler": "file",
            "logging.logfile": "ssp.log",
            "showerrors": True,
            "errorreporting": False,
            "debug": None,
            "enable.saml20-idp": True,
            "module.enable": {"exampleauth": True, "core": True, "saml": True},
            "session.cookie.secure": False,
            "session.cookie.samesite": None,
            "session.cookie.name": "SSPIDP",
            "session.phpsession.cookiename": "SSPIDPPHP",
            "session.phpsession.savepath": f"{folder}/sessions",
            "store.type": "phpsession",
            "language.available": ["en"],
            "language.default": "en",
            "metadata.sources": [{"type": "flatfile", "directory": f"{folder}/metadata"}],
            "authproc.idp": [],
            "theme.use": "default",
            "template.cache": "",
            "proxy": None,
            "trusted.url.domains": [],
        }
    ) + ";\n"  # fmt: skip


def _sources() -> str:
    people: dict[str, object] = {"0": "exampleauth:UserPass"}
    for username, (eppn, name, affiliations, scope, groups) in _USERS.items():
        attributes: dict[str, object] = {
            _MAIL: [f"{username}@{scope}"],
            _NAME: [name],
            _AFFILIATION: [f"{affiliation}@{scope}" for affiliation in affiliations],
        }
        if eppn is not None:
            attributes[_EPPN] = [eppn]
        if groups:
            attributes[_GROUPS] = list(groups)
        people[f"{username}:{username}pass"] = attributes
    sources = {"admin": ["core:AdminPassword"], "people": people}
    return f"<?php\n$config = {_php(sources)};\n"


def _hosted(entity_id: str, keys: dict[str, str]) -> str:
    settings = {
        "host": "__DEFAULT__",
        **keys,
        "auth": "people",
        "scope": list(SCOPES),
        "attributes.NameFormat": "urn:oasis:names:tc:SAML:2.0:attrname-format:uri",
        "signature.algorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        "saml20.sign.response": True,
        "saml20.sign.assertion": True,
        "redirect.sign": True,
        "redirect.validate": True,
    }
    return f"<?php\n$metadata[{_php(entity_id)}] = {_php(settings)};\n"


def _service(metadata: bytes) -> str:
    """Write what simplesamlphp wants to know of a service out of the service's own metadata."""
    root = ElementTree.fromstring(metadata)
    md, ds = "{urn:oasis:names:tc:SAML:2.0:metadata}", "{http://www.w3.org/2000/09/xmldsig#}"
    keys = [
        {
            "type": "X509Certificate",
            "signing": descriptor.get("use") != "encryption",
            "encryption": descriptor.get("use") != "signing",
            "X509Certificate": descriptor.findtext(f".//{ds}X509Certificate"),
        }
        for descriptor in root.iter(f"{md}KeyDescriptor")
    ]
    places = {name: next(root.iter(md + name)).get("Location") for name in _PLACES}
    settings = {
        **places,
        "keys": keys,
        "NameIDFormat": "urn:oasis:names:tc:SAML:2.0:nameid-format:transient",
        "validate.authnrequest": True,
        "assertion.encryption": True,
    }
    return f"$metadata[{_php(root.get('entityID'))}] = {_php(settings)};\n"


_PLACES: Sequence[str] = ("AssertionConsumerService", "SingleLogoutService")


def _php(value: object) -> str:
    """Spell a value in PHP; JSON becomes an array there. A key "0" becomes the number, as PHP's own arrays have it."""
    encoded = json.dumps(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"json_decode('{encoded}', true)"
