"""The log-in as it is on campus: over TLS, at an identity provider of another site, whose pages post the answer.

Chromium takes `registry.localhost` and 127.0.0.1 for two sites, so cookies of ours stay at home when the answer comes,
but for the one that has to come along.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.conftest import require
from tests.deploy.authority import Authority
from tests.parts.idp import IdentityProvider
from tests.parts.process import Process, free_port, run
from tests.parts.service import Service
from tests.web import browser as browser_part
from tests.web.conftest import SCREENS

from .person import Person

_NAME = "registry.localhost"
_NGINX = """
pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off; user root;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/pair.pem; ssl_certificate_key {folder}/pair.key;
        location / {{
            proxy_pass http://{behind};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""


def missing() -> str | None:
    return None if shutil.which("nginx") else "no nginx here (apt: nginx-light)"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, university: IdentityProvider) -> Iterator[str]:
    """A service behind nginx that speaks TLS, which the identity provider trusts; its address."""
    require(sys.modules[__name__])
    folder = tmp_path_factory.mktemp("https")
    port = free_port()
    url = f"https://{_NAME}:{port}"
    overrides = {
        "server": {"external_url": url, "trusted_proxies": ["127.0.0.1"]},
        "saml": {"enabled": True, "idp_metadata_url": university.metadata_url},
    }
    with Service(folder / "service", overrides=overrides) as service:
        nginx = _nginx(folder, port, service.host)
        try:
            university.trust(url, run(["curl", "--silent", f"http://{service.host}/saml/metadata"]).encode())
            yield url
        finally:
            nginx.stop()


def _nginx(folder: Path, port: int, behind: str) -> Process:
    pair = Authority(folder).certify(_NAME)
    (folder / "pair.pem").write_text(pair.certificate)
    (folder / "pair.key").write_text(pair.key)
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, port=port, behind=behind))
    nginx = Process("nginx", ["nginx", "-c", str(file), "-p", str(folder)], folder)
    nginx.until(lambda: (folder / "nginx.pid").exists())
    return nginx


@pytest.fixture
def mari_at_home(chromium: Browser, address: str) -> Iterator[Person]:
    context = browser_part.context(chromium, address, locale="en", width=1280, theme="light", scripts=True)
    context.set_default_timeout(20_000)
    person = Person(context.new_page(), SCREENS, address, scripts=True)
    yield person
    context.close()
    assert person.complaints == []


def test_the_answer_comes_from_another_site(mari_at_home: Person, address: str) -> None:
    mari = mari_at_home.enter("mari", "/mine")
    assert mari.page.url == f"{address}/mine"
    cookies = {cookie["name"]: cookie for cookie in mari.page.context.cookies(address)}
    # What bound the log-in to this browser has done its work.
    assert not [name for name in cookies if name.startswith("__Host-saml")]
    assert all(name.startswith("__Host-") for name in cookies)
    assert all(cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in cookies.values())


def test_the_binding_is_what_may_come_along(mari_at_home: Person, address: str) -> None:
    mari_at_home.go("/login").click("Log in with the university account", role="link")
    mari_at_home.page.locator("input[name=password]").wait_for()
    cookies = mari_at_home.page.context.cookies(address)
    (binding,) = [cookie for cookie in cookies if cookie["name"].startswith("__Host-saml")]
    assert binding["sameSite"] == "None"
    # Without it the same answer is somebody else's.
    mari_at_home.page.context.clear_cookies(name=binding["name"])
    mari_at_home.page.locator("input[name=username]").fill("mari")
    mari_at_home.page.locator("input[name=password]").fill("maripass")
    mari_at_home.page.locator("input[name=password]").press("Enter")
    mari_at_home.page.wait_for_url(f"{address}/saml/acs")
    assert "log in" in mari_at_home.text().lower()
    assert mari_at_home.go("/mine").page.url.startswith(f"{address}/login")


def test_logging_out_here_is_logging_out_there(mari_at_home: Person, address: str) -> None:
    mari = mari_at_home.enter("mari", "/mine")
    mari.open("mari@ut.ee").click("Log out")
    mari.page.wait_for_url(f"{address}/")
    mari.go("/mine").click("Log in with the university account", role="link")
    mari.page.locator("input[name=password]").wait_for()
