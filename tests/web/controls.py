"""Keeps the account of controls: which ones pages showed, and which of them somebody used.

A script in every page names its controls and notes each click, each typing and each sending of a form, as it happens.
A control's name is stable: the page, and what it does (where a link leads, which form a button sends, what is copied),
never its words, which depend on the language. What the menu, the tabs and the foot have is theirs on every page.
"""

from __future__ import annotations

import json
import re

from playwright.sync_api import BrowserContext, ConsoleMessage, Page
from tornado.web import RequestHandler

from app.web.pages import routes as table

KINDS = {"link": "a[href]", "copy": "button.copy"}
_MARK = "controls "
# The pages of the log-in have a route table of their own.
_PATTERNS = [
    *((pattern, re.compile(pattern)) for pattern, _ in table._PAGES),
    *((path, re.compile(path)) for path in ("/login", "/logout")),
]
_NAMED = re.compile(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)")

# Where a control stands, what it is, the address it leads to, and what tells it from others that lead there.
_WATCH = """
(() => {
  const zones = {"header.top, .skip": "menu", "footer": "foot", ".tabs": "tabs", ".guide-contents": "contents",
    ".crumbs": "crumbs", ".secret": "secret", ".lonely:has(.error-code)": "error"};
  const zone = (element) => {
    for (const [selector, name] of Object.entries(zones)) if (element.closest(selector)) return name;
    return location.pathname;
  };
  const action = (form) => (form ? form.getAttribute("action") ?? location.pathname : "");
  const value = (field) => `${field.name}=${field.value}`;
  const told = (form) => ["kind", "disabled"].map((name) => form?.querySelector(`[type=hidden][name=${name}]`))
    .filter(Boolean).map(value);
  const copied = (button) => button.dataset.copyFrom
    ?? (button.closest("#answers") ? "an answer" : null)
    ?? (button.closest("article") ? "an example" : null)
    ?? button.parentElement.querySelector("code[id]")?.id
    ?? button.dataset.copy.replace(/^sha256:.*/, "digest").split(" ").slice(0, 2).join(" ");
  const asks = (search) => [...new URLSearchParams(search)].map(([name, what]) => ({after: "?after", before: "?before",
    show: `?show=${what}`}[name] ?? ""));
  const link = (element) => {
    if (element.hasAttribute("download")) return ["download", ""];
    if (element.origin !== location.origin) return null;
    const target = element.getAttribute("href");
    // Within the guide's own text.
    if (target.startsWith("#")) return element.closest("article") ? null : ["jump", "", target];
    return ["link", element.pathname, ...asks(element.search)];
  };
  const button = (element) => {
    if (element.dataset.copy !== undefined || element.dataset.copyFrom) return ["copy", "", copied(element)];
    if (element.dataset.try) return ["example", "", element.textContent.trim()];
    if (element.hasAttribute("data-theme-switch")) return ["colours", ""];
    return ["button", action(element.form), ...told(element.form), element.name ? value(element) : ""];
  };
  const describe = (element) => {
    switch (element.localName) {
      case "a": return link(element);
      case "button": return button(element);
      case "summary": {
        const details = element.parentElement;
        return ["fold", action(details.querySelector("form")), details.className];
      }
      // Nobody can send it but without scripts.
      case "form": return element.dataset.addresses ? null
        : ["form", action(element), element.method, ...told(element)];
      default: {
        const choice = ["radio", "checkbox"].includes(element.type);
        return ["field", action(element.form), ...told(element.form), choice ? value(element) : element.name];
      }
    }
  };
  const everything = "a[href], summary, button, form, select, textarea, input:not([type=hidden])";
  const names = (elements) => elements.filter((one) => !one.closest(".no-js-only")).map((one) => [one, describe(one)])
    .filter(([, said]) => said).map(([one, said]) => [zone(one), ...said]);
  const tell = (what, elements) => console.debug("controls " + JSON.stringify([what, names([...elements])]));
  const look = () => tell("shown", document.querySelectorAll(everything));
  document.addEventListener("DOMContentLoaded", look);
  for (const event of ["click", "input", "change", "submit"]) {
    document.addEventListener(event, (happened) => {
      // Scripts bring some into a page after it was shown: the answers of the address helper.
      look();
      const element = happened.target.closest?.(event === "click" ? "a[href], summary, button" : everything);
      if (element) tell("used", [element]);
    }, true);
  }
  window.nameOfControl = (element) => names([element])[0] ?? null;
})();
"""


class Account:
    """What all browsers of a run were shown and did, by the controls' names."""

    def __init__(self) -> None:
        self.shown: set[str] = set()
        self.used: set[str] = set()

    def watch(self, context: BrowserContext) -> None:
        """Note what happens in a browser from now on; nothing of one without scripts."""
        context.add_init_script(_WATCH)
        context.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "debug" and message.text.startswith(_MARK):
            what, told = json.loads(message.text.removeprefix(_MARK))
            names = {_name(*one) for one in told}
            self.shown |= names
            if what == "used":
                self.used |= names

    def unused(self) -> list[str]:
        """List what was shown and not used."""
        return sorted(self.shown - self.used)

    def waiting(self, page: Page, kind: str) -> list[tuple[str, int]]:
        """List the links or copy buttons on a page that nobody has used so far, each with its place among `KINDS`."""
        told = page.locator(KINDS[kind]).evaluate_all("elements => elements.map(window.nameOfControl)")
        found: dict[str, int] = {}
        for place, one in enumerate(told):
            if one and one[1] == kind and _name(*one) not in self.used:
                found.setdefault(_name(*one), place)
        return list(found.items())


def pages(method: str) -> set[str]:
    """Name the pages of the route table that answer a method."""
    found = {pattern for pattern, page in table._PAGES if getattr(page, method) is not getattr(RequestHandler, method)}
    return {page_of(_spelled(pattern)) for pattern in found}


def page_of(path: str) -> str:
    """Spell a path as a page of the route table, ``/projects/PROJECT/members``; any other stays as it is."""
    if path == "/administration":
        return "/administration/users"
    return next((_spelled(pattern) for pattern, compiled in _PATTERNS if compiled.fullmatch(path)), path)


def _spelled(pattern: str) -> str:
    return _NAMED.sub(lambda found: found[1].upper(), pattern).replace("\\", "")


def _name(zone: str, kind: str, address: str, *details: str) -> str:
    return " ".join(filter(None, (f"{page_of(zone)}:", kind, page_of(address) if address else "", *details)))
