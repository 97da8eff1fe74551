"""Read config.yaml into frozen dataclasses, which hold the defaults; an unknown key is an error that names it.

``${NAME}`` inside a value is replaced by an environment variable. The key ``password_file`` reads the value of
``password`` from a file. Relative paths are relative to the configuration file's folder.
"""

from __future__ import annotations

import os
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import yaml

from app.oci.globs import is_glob
from app.oci.reference import is_plain_name

# The value of redis.url with which the service starts a private Redis.
EMBEDDED = "embedded:"
HARBOR_KEY_BYTES = 16
# A key that is shorter can be guessed.
_FEWEST_CHARACTERS = 32
Network = IPv4Network | IPv6Network
T = TypeVar("T")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,254})\}")
# No more digits than a database takes.
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
# Somebody is told so long before something of theirs ends (`app.access.notices`).
_FIRST_NOTICE_DAYS = 14
_ROBOT_PREFIX = re.compile(r"(?=[A-Za-z]*[^A-Za-z])[A-Za-z0-9._$+-]{1,32}\Z")
_LOCAL_NETWORKS = (
    "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """Loads YAML as `yaml.SafeLoader` does, and refuses a key that stands twice, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class ConfigError(Exception):
    """The configuration has a fault. The message is one line that names the key."""

    def __init__(self, message: str) -> None:
        # A key or a name in the file may hold a line break.
        super().__init__(" ".join(message.split()))


@dataclass(frozen=True)
class Server:
    external_url: str = "http://127.0.0.1:8080"
    listen: str = "127.0.0.1:8080"
    processes: int = 1
    # The X-Forwarded-For of these addresses is trusted. The peer of a unix socket always is.
    trusted_proxies: tuple[Network, ...] = ()
    drain_seconds: int = 30
    # "header": a trusted proxy writes the event of each of its requests (`app.web.events`). It gets our part in a
    # header of the answer, and must keep that from clients.
    events: Literal["log", "header"] = "log"


@dataclass(frozen=True)
class DatabaseConfig:
    url: str | None = None


@dataclass(frozen=True)
class Redis:
    url: str = EMBEDDED


@dataclass(frozen=True)
class S3:
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    region: str = "us-east-1"
    bucket: str = "registry"
    prefix: str = ""
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Storage:
    driver: Literal["filesystem", "s3"] = "filesystem"
    s3: S3 = S3()
    delivery: Literal["stream", "redirect", "accel"] = "stream"


@dataclass(frozen=True)
class Credential:
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class UpstreamConfig:
    url: str
    credentials: tuple[Credential, ...] = ()
    # Seconds for which a tag is served before the upstream is asked again whether it has moved.
    fresh_for: int = 300


@dataclass(frozen=True)
class ProjectConfig:
    public: bool = True
    upstream: str | None = None
    official_images: Literal["explain", "alias"] = "explain"
    cache_bytes: int | None = None
    # Globs over the names of repositories within a mirror (`app.oci.globs`): an empty list of allowed ones allows all.
    allowed_names: tuple[str, ...] = ()
    denied_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Admin:
    # If false, nobody logs in with a local password; the account stays.
    enabled: bool = True
    username: str = "admin"
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Access:
    # The key by which secrets of robots and access keys are hashed, the same on every host. Null: generated once and
    # kept in data_dir.
    secret_key: str | None = field(default=None, repr=False)
    robot_prefix: str = "robot-"
    robot_days: int = 30
    most_robot_days: int = 365
    most_key_days: int = 365
    # Days without a log-in in a browser after which a person counts as absent (`app.access.absence`); null: never.
    absent_days: int | None = 180
    # Seconds after which a browser session ends: without a request, and in any case.
    session_idle: int = 2 * 3600
    session_life: int = 12 * 3600


@dataclass(frozen=True)
class Policy:
    """The limits on what people may create themselves; none of them binds admins. Sizes in bytes."""

    projects_per_person: int = 10
    default_quota: int = 10 * 1024**3
    most_quota: int = 100 * 1024**3
    # Groups whose members may make pull-through caches.
    cache_groups: tuple[str, ...] = ()
    # Groups whose members, beside administrators, may plan images of mirrors for a date.
    plan_groups: tuple[str, ...] = ()
    # Days after which the audit log has pseudonyms in place of people's names, and after which entries are removed.
    audit_days: int = 365
    audit_kept_days: int = 1095
    # Days for which what was deleted stays in the bin; 0 for no bin.
    bin_days: int = 7


@dataclass(frozen=True)
class Mail:
    """The server that takes letters on what ends soon; without a host there are none."""

    host: str | None = None
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    # The address that letters come from.
    sender: str | None = None


@dataclass(frozen=True)
class SamlAttributes:
    """The names that each attribute may have; the first one found counts."""

    identity: tuple[str, ...] = ("urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "eduPersonPrincipalName")
    mail: tuple[str, ...] = ("urn:oid:0.9.2342.19200300.100.1.3", "mail")
    name: tuple[str, ...] = ("urn:oid:2.16.840.1.113730.3.1.241", "displayName")
    affiliation: tuple[str, ...] = ("urn:oid:1.3.6.1.4.1.5923.1.1.1.9", "eduPersonScopedAffiliation")
    groups: tuple[str, ...] = ("urn:oid:1.3.6.1.4.1.5923.1.5.1.1", "isMemberOf")


@dataclass(frozen=True)
class SamlRule:
    """Matches if one of an attribute's values is one of ``values``; ``*`` stands for any text."""

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Saml:
    enabled: bool = False
    # http(s):// or file://; read again every hour.
    idp_metadata_url: str | None = None
    # The identity provider, if the metadata has several; null: the only one.
    idp_entity_id: str | None = None
    # Null: the URL of our metadata.
    entity_id: str | None = None
    certificate: str | None = None
    private_key: str | None = field(default=None, repr=False)
    # Shown in our metadata beside the certificate in use, so that the identity provider knows it before it is used.
    next_certificate: str | None = None
    next_private_key: str | None = field(default=None, repr=False)
    attributes: SamlAttributes = SamlAttributes()
    # Attributes whose value never changes and never passes to anybody else. By them people are known who have another
    # name now. All that are sent count.
    lasting_ids: tuple[str, ...] = (
        "urn:oasis:names:tc:SAML:attribute:pairwise-id", "urn:oasis:names:tc:SAML:attribute:subject-id"
    )  # fmt: skip
    # Whether an assertion has to be encrypted. Without encryption it is still signed, and TLS alone hides it.
    encrypted_assertions: bool = True
    # Scopes (the part after the @) for which the identity provider may assert identities. Empty: those in its metadata.
    scopes: tuple[str, ...] = ()
    # A person may log in if one of these rules matches. Empty: everybody whom the identity provider lets in.
    allow: tuple[SamlRule, ...] = ()
    admins: tuple[SamlRule, ...] = ()


@dataclass(frozen=True)
class Harbor:
    """The Harbor that is moved in from (`app.move_in`). Its blobs may stay where they are, so workers read them too."""

    # A role that may only read.
    database_url: str | None = field(default=None, repr=False)
    # The 16 characters of its core, which decrypt accounts at upstreams and CLI secrets.
    secret_key: str | None = field(default=None, repr=False)
    driver: Literal["none", "filesystem", "s3"] = "none"
    # The root of its storage, with docker/registry/v2 in it.
    folder: Path | None = None
    s3: S3 = S3()


@dataclass(frozen=True)
class Config:
    server: Server = Server()
    data_dir: Path = Path("data")
    database: DatabaseConfig = DatabaseConfig()
    redis: Redis = Redis()
    storage: Storage = Storage()
    upstreams: Mapping[str, UpstreamConfig] = field(
        default_factory=lambda: {"docker.io": UpstreamConfig("https://registry-1.docker.io")}
    )
    projects: Mapping[str, ProjectConfig] = field(
        default_factory=lambda: {"mirror": ProjectConfig(upstream="docker.io")}
    )
    # Host names that serve one mirror project each at their root (Docker's registry-mirrors).
    hosts: Mapping[str, str] = field(default_factory=dict)
    # Anonymous requests from these networks may spend the upstream's budget on content that is not cached yet.
    fill_networks: tuple[Network, ...] = tuple(ip_network(network) for network in _LOCAL_NETWORKS)
    # No upstream may point here, beside the private networks; for example the public addresses of the site itself.
    refused_networks: tuple[Network, ...] = ()
    admin: Admin = Admin()
    access: Access = Access()
    policy: Policy = Policy()
    saml: Saml = Saml()
    mail: Mail = Mail()
    harbor: Harbor = Harbor()

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir / 'registry.sqlite'}"


def load(path: Path) -> Config:
    """Return the configuration in a file after checking it; raises ConfigError."""
    try:
        document = _Loader(path.read_text()).get_single_data()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A ValueError is a file that is not UTF-8, or a date or number that YAML does not have.
        raise ConfigError(f"{path} is not YAML: {error}") from error
    return parse(document or {}, path.absolute().parent)


def parse(document: object, folder: Path) -> Config:
    """Return the configuration in the parsed YAML of a file in ``folder`` after checking it; raises ConfigError."""
    config = _absolute(_build(Config, document, "", folder), folder)
    _check(config)
    return config


def _absolute(config: Config, folder: Path) -> Config:
    """Return the configuration with absolute paths, also within values; relative ones start at the file's folder."""
    data_dir = (folder / config.data_dir).resolve()
    listen, url = config.server.listen, config.database.url
    if listen.startswith("unix:"):
        listen = f"unix:{folder / listen.removeprefix('unix:')}"
    if url is not None and url.startswith("sqlite:///"):
        url = f"sqlite:///{folder / url.removeprefix('sqlite:///')}"
    harbor = config.harbor
    if harbor.folder is not None:
        harbor = replace(harbor, folder=(folder / harbor.folder).resolve())
    server = replace(config.server, listen=listen)
    return replace(config, data_dir=data_dir, server=server, database=DatabaseConfig(url), harbor=harbor)


def _check(config: Config) -> None:
    _check_http_urls(config)
    _check_server_url("database.url", config.database.url, ("sqlite", "postgresql", "postgres"))
    _check_server_url("harbor.database_url", config.harbor.database_url, ("postgresql", "postgres"))
    if config.redis.url != EMBEDDED:
        _check_server_url("redis.url", config.redis.url, ("redis", "rediss", "unix"))
    if parts_path(config.server.external_url):
        raise ConfigError("server.external_url: the registry is served at the root of a host; leave the path out")
    if config.server.processes < 0:
        raise ConfigError("server.processes: must be 0 (one per core) or a number of processes")
    listen_address(config.server.listen)
    if config.storage.delivery == "redirect" and config.storage.driver != "s3":
        raise ConfigError("storage.delivery: redirect works with driver s3 only; use stream or accel")
    _check_people(config)
    _check_mail(config.mail)
    _check_harbor(config.harbor)
    for name, project in config.projects.items():
        _check_project(config, name, project)
    for host, name in config.hosts.items():
        if name not in config.projects or config.projects[name].upstream is None:
            raise ConfigError(f"hosts.{host}: {name!r} is not a mirror project under projects:")


def _check_http_urls(config: Config) -> None:
    s3 = config.storage.s3
    urls = {
        "server.external_url": config.server.external_url,
        "storage.s3.endpoint_url": s3.endpoint_url,
        "storage.s3.public_endpoint_url": s3.public_endpoint_url,
        **{f"upstreams.{name}.url": upstream.url for name, upstream in config.upstreams.items()},
    }
    for key, url in urls.items():
        if url is None:
            continue
        if not _is_http(url):
            # Its words may be a password.
            raise ConfigError(f"{key}: not an http:// or https:// URL, such as https://registry.example.org")
        if set("@?#") & set(url):
            raise ConfigError(f"{key}: leave out @, ? and #; an account has keys of its own")
    for name, upstream in config.upstreams.items():
        if parts_path(upstream.url).endswith("/v2"):
            raise ConfigError(f"upstreams.{name}.url: leave out /v2; the registry adds it")


def _check_server_url(key: str, url: str | None, schemes: tuple[str, ...]) -> None:
    """Raise ConfigError for another kind of server, and for a password whose characters end the host's name."""
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ConfigError(f"{key}: begin it with one of {', '.join(f'{scheme}:' for scheme in schemes)}")
    # A file's name may have any character.
    if parts.scheme in ("sqlite", "unix"):
        return
    after = parts.path + parts.fragment + ("" if "@" in parts.netloc else parts.query)
    if parts.netloc.count("@") > 1 or "@" in after:
        raise ConfigError(f"{key}: write @ / ? # in a password as %40 %2F %3F %23")


def _check_project(config: Config, name: str, project: ProjectConfig) -> None:
    if not is_plain_name(name):
        raise ConfigError(f"projects.{name}: use only lower-case letters, digits and . _ - in a project's name")
    if project.upstream is not None and project.upstream not in config.upstreams:
        raise ConfigError(f"projects.{name}.upstream: {project.upstream!r} is not listed under upstreams:; add it")
    for key in ("allowed_names", "denied_names"):
        for glob in getattr(project, key):
            if not is_glob(glob):
                raise ConfigError(f"projects.{name}.{key}: {glob!r} is no name or glob; use *, **, ? and {{a,b}}")


def _check_harbor(harbor: Harbor) -> None:
    if harbor.driver == "filesystem" and harbor.folder is None:
        raise ConfigError("harbor.folder: required if harbor.driver is filesystem; name the root of Harbor's storage")
    if harbor.secret_key is not None and len(harbor.secret_key.encode()) != HARBOR_KEY_BYTES:
        raise ConfigError("harbor.secret_key: the key of Harbor's core has exactly 16 characters")


def _check_people(config: Config) -> None:
    if config.saml.enabled and not config.saml.idp_metadata_url:
        raise ConfigError("saml.idp_metadata_url: required if saml.enabled is true; use http(s):// or file://")
    if not (config.saml.encrypted_assertions or _is_hidden(config.server.external_url)):
        raise ConfigError("saml.encrypted_assertions: false needs an https:// server.external_url, which hides them")
    if config.policy.default_quota > config.policy.most_quota:
        raise ConfigError("policy.default_quota: must not be more than policy.most_quota")
    if config.policy.audit_kept_days < config.policy.audit_days:
        raise ConfigError("policy.audit_kept_days: must not be less than policy.audit_days")
    if config.policy.bin_days < 0:
        raise ConfigError("policy.bin_days: must not be negative")
    if config.access.secret_key is not None and len(config.access.secret_key) < _FEWEST_CHARACTERS:
        raise ConfigError(
            f"access.secret_key: at least {_FEWEST_CHARACTERS} characters, such as openssl rand -hex 32 prints"
        )
    if config.access.absent_days is not None and config.access.absent_days <= _FIRST_NOTICE_DAYS:
        raise ConfigError(f"access.absent_days: must be more than {_FIRST_NOTICE_DAYS}, or null for never")
    if config.access.robot_days > config.access.most_robot_days:
        raise ConfigError("access.robot_days: must not be more than access.most_robot_days")
    if not _ROBOT_PREFIX.match(config.access.robot_prefix):
        raise ConfigError(
            "access.robot_prefix: use 1 to 32 letters, digits and . _ - $ +, with at least one that is not a letter"
        )


def _check_mail(mail: Mail) -> None:
    if mail.host is None:
        return
    if not mail.sender or "@" not in mail.sender or not mail.sender.isprintable():
        raise ConfigError("mail.sender: required with mail.host; an address such as registry@example.org")
    if (mail.username is None) != (mail.password is None):
        raise ConfigError("mail.username and mail.password: set both or neither")
    if mail.username is not None and mail.security == "none":
        raise ConfigError("mail.security: none would send mail.password in the clear; use starttls or tls")


def _is_hidden(url: str) -> bool:
    """Return whether nobody between a browser and this address can read what it sends."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("127.0.0.1", "::1", "localhost")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def parts_path(url: str) -> str:
    """Return the path of a URL, "" for the root."""
    return urlsplit(url).path.rstrip("/")


def listen_address(listen: str) -> Path | tuple[str, int]:
    """Parse ``server.listen``: ``unix:PATH`` or ``HOST:PORT`` (IPv6 in brackets); raises ConfigError."""
    if listen.startswith("unix:"):
        return Path(listen.removeprefix("unix:"))
    host, _, port = listen.rpartition(":")
    if not host or not _NUMBER.match(port) or int(port) > 65535:
        raise ConfigError(f"server.listen: {listen!r} is neither HOST:PORT nor unix:PATH")
    return host.strip("[]"), int(port)


def _build(kind: type[T], document: object, where: str, folder: Path) -> T:
    if not isinstance(document, dict):
        raise ConfigError(f"{where or 'the file'}: expected keys and values, got {document!r}")
    document = _read_files(document, where, folder)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # only called with dataclasses
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in document.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise ConfigError(f"{path}: unknown key; known here: {', '.join(known)}")
        if value is not None or type(None) in get_args(hints[key]):
            values[key] = _value(hints[key], value, path, folder)
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).partition('() ')[2]}") from error


def _read_files(document: Mapping[str, object], where: str, folder: Path) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in document.items():
        if not (isinstance(key, str) and key.endswith("_file") and isinstance(value, str)):
            values[key] = value
            continue
        try:
            values[key.removesuffix("_file")] = (folder / _text(value, f"{where}.{key}")).read_text().rstrip("\n")
        except OSError as error:
            raise ConfigError(f"{where}.{key}: cannot read {value}: {error.strerror}") from error
        except UnicodeDecodeError:
            # Not chained, because the decoder's error holds the secret.
            raise ConfigError(f"{where}.{key}: {value} is not text in UTF-8") from None
    return values


def _text(text: str, path: str) -> str:
    """Return a text with the environment's variables in it; raises ConfigError."""

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{path}: the environment has no variable {match[1]}")
        return os.environ[match[1]]

    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{path}: must not contain NUL or half a surrogate pair")
    return _VARIABLE.sub(variable, text)


def _value(hint: Any, value: object, path: str, folder: Path) -> Any:
    """Return one value as its field's type; raises ConfigError if it does not fit."""
    if isinstance(value, str):
        value = _text(value, path)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if hint == Network:
            return _network(value, path)
        return None if value is None else _value(arguments[0], value, path, folder)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{path}: {value!r} is not one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{path}: expected a list, got {value!r}")
        return tuple(_value(arguments[0], item, f"{path}[{number}]", folder) for number, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: expected keys and values, got {value!r}")
        return {str(key): _value(arguments[1], item, f"{path}.{key}", folder) for key, item in value.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return _build(hint, value, path, folder)
    return _scalar(hint, value, path)


def _scalar(hint: Any, value: object, path: str) -> object:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is int and isinstance(value, str) and _NUMBER.match(value):
        return int(value)
    if hint is Path or not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        expected = {str: "text", int: "a whole number", bool: "true or false", Path: "a path"}[hint]
        raise ConfigError(f"{path}: expected {expected}, got {value!r}")
    return value


def _network(value: object, path: str) -> Network:
    try:
        return ip_network(str(value), strict=False)
    except ValueError as error:
        raise ConfigError(f"{path}: {value!r} is not an address or a network") from error
