"""The letters on what ends soon, in English and in Estonian, because nobody knows which of them the reader has."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from app.database.notices import Ending

# One address, without a name. Anything else could change the letter's head, or have other readers.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,189}\Z")


@dataclass(frozen=True, slots=True)
class Draft:
    """A letter without its address."""

    subject: str
    text: str


def is_address(text: str) -> bool:
    """Return whether mail can be sent to a text."""
    return _ADDRESS.match(text) is not None


class Letters:
    """Writes letters that lead to the pages of this registry."""

    def __init__(self, external_url: str) -> None:
        self._url = external_url.rstrip("/")
        self._host = external_url.partition("://")[2].rstrip("/")

    def key(self, ending: Ending) -> Draft:
        """Write that an access key expires."""
        ends, page = day(ending.ends_at), f"{self._url}/mine/keys"
        return self._draft(
            f"the access key {ending.name} expires on {ends}",
            f"Your access key {ending.name} expires on {ends}. Programs that use it can no longer log in then.\n"
            f"Make another key, switch to it, and delete the old one:",
            f"Teie pääsuvõti {ending.name} aegub {ends}. Siis ei saa seda kasutavad programmid enam sisse logida.\n"
            f"Looge uus võti, võtke see kasutusele ja kustutage vana:",
            page,
        )

    def person(self, ending: Ending) -> Draft:
        """Write that a person's keys stop, because they have not logged in."""
        ends, page = day(ending.ends_at), f"{self._url}/mine/keys"
        return self._draft(
            f"your access keys stop on {ends}",
            f"You have not logged in with a browser for a long time, so your access keys stop on {ends}.\n"
            f"Log in once, and they still work:",
            f"Te pole ammu brauseris sisse loginud, seepärast peatuvad teie pääsuvõtmed {ends}.\n"
            f"Logige korra sisse ja need töötavad edasi:",
            page,
        )

    def robot(self, ending: Ending, project: str) -> Draft:
        """Write that a robot account expires; ``project`` is "" for one of the system."""
        ends = day(ending.ends_at)
        page = f"{self._url}/projects/{project}/robots" if project else f"{self._url}/administration/robots"
        return self._draft(
            f"the robot account {ending.name} expires on {ends}",
            f"The robot account {ending.name} expires on {ends}. Programs that use it can no longer log in then.\n"
            f"Extend it if it is still needed:",
            f"Robotikonto {ending.name} aegub {ends}. Siis ei saa seda kasutavad programmid enam sisse logida.\n"
            f"Pikendage seda, kui seda on veel vaja:",
            page,
        )

    def project(self, ending: Ending) -> Draft:
        """Write that a project's robot accounts stop, because nobody manages it."""
        ends = day(ending.ends_at)
        return self._draft(
            f"the robot accounts of {ending.name} stop on {ends}",
            f"Nobody manages {ending.name} any more, so its robot accounts stop on {ends}.\n"
            f"They still work if a project admin logs in with a browser. An administrator can hand the project over:",
            f"Projekti {ending.name} ei halda enam keegi, seepärast peatuvad selle robotikontod {ends}.\n"
            f"Need töötavad edasi, kui projekti haldur brauseris sisse logib. Administraator saab projekti üle anda:",
            f"{self._url}/projects/{ending.name}/members",
        )

    def _draft(self, subject: str, english: str, estonian: str, page: str) -> Draft:
        end = f"--\n{self._host}"
        return Draft(f"{self._host}: {subject}", f"{english}\n\n{page}\n\n{estonian}\n\n{page}\n\n{end}\n")


def day(at: float) -> str:
    """Return the day of a time (Unix seconds), in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))
