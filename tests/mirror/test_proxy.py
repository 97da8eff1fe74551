"""A site's proxy on the way to upstreams: which hosts it is asked for, and that it leads nobody past the guard."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from app.mirror.address_guard import AddressGuard
from app.mirror.answers import UpstreamDown
from app.mirror.proxy import SiteProxy
from app.mirror.upstream import Upstream
from app.oci.errors import UpstreamInvalid
from app.storage.s3_wire import S3Wire
from tests.deploy.authority import Authority

from .odd_upstream import BLOB, BLOB_DIGEST, REPOSITORY, Names, client

_REGISTRY, _CDN, _S3 = "registry.test", "cdn.test", "s3.test"
_PUBLIC = "44.205.64.79"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority of all hosts here. The client trusts it, as a host does by its certificate store."""
    made = Authority(tmp_path)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", ssl.create_default_context(cafile=made.file))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(made.file))
    return made


class Line:
    """A proxy that notes what it is asked for and leads all of it to one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode().splitlines()[0])
        further, onward = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, onward), _copy(further, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class Site:
    """All hosts on one port, with a certificate for each; ``seen`` has the hosts that requests named."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.seen: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.host)
        if request.host.startswith(_REGISTRY):
            return web.Response(status=307, headers={"Location": self.location})
        body = b"probe" if request.host == _S3 else BLOB
        return web.Response(body=body if request.method == "GET" else b"")

    @asynccontextmanager
    async def serving(self, authority: Authority) -> AsyncIterator[tuple[Line, str]]:
        """Start the hosts and a proxy before them; give the proxy and its address."""
        folder = authority.file.parent
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_by_name(authority, folder)).start()
        line = Line(runner.addresses[0][1])
        server = await asyncio.start_server(line.connect, "127.0.0.1", 0)
        try:
            yield line, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await runner.cleanup()


def _by_name(authority: Authority, folder: Path) -> ssl.SSLContext:
    """Make a context that shows the certificate of the name that a client asks for, and none for another name."""
    contexts = {}
    for name in (_REGISTRY, _CDN, _S3):
        pair = authority.certify(name)
        file = folder / f"{name}.pem"
        file.write_text(pair.certificate + pair.key)
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(file)

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = contexts[name or ""]

    first = contexts[_REGISTRY]
    first.sni_callback = choose
    return first


async def _read(upstream: Upstream) -> bytes:
    async with upstream.open_blob(REPOSITORY, BLOB_DIGEST) as body:
        return b"".join([chunk async for chunk in body.chunks()])


async def test_the_upstream_goes_by_name_and_others_by_an_address_that_was_checked(authority: Authority) -> None:
    site, names = Site(f"https://{_CDN}/x?signature=%2b"), Names({_CDN: _PUBLIC})
    async with site.serving(authority) as (line, address):
        proxy, guard = SiteProxy(URL(address), ""), AddressGuard(_REGISTRY, names)
        async with client(f"https://{_REGISTRY}", guard=guard, proxy=proxy) as upstream:
            assert await _read(upstream) == BLOB
    assert line.asked == [f"CONNECT {_REGISTRY}:443 HTTP/1.1", f"CONNECT {_PUBLIC}:443 HTTP/1.1"]
    assert site.seen == [_REGISTRY, _CDN], "each host is asked by its name, and shows its own certificate"


@pytest.mark.parametrize("host", ["inner.test", "10.0.0.1", "127.0.0.1", "[fd00::1]"])
async def test_a_proxy_leads_nobody_to_a_private_host(host: str, authority: Authority) -> None:
    site, names = Site(f"https://{host}/x"), Names({"inner.test": "10.0.0.1"})
    async with site.serving(authority) as (line, address):
        proxy, guard = SiteProxy(URL(address), ""), AddressGuard(_REGISTRY, names)
        async with client(f"https://{_REGISTRY}", guard=guard, proxy=proxy) as upstream:
            with pytest.raises(UpstreamInvalid):
                await _read(upstream)
    assert line.asked == [f"CONNECT {_REGISTRY}:443 HTTP/1.1"]


async def test_the_proxys_own_host_is_no_place_to_go(authority: Authority) -> None:
    async with Site("").serving(authority) as (line, address):
        proxy, guard = SiteProxy(URL(address), _REGISTRY), AddressGuard("44.205.64.1")
        async with client("https://44.205.64.1", guard=guard, proxy=proxy) as upstream:
            with pytest.raises(UpstreamInvalid):
                await upstream._transport.send("storage", "GET", URL(f"{address}/x"), {})
    assert line.asked == []


async def test_a_host_in_no_proxy_is_reached_without_it(authority: Authority) -> None:
    site, names = Site(""), Names({_REGISTRY: "127.0.0.1"})
    async with site.serving(authority) as (line, address):
        proxy, guard = SiteProxy(URL(address), ".example.org, test"), AddressGuard(_REGISTRY, names)
        site.location = f"https://{_CDN}:{line.port}/x"
        names.names[_CDN] = "127.0.0.1"
        async with client(f"https://{_REGISTRY}:{line.port}", guard=guard, proxy=proxy) as upstream:
            assert await _read(upstream) == BLOB
    assert line.asked == []
    assert names.asked == [_REGISTRY, _CDN]


async def test_a_proxy_that_is_away_is_an_upstream_that_is_down() -> None:
    proxy, guard = SiteProxy(URL("http://127.0.0.1:9"), ""), AddressGuard(_REGISTRY, Names({}))
    async with client(f"https://{_REGISTRY}", guard=guard, proxy=proxy) as upstream:
        with pytest.raises(UpstreamDown):
            await _read(upstream)


async def test_s3_is_reached_through_it(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = S3Wire(
        endpoint_url=f"https://{_S3}", public_endpoint_url=None, region="us-east-1", bucket="blobs", prefix="",
        access_key_id="key", secret_access_key="secret", url_seconds=60, connections=4,
    )  # fmt: skip
    async with Site("").serving(authority) as (line, address):
        monkeypatch.setenv("HTTPS_PROXY", address)
        await wire.start()
        try:
            await wire.check()
        finally:
            await wire.close()
    assert set(line.asked) == {f"CONNECT {_S3}:443 HTTP/1.1"}


def test_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "s3.test, .ut.ee")
    proxy = SiteProxy.from_environment()
    assert proxy.address == URL("http://proxy.test:3128")
    assert proxy.serves(URL("https://registry-1.docker.io/v2/"))
    for direct in ("https://s3.test/", "https://mirror.ut.ee:8443/v2/", "http://registry-1.docker.io/"):
        assert not proxy.serves(URL(direct))
    monkeypatch.delenv("HTTPS_PROXY")
    assert not SiteProxy.from_environment().serves(URL("https://registry-1.docker.io/v2/"))
