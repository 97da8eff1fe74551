"""Bare Debian hosts with systemd: systemd-nspawn guests on a bridge of their own, gone without a trace at the end.

A guest's root is an overlay in memory over one tree that is built once and kept in tests/artifacts. The packages that
the playbook installs are downloaded into that tree and not installed. Its only way out is a proxy on the bridge. As in
a cloud's image, it has no package lists; its ssh is not on the usual port.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.parts.process import ROOT, CommandFailed, Process, run, wait_for
from tests.parts.service import descendants

T = TypeVar("T")

_PROGRAMS = {
    "mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "tinyproxy": "tinyproxy-bin",
    "ip": "iproute2", "ssh": "openssh-client", "ssh-keygen": "openssh-client",
}  # fmt: skip
# What a host has before Ansible comes: what Debian's installer and a cloud image put there.
INSTALLED = (
    "systemd", "systemd-sysv", "dbus", "udev", "openssh-server", "python3", "python3-apt", "ca-certificates", "sudo",
    "iproute2", "procps", "curl",
)  # fmt: skip
# What the roles install; downloaded beforehand, so that a test waits for dpkg and not for the line.
_DOWNLOADED = (
    "python3-venv", "python3-packaging", "nginx-light", "openssl", "redis-server", "postgresql", "nftables", "rclone",
    "prometheus", "prometheus-node-exporter", "prometheus-blackbox-exporter",
    "prometheus-alertmanager", "haproxy", "python3-botocore", "certbot", "logrotate",
    "systemd-timesyncd",
)  # fmt: skip
BOOKWORM, TRIXIE = "bookworm", "trixie"
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
# What root may not do everywhere, in namespaces that end with it.
_ATTEMPT = ("unshare", "--mount", "--net", "sh", "-c", "mount -t tmpfs tmpfs /mnt && ip link add attempt type bridge")
_PROXY_PORT = 3128
_SSH_PORT = 2222
_CLONE_NEWNET = 0x40000000


def missing() -> str | None:
    """Say what this machine lacks to have such hosts, None where it has all."""
    lacking = sorted({package for name, package in _PROGRAMS.items() if shutil.which(name) is None})
    if lacking:
        return f"no hosts to deploy to (apt: {' '.join(lacking)})"
    if os.geteuid() != 0:
        return "hosts to deploy to need root"
    if not _SOURCES.exists():
        return f"no {_SOURCES}, from which a Debian 12 host is made"
    tried = subprocess.run(_ATTEMPT, capture_output=True, text=True, check=False)
    return f"no hosts to deploy to: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Host:
    """A running guest; its programs may also be started in its network, in ``namespace``."""

    name: str
    address: str
    namespace: str
    key: Path

    def ssh(self, command: str, *, timeout: float = 60.0) -> str:
        """Run a shell command as root and give its output; raises CommandFailed."""
        return run([*_ssh(self), command], timeout=timeout)

    def inside(self, action: Callable[[], T]) -> T:
        """Run ``action`` in a thread that is in the guest's network: its 127.0.0.1 is the guest's."""
        result: list[T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                _enter(self.namespace)
                result.append(action())
            except BaseException as error:  # noqa: BLE001  # it is raised again, in the caller's thread
                failure.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    @property
    def variables(self) -> dict[str, str]:
        """Give what Ansible must know to reach the host."""
        return {
            "ansible_host": self.address,
            "ansible_port": str(_SSH_PORT),
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        }


def _ssh(host: Host) -> list[str]:
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=5", "LogLevel=ERROR")
    flags = [part for option in options for part in ("-o", option)]
    return ["ssh", "-i", str(host.key), "-p", str(_SSH_PORT), *flags, f"root@{host.address}"]


def _enter(namespace: str) -> None:
    """Move this thread into a network namespace (setns(2)); it has to end afterwards."""
    with Path(f"/run/netns/{namespace}").open() as handle:
        library = ctypes.CDLL(None, use_errno=True)
        if library.setns(handle.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network {namespace}")


@dataclass
class _Guest:
    """How a host is started, its end of the cable, and what runs of it."""

    host: Host
    link: str
    command: Sequence[str]
    process: Process | None = None


class Bed:
    """A bridge, a proxy and the hosts on them; use `bed`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._roots = {BOOKWORM: tree("root", INSTALLED)}
        self._key = folder / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)])
        self._number, self.bridge = self._make_bridge()
        self.address = f"198.18.{self._number}.1"
        self._start_proxy()
        self._guests: dict[str, _Guest] = {}

    def _make_bridge(self) -> tuple[int, str]:
        # Of the range for tests of networks (RFC 2544); a second run at the same time takes the next.
        for number in range(64, 96):
            name = f"regbed{number}"
            try:
                run(["ip", "link", "add", name, "type", "bridge"])
            except CommandFailed:
                continue
            self._stack.callback(run, ["ip", "link", "del", name])
            run(["ip", "address", "add", f"198.18.{number}.1/24", "dev", name])
            run(["ip", "link", "set", name, "up"])
            return number, name
        raise RuntimeError("32 beds are in use: remove what is left over (ip link show type bridge)")

    def _start_proxy(self) -> None:
        file = self._folder / "proxy.conf"
        file.write_text(
            f"User nobody\nGroup nogroup\nPort {_PROXY_PORT}\nListen {self.address}\n"
            f"Allow 198.18.{self._number}.0/24\nTimeout 600\nMaxClients 50\nConnectPort 443\nDisableViaHeader Yes\n"
        )
        proxy = Process("proxy", ["tinyproxy", "-d", "-c", str(file)], self._folder)
        self._stack.callback(proxy.stop)

    def boot(self, name: str, *options: str, suite: str = BOOKWORM) -> Host:
        """Start a host that nobody has touched, with more ``options`` of nspawn, and wait until ssh answers."""
        if suite not in self._roots:
            self._roots[suite] = tree(f"root-{suite}", INSTALLED, suite)
        count = len(self._guests) + 1
        number = self._number * 100 + count
        folder = self._folder / name
        root = self._overlay(folder, self._roots[suite])
        namespace = f"regbed{number}"
        address = f"198.18.{self._number}.{count + 1}"
        self._connect(namespace, f"rb{number}", address)
        self._name(root, name)
        command = [
            "systemd-nspawn", "--quiet", f"--directory={root}", "--boot", "--register=no", "--keep-unit",
            f"--machine={name}", f"--network-namespace-path=/run/netns/{namespace}", "--resolv-conf=off",
            "--capability=CAP_NET_ADMIN",  # over its own network only, for its firewall
            *options,
        ]  # fmt: skip
        host = Host(name, address, namespace, self._key)
        self._guests[name] = _Guest(host, f"rb{number}", command)
        self.start(host)
        return host

    def start(self, host: Host) -> None:
        """Start a host, with the disk that it had when it ended, and wait until ssh answers."""
        guest = self._guests[host.name]
        run(["ip", "link", "set", guest.link, "up"])
        guest.process = Process(f"nspawn-{host.name}", guest.command, self._folder / host.name)
        self._stack.callback(self._end, guest.process)
        wait_for(lambda: _answers(host), what=f"{host.name} to answer", timeout=60, interval=0.2)

    def kill(self, host: Host) -> None:
        """End a host as a power cut does: it says nothing to anybody any more, then everything in it is gone."""
        guest = self._guests[host.name]
        run(["ip", "link", "set", guest.link, "down"])
        assert guest.process is not None
        # systemd-nspawn would leave what runs in it; with its first process the kernel ends all others.
        inside = descendants(guest.process.pid)
        guest.process.stop(signal.SIGKILL)
        for pid in inside:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), what=f"the end of {host.name}")

    def _overlay(self, folder: Path, below: Path) -> Path:
        memory = folder / "memory"
        memory.mkdir(parents=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(memory)])
        self._stack.callback(run, ["umount", "--lazy", str(memory)])
        upper, work, root = memory / "upper", memory / "work", memory / "root"
        for part in (upper, work, root):
            part.mkdir()
        options = f"lowerdir={below},upperdir={upper},workdir={work}"
        run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)])
        self._stack.callback(run, ["umount", "--lazy", str(root)])
        return root

    @property
    def proxy(self) -> str:
        """Say where the way out is, as HOST:PORT."""
        return f"{self.address}:{_PROXY_PORT}"

    def connect(self) -> str:
        """Make a network on the bridge without a host in it, once for each bed, and give its namespace."""
        namespace = f"regbed{self._number}99"
        self._connect(namespace, f"rb{self._number}99", f"198.18.{self._number}.99")
        return namespace

    def _connect(self, namespace: str, link: str, address: str) -> None:
        run(["ip", "netns", "add", namespace])
        self._stack.callback(run, ["ip", "netns", "del", namespace])
        run(["ip", "link", "add", link, "type", "veth", "peer", "name", "host0", "netns", namespace])
        # Both ends, at once: a namespace may outlive its name for a while.
        self._stack.callback(run, ["ip", "link", "del", link])
        run(["ip", "link", "set", link, "master", self.bridge, "up"])
        run(["ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "host0"])
        for device in ("lo", "host0"):
            run(["ip", "-n", namespace, "link", "set", device, "up"])

    def _name(self, root: Path, name: str) -> None:
        (root / "etc/hostname").write_text(f"{name}\n")
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        (root / "etc/machine-id").write_text("")
        (root / "etc/ssh/sshd_config.d/port.conf").write_text(f"Port {_SSH_PORT}\n")
        for part in (root / "var/lib/apt/lists").iterdir():
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        keys = root / "root/.ssh"
        keys.mkdir(mode=0o700, exist_ok=True)
        (keys / "authorized_keys").write_bytes(self._key.with_suffix(".pub").read_bytes())
        (root / "etc/apt/apt.conf.d/90proxy").write_text(f'Acquire::http::Proxy "http://{self.proxy}";\n')

    def _end(self, guest: Process) -> None:
        # What systemd takes for "power off"; a second one would be needed only where a unit hangs.
        guest.stop(signal.SIGTERM, timeout=40)


def _answers(host: Host) -> bool:
    try:
        host.ssh("true", timeout=10)
    except (CommandFailed, subprocess.TimeoutExpired):
        return False
    return True


@contextmanager
def bed(folder: Path) -> Iterator[Bed]:
    """Make a network for hosts; ends everything that was started on it."""
    with ExitStack() as stack:
        yield Bed(folder, stack)


def tree(kind: str, installed: Sequence[str], suite: str = BOOKWORM) -> Path:
    """Give a tree with Debian and these packages, building it where it is not there yet (a minute or two)."""
    sources = _SOURCES.read_text().replace(BOOKWORM, suite)
    recipe = repr((_commands(Path("tree"), installed, suite, _SOURCES), sources))
    folder = ROOT / "tests/artifacts/deploy"
    finished = folder / f"{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if finished.exists():
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{kind}-{'[0-9a-f]' * 12}"):
        shutil.rmtree(stale)
    unfinished = folder / f"unfinished-{kind}"
    shutil.rmtree(unfinished, ignore_errors=True)
    listed = folder / f"{kind}.sources"
    listed.write_text(sources)
    run(_commands(unfinished, installed, suite, listed), timeout=1800)
    (unfinished / "etc/apt/apt.conf.d/91keep").write_text('APT::Keep-Downloaded-Packages "true";\n')
    return unfinished.rename(finished)


def _commands(root: Path, installed: Sequence[str], suite: str, sources: Path) -> list[str]:
    """Spell what makes a tree with Debian in it."""
    download: Sequence[str] = (
        'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"', "apt-get", "--yes", "--no-install-recommends", "--download-only",
        "install", *_DOWNLOADED,
    )  # fmt: skip
    return [
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(installed)}",
        '--aptopt=Acquire::Check-Valid-Until "false"', "--skip=cleanup/apt",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        f"--customize-hook={' '.join(download)}", suite, str(root), str(sources),
    ]  # fmt: skip
