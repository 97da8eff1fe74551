"""What the configuration turns on and off: https, the local admin, the university."""

from __future__ import annotations

from pathlib import Path

from tests.parts.service import Service
from tests.parts.valkey import Valkey

from .browser import Browser, Page
from .forge import Forger


def cookies(page: Page) -> list[str]:
    """List the cookies that an answer sets, as they are spelled."""
    return [value for name, value in page.headers.items() if name == "Set-Cookie"]


async def test_over_https_cookies_stay_on_https(tmp_path: Path, redis: Valkey, forger: Forger) -> None:
    overrides = {
        "server": {"external_url": "https://registry.example"},
        "saml": {"enabled": True, "idp_metadata_url": forger.metadata_url},
    }
    with Service(tmp_path, redis=redis.url, overrides=overrides) as site:
        async with Browser(site.url) as browser:
            (binding,) = cookies(await browser.get("/saml/login"))
            assert binding.startswith("__Host-saml-")
            # It has to come along with what the identity provider's page posts to us.
            assert {"SameSite=None", "Secure", "HttpOnly", "Path=/"} <= set(binding.split("; "))
            page = await browser.get("/login")
            token = page.forms[0].fields["_xsrf"]
            (visitor,) = [cookie for cookie in cookies(page) if cookie.startswith("__Host-visitor=")]
            assert {"SameSite=Lax", "Secure", "HttpOnly", "Path=/"} <= set(visitor.split("; "))
            browser.plant(**{"__Host-visitor": visitor.partition("=")[2].partition(";")[0]})
            form = {"_xsrf": token, "username": site.username, "password": site.password}
            (session,) = cookies(await browser.post("/login", form))
            assert session.startswith("__Host-session=")
            assert {"SameSite=Lax", "Secure", "HttpOnly", "Path=/"} <= set(session.split("; "))


async def test_the_local_admin_can_be_turned_off(tmp_path: Path, redis: Valkey, forger: Forger) -> None:
    overrides = {
        "admin": {"enabled": False},
        "saml": {"enabled": True, "idp_metadata_url": forger.metadata_url},
    }
    with Service(tmp_path, redis=redis.url, overrides=overrides) as site:
        async with Browser(site.url) as browser:
            page = await browser.get("/login")
            assert not [form for form in page.forms if "password" in form.fields]
            forms = (await browser.get("/")).forms
            token = next(form.fields["_xsrf"] for form in forms if "_xsrf" in form.fields)
            form = {"_xsrf": token, "username": site.username, "password": site.password}
            refused = await browser.post("/login", form)
            assert refused.status == 403
            assert "password logins are turned off here" in refused.text
            assert await browser.me() is None


async def test_without_the_university_there_is_only_the_local_admin(tmp_path: Path, redis: Valkey) -> None:
    with Service(tmp_path, redis=redis.url) as site:
        async with Browser(site.url) as browser:
            for path in ("/saml/login", "/saml/metadata", "/saml/sls"):
                assert (await browser.get(path)).status == 404
            page = await browser.get("/login")
            assert "/saml/login" not in page.text
            await browser.send(page, username=site.username, password=site.password)
            assert await browser.me() is not None
