"""Every page, every GET of the REST API and of /v2, and every command: what is asked, by whom, and the exceptions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from app.web.api.elsewhere import EMPTY
from app.web.pages.guide import CHAPTERS

from .building import FEW, MARI, Built

API = "/api/v2.0"
_NOTHING = "no-such-name"


@dataclass(frozen=True)
class Ask:
    """A request. ``by``: "admin", "mari" (no administrator) or "nobody"; /v2 is asked with a token of theirs."""

    path: str
    by: str = "admin"


def asked(built: Built) -> Mapping[str, Ask]:
    """List the requests by name, in the order in which they are sent."""
    return {**_pages(built), **_api(built), **_v2(built)}


def _pages(built: Built) -> dict[str, Ask]:
    deep, app = "/projects/deep", "/projects/deep/repositories/app"
    admin = "/administration"
    plain = [
        "/", "/addresses?q=redis", "/help", *(f"/help/{name}" for name in CHAPTERS[1:]), "/search", "/mirror",
        "/help/personal-data", "/projects", "/projects?show=public", f"{admin}/robots/{built.size + FEW + 1}",
        f"{deep}/robots/{built.size + 1}",
        "/projects?show=private", "/projects?after=p-0000500", "/projects?before=p-0000500", "/new-project",
        admin, f"{admin}/budgets", f"{admin}/requests", f"{admin}/requests?show=refused",
        f"{admin}/requests?q=deep/app", f"{admin}/requests?q={_NOTHING}", f"{admin}/users",
        f"{admin}/users?after=user-0000500", f"{admin}/projects", f"{admin}/upstreams",
        f"{admin}/upstreams/fills", f"{admin}/unattended", "/secret",
        f"{admin}/robots", f"{admin}/robots/new", f"{admin}/audit", f"{admin}/audit?operation=push",
        f"{admin}/audit?operation=delete", deep, f"{deep}/configuration", "/projects/mirror/cache",
        "/projects/mirror/cache/fills", f"{deep}/members", f"{deep}/robots", f"{deep}/robots/new", f"{deep}/labels",
        f"{deep}/policy", f"{deep}/policy/runs/1", f"{deep}/bin", f"{deep}/webhooks", f"{deep}/webhooks/new",
        f"{deep}/webhooks/{built.size + 1}",
        f"{deep}/tags/app:v0000007", f"{deep}/logs", f"{deep}/repositories",
        "/projects/mirror/repositories",
        "/waiting", "/plans", "/plans/new", "/plans/7", "/plans/7/fills",
        "/projects/mirror/repositories?after=library/image-0000500", app, f"{app}@{built.image}",
        f"{app}?show=artifacts", f"{app}?sort=name", f"{app}?page=300", f"{app}@{built.index}", f"{app}@{built.tagged}",
        f"{app}:v0000007", "/no-such-page", f"{deep}/storage", f"{deep}/compare/app",
        f"{deep}/compare/app?from=v0000007&to={built.image}",
    ]  # fmt: skip
    asks = {path: Ask(path) for path in plain}
    for path in (
        "/",
        "/projects",
        "/projects?show=mine",
        "/search?q=image",
        "/search?q=v0000007&in=tags",
        "/search?q=user&in=people",
        "/plans",
        "/mine",
        "/mine/sessions",
        "/mine/keys",
        "/mine/deleted",
    ):
        asks[f"{path} by mari"] = Ask(path, "mari")
    asks[f"/search?q={_NOTHING}&in=tags"] = Ask(f"/search?q={_NOTHING}&in=tags")
    asks["failed deliveries on a page"] = Ask(f"{deep}/webhooks/{built.size + 1}?show=failed")
    asks["/search by digest"] = Ask(f"/search?q={built.image}")
    asks["/search by no digest"] = Ask(f"/search?q=sha256:{'f' * 64}")
    asks["/projects?owner="] = Ask(f"/projects?owner={MARI}")
    for path in ("/projects", "/mirror", "/search?q=image"):
        asks[f"{path} by nobody"] = Ask(path, "nobody")
    for path in (
        "/search", "/projects", f"{admin}/users", f"{admin}/projects", f"{admin}/robots", f"{admin}/audit",
        f"{admin}/unattended", f"{deep}/members", f"{deep}/robots", f"{deep}/logs", "/projects/mirror/repositories",
        app, f"{app}@{built.tagged}", f"{deep}/bin",
    ):  # fmt: skip
        asks[f"{path}?q="] = Ask(f"{path}?q={_NOTHING}")
    return asks


def _api(built: Built) -> dict[str, Ask]:
    deep = f"{API}/projects/deep"
    app = f"{deep}/repositories/app"
    image, tagged = (f"{app}/artifacts/{quote(digest)}" for digest in (built.image, built.tagged))
    own, mirror = f"{API}/users/current", f"{API}/projects/mirror/repositories"
    plain = [
        f"{API}/projects", f"{API}/projects?public=true", f"{API}/projects?name=deep", f"{API}/projects?sort=-name",
        f"{API}/projects?sort=creation_time", deep, f"{deep}/_deletable", f"{deep}/summary", f"{deep}/members",
        f"{deep}/members/{built.size + 1}", f"{deep}/logs", f"{API}/robots", f"{API}/robots/{built.size + 1}",
        f"{API}/robots?q=Level=project,ProjectID={built.deep}", f"{API}/permissions", f"{API}/repositories",
        f"{API}/projects/mirror/repositories", f"{mirror}?sort=-pull_count", f"{mirror}?sort=creation_time",
        f"{deep}/repositories", app, f"{app}/artifacts", f"{app}/artifacts?q=tags=*",
        f"{app}/artifacts?q=tags=v0000007", f"{app}/artifacts?q=labels=({built.size})", image,
        f"{image}/additions/build_history", f"{image}/accessories", f"{image}/tags", f"{tagged}/tags",
        f"{API}/labels?scope=g", f"{API}/labels?scope=p&project_id={built.deep}", f"{API}/labels/{built.size + 1}",
        f"{API}/retentions/metadatas", f"{API}/retentions/1", f"{API}/retentions/1/executions",
        f"{API}/retentions/1/executions/1/tasks", f"{API}/retentions/1/executions/1/tasks/1",
        f"{deep}/immutabletagrules", f"{app}/tags/v0000007/history", f"{deep}/bin", f"{API}/deleted-projects",
        f"{API}/quotas", f"{API}/quotas?sort=-used.storage", f"{API}/quotas/{built.deep}", f"{own}/permissions",
        f"{API}/users", f"{API}/users/7", f"{API}/users/search?username=user-0000007",
        f"{API}/mirror/mirror/budget", f"{API}/mirror/mirror/fills", f"{API}/mirror/mirror/traffic", f"{API}/ping",
        f"{API}/health", f"{API}/systeminfo", f"{API}/systeminfo/volumes", f"{API}/statistics",
        f"{API}/search?q=image", f"{API}/plans", f"{API}/plans/7", f"{API}/audit-logs",
        f"{API}/audit-logs?q=operation=push",
        f"{API}/audit-logs?q=operation=delete", f"{API}/audit-logs?q=project_name=deep", f"{API}/registries",
        f"{API}/registries/1", f"{API}/openapi.json", f"{API}/openapi.yaml",
    ]  # fmt: skip
    asks = {path: Ask(path) for path in [*plain, *_of_harbor(deep), *_webhooks(deep, built.size + 1)]}
    asks |= _sorted(deep, mirror, tagged)
    for path in (own, f"{own}/access-keys", f"{own}/sessions", f"{API}/statistics", f"{API}/projects"):
        asks[f"{path} by mari"] = Ask(path, "mari")
    for name, path in {
        "search without a match": f"{API}/search?q={_NOTHING}",
        "projects without a match": f"{API}/projects?name={_NOTHING}",
        "repositories without a match": f"{API}/repositories?q=name=~{_NOTHING}",
        "repositories of a project without a match": f"{mirror}?q=name=~{_NOTHING}",
        "users without a match": f"{API}/users?q=username=~{_NOTHING}",
        "user search without a match": f"{API}/users/search?username={_NOTHING}",
        "audit without a match": f"{API}/audit-logs?q=text=~{_NOTHING}",
        "audit of a kind without a match": f"{API}/audit-logs?q=resource_type=label",
        "audit of some minutes": f"{API}/audit-logs?q=op_time=[{_spelled(built.began)}~{_spelled(built.began + 500)}]",
        "artifacts without a match": f"{app}/artifacts?q=tags=~{_NOTHING}",
        "webhook executions without a match": (f"{deep}/webhook/policies/{built.size + 1}/executions?q=status=Error"),
        "tags without a match": f"{tagged}/tags?q=name=~{_NOTHING}",
        "the bin without a match": f"{deep}/bin?q=name=~{_NOTHING}",
    }.items():
        asks[name] = Ask(path)
    for name, path in {
        "artifacts by a part of a digest": f"{app}/artifacts?q=digest=~{_NOTHING}",
        "audit of a person without a match": f"{API}/audit-logs?q=username={_NOTHING}",
        "audit of a part of a person": f"{API}/audit-logs?q=username=~{_NOTHING}",
        "audit of a resource": f"{API}/audit-logs?q=resource={_NOTHING}",
    }.items():
        asks[name] = Ask(path)
    last = built.size // 10
    for name, path in {
        "projects": f"{API}/projects", "repositories": mirror, "artifacts": f"{app}/artifacts",
        "tags": f"{tagged}/tags", "audit": f"{API}/audit-logs", "users": f"{API}/users", "quotas": f"{API}/quotas",
        "all repositories": f"{API}/repositories",
    }.items():  # fmt: skip
        asks[f"the 50th page of {name}"] = Ask(f"{path}?page=50")
        asks[f"the last page of {name}"] = Ask(f"{path}?page={last}")
    return asks


def _webhooks(deep: str, webhook: int) -> list[str]:
    one = f"{deep}/webhook/policies/{webhook}"
    execution = f"{one}/executions/7"
    return [
        f"{deep}/webhook/policies", f"{deep}/webhook/policies?q=name=~hook", f"{deep}/webhook/events", one,
        f"{one}/executions", f"{one}/executions?sort=start_time",
        f"{execution}/tasks", f"{execution}/tasks/7/log",
    ]  # fmt: skip


def _of_harbor(deep: str) -> list[str]:
    """List what Harbor's clients ask beside: other words, exact names, and lists that are always empty."""
    exact = (
        f"{API}/projects?q=name=deep", f"{API}/projects?owner={MARI}", f"{deep}/repositories?q=name=deep/app",
        f"{API}/repositories?q=name=deep/app", f"{API}/users?q=username={MARI}", f"{API}/robots?q=name={_NOTHING}",
        f"{API}/labels?scope=g&q=name={_NOTHING}", f"{deep}/repositories/app/artifacts/v0000007/tags?q=name=v0000007",
        f"{deep}/repositories/app/artifacts?q=digest=sha256:{4:064x}",
    )  # fmt: skip
    words = (
        f"{API}/auditlog-exts", f"{deep}/auditlog-exts", f"{API}/configurations", f"{deep}/metadatas/",
        f"{deep}/metadatas/public", f"{API}/users?page=0&page_size=0",
    )  # fmt: skip
    empty = (API + path.replace("{project_name_or_id}", "deep").replace("{project_name}", "deep") for path in EMPTY)
    return [*exact, *words, *empty]


# Of each list, a sort that no index has, and one by two fields.
_SORTS: Mapping[str, tuple[str, ...]] = {
    "projects": ("owner_name", "-creation_time,name"),
    "repositories": ("update_time", "-pull_count,name"),
    "all repositories": ("-update_time", "creation_time,-name"),
    "artifacts": ("pull_time", "artifact_type,-push_time"),
    "tags": ("push_time", "-push_time,name"),
    "audit": ("username", "operation,-op_time"),
    "audit of a project": ("resource", "-resource,op_time"),
    "users": ("-email", "sysadmin_flag,username"),
    "quotas": ("hard.storage", "-hard.storage,id"),
    "robots": ("creation_time", "disable,-name"),
    "labels": ("color", "-creation_time,name"),
}


def _sorted(deep: str, mirror: str, tagged: str) -> dict[str, Ask]:
    paths = {
        "projects": f"{API}/projects", "repositories": mirror, "all repositories": f"{API}/repositories",
        "artifacts": f"{deep}/repositories/app/artifacts", "tags": f"{tagged}/tags", "audit": f"{API}/audit-logs",
        "audit of a project": f"{deep}/logs", "users": f"{API}/users", "quotas": f"{API}/quotas",
        "robots": f"{API}/robots", "labels": f"{API}/labels",
    }  # fmt: skip
    return {
        f"{name} sorted by {sort}": Ask(f"{path}?sort={sort}") for name, path in paths.items() for sort in _SORTS[name]
    }


def _spelled(at: float) -> str:
    return time.strftime("%22%Y-%m-%d%%20%H:%M:%S%22".replace("%22", "%%22"), time.gmtime(at))


def _v2(built: Built) -> dict[str, Ask]:
    plain = [
        "/v2/", "/v2/_catalog", "/v2/_catalog?n=100&last=mirror/library/image-0000500", "/v2/deep/app/tags/list",
        "/v2/deep/app/tags/list?n=100&last=v0000500", f"/v2/deep/app/referrers/{built.image}",
        "/v2/deep/app/manifests/v0000007", f"/v2/deep/app/manifests/{built.image}",
    ]  # fmt: skip
    asks = {path: Ask(path) for path in plain}
    asks["/v2/_catalog by nobody"] = Ask("/v2/_catalog", "nobody")
    return asks


# Commands of an operator, ``python -m app admin …``.
COMMANDS: Mapping[str, list[str]] = {
    "create-project": ["made-by-hand", "--public"],
    "change-project": ["deep", "--public"],
    "set-password": [MARI],
    "forget-identities": [MARI],
    "export-person": [MARI],
    "erase-person": ["user-0000008", "--to", MARI],
    "rotate-keys": [],
    "explain": ["deep/app"],
    "status": [],
}

_SEARCH = "a search looks at 10,000 entries at most"
# 100 entries of a page have a row of another table each. At 1,000 plans that table is read whole, which is cheaper.
_ENTRIES = "a row of another table for each of the page's entries, found by its key"
_COUNT = "a count ends at 1,000"
_BIN = "the bytes of a bin are added up over the first 1,000 rows of each kind"
_SORT = "a sort that no index has looks at 10,000 entries at most"
_PUSHES = "of the blobs that were pushed within a day, 10,000 are looked at"
_OFFSET = "a page number counts the entries before it, in an index alone; Link and the pages' own keys do not"
# What a sort that no index has may cost of each list.
_SORTED: Mapping[str, tuple[int, int]] = {
    "projects": (51000, 381000),
    "repositories": (38000, 507000),
    "all repositories": (49500, 652000),
    "artifacts": (69500, 1201000),
    "tags": (700, 1326000),
    "audit": (400, 250000),
    "audit of a project": (700, 276000),
    "users": (300, 237000),
    "quotas": (0, 266000),
}
# Two commands of operators, which nobody waits for in a browser, go through these tables for one name. An index on each
# of ten columns would make every push dearer.
_TRACES = "all tags, repositories and projects are read once for a person, who is erased or exported once in a life"
# What may cost more, up to a bound that does not depend on the registry: why, and how much in buffers of PostgreSQL and
# steps of SQLite. 0 is for a database where it costs no more. Those of `_TRACES` are of the large registry here.
EXCEPTIONS: Mapping[str, tuple[str, int, int]] = {
    "export-person": (_TRACES, 30000, 50_000_000),
    "erase-person": (_TRACES, 50000, 100_000_000),
    "/administration/upstreams": (_ENTRIES, 300, 0),
    "/plans": (_ENTRIES, 300, 0),
    "/api/v2.0/plans": (_ENTRIES, 300, 0),
    "/administration": (_COUNT, 5000, 130000),
    "/projects/deep": (f"{_PUSHES}; {_BIN}", 52000, 650000),
    "/projects/deep/bin": (_BIN, 37000, 0),
    "/projects/deep/repositories": (_COUNT, 11800, 87000),
    "/projects/deep/repositories/app": (_COUNT, 12100, 236000),
    "/projects/deep/repositories/app?show=artifacts": (_COUNT, 12600, 136000),
    "/projects/deep/repositories/app?sort=name": (_COUNT, 11700, 236000),
    "/projects/deep/repositories/app?page=300": (_COUNT, 12200, 545000),
    "/api/v2.0/projects/deep/repositories?q=name=deep/app": (_COUNT, 11400, 83000),
    "/api/v2.0/repositories?q=name=deep/app": (_COUNT, 11400, 83000),
    "/projects by mari": (_SEARCH, 600, 0),
    "/search?q=image by mari": (_SEARCH, 7100, 562000),
    "/search?q=image by nobody": (_SEARCH, 4200, 306000),
    "/search?q=": (_SEARCH, 0, 651000),
    "/search?q=no-such-name&in=tags": (_SEARCH, 34000, 470000),
    "/search by no digest": (_SEARCH, 34000, 470000),
    "/search by digest": (_SEARCH, 44000, 540000),
    "/search?q=v0000007&in=tags by mari": (_SEARCH, 120000, 1020000),
    "/projects?q=": (_SEARCH, 500, 301000),
    "/administration/users?q=": (_SEARCH, 300, 338000),
    "/administration/projects?q=": (_SEARCH, 500, 276000),
    "/administration/audit?q=": (_SEARCH, 400, 326000),
    "/projects/deep/logs?q=": (_SEARCH, 700, 363000),
    "/projects/mirror/repositories?q=": (_SEARCH, 200, 326000),
    "/projects/deep/repositories/app?q=": (_SEARCH, 12000, 2447000),
    f"/projects/deep/repositories/app@sha256:{3:064x}?q=": (_SEARCH, 900, 341000),
    "/projects/deep/bin?q=": (f"{_SEARCH}; {_BIN}", 37000, 1500000),
    "/projects/deep/storage": (_SEARCH, 60000, 700000),
    "the bin without a match": (_SEARCH, 1500, 1500000),
    "/api/v2.0/projects?public=true": (_COUNT, 300, 31000),
    "/api/v2.0/projects?name=deep": (_SEARCH, 900, 602000),
    "/api/v2.0/projects/deep/logs": (_COUNT, 0, 13000),
    "/api/v2.0/repositories": (_COUNT, 11800, 104000),
    "/api/v2.0/projects/deep/repositories": (_COUNT, 11700, 87000),
    "/api/v2.0/projects/deep/repositories/app": (_COUNT, 11400, 83000),
    "/api/v2.0/projects/deep/repositories/app/artifacts": (_COUNT, 12000, 197000),
    "/api/v2.0/projects/deep/repositories/app/artifacts?q=tags=*": (_COUNT, 15800, 247000),
    "/api/v2.0/projects/deep/repositories/app/artifacts?q=labels=(1000)": (_SEARCH, 115800, 3301000),
    "webhook executions without a match": (_SEARCH, 10500, 400000),
    "failed deliveries on a page": (_SEARCH, 10500, 400000),
    "/api/v2.0/users/search?username=user-0000007": (_SEARCH, 600, 676000),
    "/api/v2.0/statistics": (_COUNT, 4000, 106000),
    "/api/v2.0/search?q=image": (_SEARCH, 1200, 306000),
    "/api/v2.0/audit-logs?q=project_name=deep": (_COUNT, 0, 13000),
    "/api/v2.0/statistics by mari": (_COUNT, 6700, 87000),
    "/api/v2.0/projects by mari": (_COUNT, 600, 66000),
    "search without a match": (_SEARCH, 0, 651000),
    "projects without a match": (_SEARCH, 900, 601000),
    "repositories without a match": (_SEARCH, 0, 701000),
    "repositories of a project without a match": (_SEARCH, 400, 651000),
    "users without a match": (_SEARCH, 600, 676000),
    "user search without a match": (_SEARCH, 600, 676000),
    "audit without a match": (_SEARCH, 700, 651000),
    "audit of a kind without a match": (_SEARCH, 700, 401000),
    "audit of some minutes": (_SEARCH, 400, 238000),
    "artifacts without a match": (_SEARCH, 126900, 3351000),
    "tags without a match": (_SEARCH, 1400, 451000),
    "the last page of projects": (_OFFSET, 2300, 768000),
    "the last page of repositories": (_OFFSET, 1000, 894000),
    "the 50th page of artifacts": (_COUNT, 17700, 0),
    "the last page of artifacts": (_OFFSET, 69500, 2247000),
    "the last page of tags": (_OFFSET, 3500, 388000),
    "the last page of audit": (_OFFSET, 400, 262000),
    "the last page of users": (_OFFSET, 600, 262000),
    "the last page of quotas": (_OFFSET, 2200, 641000),
    "the last page of all repositories": (_OFFSET, 2600, 770000),
    "/api/v2.0/projects/deep/auditlog-exts": (_COUNT, 0, 13000),
    "/api/v2.0/projects/deep/summary": (f"{_PUSHES}; {_BIN}", 40000, 600000),
    "artifacts by a part of a digest": (_SEARCH, 115800, 3101000),
    "audit of a person without a match": (_SEARCH, 700, 476000),
    "audit of a part of a person": (_SEARCH, 700, 476000),
    "audit of a resource": (_SEARCH, 700, 401000),
    **{f"{name} sorted by {sort}": (_SORT, *most) for name, most in _SORTED.items() for sort in _SORTS[name]},
}
