"""The base of all handlers of the REST API: caller, checks against the document, pages, errors, the audit log.

A request is read as the document says (`Operation`), then `AccessControl` admits it, then the handler's method runs.
The method finds its input in `view` (the project), `query` and `body`, and gets the numbers and names of the path as
arguments. This input has been checked against the document. Services raise the errors that only they can detect.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never
from urllib.parse import urlencode

from jsonschema import Draft202012Validator
from tornado.web import HTTPError

from app.access.errors import Forbidden, Invalid, Missing
from app.access.principal import Principal, address_block
from app.access.sessions import Session
from app.database.keyset import Count, Page
from app.oci.errors import OCIError
from app.web.access_control import WORDS, ProjectView
from app.web.csrf import ProtectedHandler
from app.web.services import Services
from app.web.session import COOKIE, BrowserSessions

from .caller import identify
from .document import BASE, Operation, check
from .query import Form, Term, parse_query, parse_sort

# The header of `ProtectedHandler.xsrf_token`, under the name that Harbor's pages use.
_TOKEN = "X-Harbor-CSRF-Token"  # noqa: S105  # the name of a header
_PROJECT = ("project_name_or_id", "project_name")
# In bytes. A robot account with a right in each of 500 projects takes about 64 KiB.
_LONGEST_BODY = 128 * 1024
_LONG_BODY = 2 * 1024


class MethodNotAllowed(OCIError):
    code, status, text = (
        "METHOD_NOT_ALLOWED",
        405,
        "this path does not have this method; the Allow header lists its methods",
    )


class UnsupportedMediaType(OCIError):
    code, status, text = "UNSUPPORTED_MEDIA_TYPE", 415, "send JSON with Content-Type: application/json"


class NoToken(Forbidden):
    text = f"a change in a browser session needs the header {_TOKEN}; the answer to any GET has its value"


@dataclass(frozen=True, slots=True)
class Place:
    """The project of a thing that a request names by its number; None if the thing belongs to the system.

    ``otherwise`` is the error text for callers who may not see it, the same as if it did not exist. ``system_needs`` is
    the need of an operation on a thing of the system.
    """

    project: str | int | None
    otherwise: str | None = None
    system_needs: str = "admin"


class ApiHandler(ProtectedHandler):
    """One path of the document; a subclass has one method for each of its operations."""

    needs = "the document's x-needs of each operation"
    compressed = True
    most_body = _LONGEST_BODY
    # The entries for ``page_size=0``, which means all of them in Harbor. `Link` leads on.
    most_at_once = 1000

    # Only operations in a project have a view.
    view: ProjectView

    def initialize(  # type: ignore[override]  # the route table gives services
        self, *, operations: Mapping[str, Operation], services: Services
    ) -> None:
        super().initialize(observer=services.observer)
        self._operations = operations
        self.services = services
        self.principal: Principal
        self.session: Session | None = None
        self.query: dict[str, Any] = {}
        self.filters: dict[str, Term] = {}
        self.sort: tuple[tuple[str, bool], ...] = ()
        self.body: Any = None

    @property
    def browsers(self) -> BrowserSessions:
        return self.services.browsers

    def check_xsrf_cookie(self) -> None:
        """Check browser sessions only, because no other credentials are sent without the client's will."""
        if self.session is not None:
            super().check_xsrf_cookie()

    def given_token(self) -> str:
        return self.request.headers.get(_TOKEN, "")

    async def admit(self) -> None:
        self.set_header("Cache-Control", "no-store")
        # Most changes are answered without a body.
        self.clear_header("Content-Type")
        operation = self._operations.get(self.method.lower())
        if operation is None:
            raise MethodNotAllowed(headers={"Allow": self._allowed()})
        caller = await identify(self, self.services)
        self.principal, self.session = caller.principal, caller.session
        self.subject = self.principal.subject
        if self.session is not None:
            self.set_header(_TOKEN, self.xsrf_token)
            if self.method not in ("GET", "HEAD"):
                self.check_xsrf_cookie()
                self.check_token()
        if operation.body is not None:
            # Nobody else can send one, and a schema takes its time.
            self.services.access_control.admit(self.principal, "login")

    def takes_body(self) -> bool:
        return self._operations[self.method.lower()].body is not None

    async def examine(self) -> None:
        operation = self._operations[self.method.lower()]
        path = await self._read(operation)
        await self._open(operation, path)
        self.path_args, self.path_kwargs = [], {name: path[name] for name in path if name not in _PROJECT}

    async def _read(self, operation: Operation) -> dict[str, Any]:
        path = {name: operation.path[name].read(text) for name, text in self.path_kwargs.items()}
        given = self._arguments(operation)
        self.query = {name: parameter.default for name, parameter in operation.query.items()}
        self.query |= {name: operation.query[name].read(text) for name, text in given.items()}
        self.hints = {name: parameter.default for name, parameter in operation.head.items()}
        for name, parameter in operation.head.items():
            if (text := self.request.headers.get(name)) is not None:
                self.hints[name] = parameter.read(text)
        self.filters = parse_query(self.query["q"], operation.filters) if operation.filters and "q" in given else {}
        self.sort = parse_sort(self.query["sort"], operation.sort) if "sort" in given else ()
        if operation.body is not None:
            self._require_json()
            # A long body takes longer to read and to check than other requests should wait.
            data, schema = self.request.body, operation.body
            if len(data) > _LONG_BODY:
                self.body = await self.services.computations.run(
                    address_block(self.client_address), _read_checked, schema, data
                )
            else:
                self.body = _read_checked(schema, data)
        return path

    def _arguments(self, operation: Operation) -> dict[str, str]:
        given = {}
        for name, values in self.request.query_arguments.items():
            if name not in operation.query:
                known = ", ".join(operation.query) or "none"
                raise Invalid("unknown parameter %(name)s; known parameters are %(known)s", name=name[:50], known=known)
            if len(values) > 1:
                raise Invalid("%(name)s is given twice", name=name)
            # Clients in Go send an empty text for a parameter without a value.
            if not values[0]:
                continue
            try:
                given[name] = values[0].decode()
            except UnicodeDecodeError:
                raise Invalid("%(name)s is not UTF-8", name=name) from None
        if lacking := [name for name, known in operation.query.items() if known.required and name not in given]:
            raise Invalid("the query lacks %(names)s", names=", ".join(lacking))
        return given

    def _require_json(self) -> None:
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise UnsupportedMediaType

    async def _open(self, operation: Operation, path: Mapping[str, Any]) -> None:
        access_control, needs = self.services.access_control, operation.needs
        if needs in WORDS:
            access_control.admit(self.principal, needs)
            return
        try:
            place = await self.place(path)
        except OCIError as error:
            if error.answer_status != Missing.status:
                raise
            # Anonymous callers are told to log in, whether the thing exists or not.
            access_control.admit(self.principal, "login")
            raise
        if place.project is None:
            access_control.admit(self.principal, place.system_needs)
        else:
            self.view = await access_control.open(self.principal, place.project, needs, otherwise=place.otherwise)

    async def place(self, path: Mapping[str, Any]) -> Place:
        """Return the place of the requested thing, by default the project of the path; raises Missing."""
        if "project_name" in path:
            return Place(path["project_name"])
        named: str = path["project_name_or_id"]
        by_name = self.hints["X-Is-Resource-Name"]
        if by_name or not (named.isascii() and named.isdigit() and len(named) < 16):
            return Place(named)
        if by_name is None:
            # An anonymous caller must not learn which names there are.
            number = await self.services.projects.number_of(named, known=not self.principal.is_anonymous)
            return Place(number, otherwise=f"there is no project '{named}', or you are not a member of it")
        return Place(int(named))

    def text(self, field: str) -> str:
        """Return the value of a text field in ``q``, "" if it is not there."""
        return str(self.filters[field].value) if field in self.filters else ""

    def exactly(self, field: str) -> str | None:
        """Return the whole text that ``q`` asks for in a field; None if it asks for a part, or for nothing."""
        term = self.filters.get(field)
        return str(term.value) if term is not None and term.form is Form.IS else None

    # -- answers

    def answer(self, body: object, status: int = 200) -> None:
        """Finish the answer with a body in JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        _ = self.finish(json.dumps(body))

    def page(self, search: str = "") -> Page[Never]:
        """Return the requested page of a list."""
        return Page(self.limit, offset=self.offset, sort=self.sort, search=search)

    @property
    def limit(self) -> int:
        return int(self.query["page_size"]) or self.most_at_once

    @property
    def page_number(self) -> int:
        # Clients in Go send 0 for a number without a value.
        return int(self.query["page"]) or 1

    @property
    def offset(self) -> int:
        return (self.page_number - 1) * self.limit

    def answer_page(self, items: Sequence[object], total: Count) -> None:
        """Finish with one page of a list, the total, and links to the pages before and after.

        A total that is not exact is at least one more than the entries up to here while there may be a next page. So
        a client that reads on until it has as many gets them all.
        """
        page, number = self.page_number, total.number
        if total.exact:
            follows = page * self.limit < number
        else:
            follows = len(items) == self.limit
            number = max(number, self.offset + len(items) + follows) if items else number
            self.set_header("X-Total-Count-Exact", "false")
        others = {"prev": page - 1 if page > 1 else None, "next": page + 1 if follows else None}
        links = [f'<{self._link(other)}>; rel="{rel}"' for rel, other in others.items() if other is not None]
        self.set_header("X-Total-Count", str(number))
        if links:
            self.set_header("Link", " , ".join(links))
        self.answer(items)

    def answer_whole(self, items: Sequence[object]) -> None:
        """Finish with one page of a list of which all entries are here."""
        self.answer_page(items[self.offset : self.offset + self.limit], Count(len(items)))

    def _link(self, page: int) -> str:
        arguments = {name: values[0] for name, values in self.request.query_arguments.items()}
        arguments |= {"page": str(page).encode(), "page_size": str(self.limit).encode()}
        return f"{self.request.path}?{urlencode(arguments)}"

    def created(self, path: str, body: object = None) -> None:
        """Finish with 201 and the new thing's ``Location``; ``path`` is relative to `BASE`."""
        self.set_header("Location", BASE + path)
        if body is None:
            self.set_status(201)
        else:
            self.answer(body, 201)

    def note(self, operation: str, resource_type: str, resource: str, project: tuple[int, str] | None = None) -> None:
        """Note an action in the audit log; ``project`` (id, name) is that of `view` by default, if there is one."""
        view = getattr(self, "view", None)
        of = project or (None if view is None else (view.id, view.name))
        self.services.audit.note(self.principal, self.request.remote_ip or "", operation, resource_type, resource, of)

    def compute_etag(self) -> None:
        """Make no ETag, because no answer is cached."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, HTTPError) and error.status_code in _OF_STATUS:
            error = _OF_STATUS[error.status_code]()
            kwargs["exc_info"] = (type(error), error, None)
        if status_code == MethodNotAllowed.status:
            self.set_header("Allow", self._allowed())
        # A challenge makes a browser show its own password dialog. A caller with a session's cookie is a browser.
        if status_code == 401 and self.browsers.cookies.get(self, COOKIE) is None:
            self.set_header("WWW-Authenticate", 'Basic realm="registry", charset="UTF-8"')
        super().write_error(status_code, **kwargs)

    def _allowed(self) -> str:
        return ", ".join(method.upper() for method in self._operations)


_OF_STATUS: Mapping[int, type[OCIError]] = {400: Invalid, 403: NoToken, 404: Missing, 405: MethodNotAllowed}


def read_json(data: bytes) -> Any:
    """Return the value in a body, whose texts every database can store; raises Invalid."""
    try:
        value = json.loads(data, parse_float=_number, parse_constant=_no_number)
        _require_plain(value)
    except (ValueError, RecursionError):
        raise Invalid("the body is not JSON in UTF-8, or contains a value that JSON does not allow or NUL") from None
    return value


def _read_checked(schema: Draft202012Validator, data: bytes) -> Any:
    value = read_json(data)
    check(schema, value, "the body")
    return value


def _number(text: str) -> float:
    """Read 1.0 as 1, because JSON does not tell them apart and the schemas take both for whole numbers."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return int(value) if value.is_integer() else value


def _no_number(_text: str) -> None:
    raise ValueError


def _require_plain(value: object) -> None:
    """Raise ValueError for text that a database cannot store: with NUL or half a surrogate pair."""
    if isinstance(value, str):
        value.encode()
        if "\0" in value:
            raise ValueError
    elif isinstance(value, dict):
        for key, item in value.items():
            _require_plain(key)
            _require_plain(item)
    elif isinstance(value, list):
        for item in value:
            _require_plain(item)
