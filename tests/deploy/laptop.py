"""A laptop for Vagrant: libvirt in namespaces that end with it, and a box with Debian for it.

Machines run without the processor's help (TCG), many times slower than they would on a real laptop. Their way to the
package indexes is a proxy where libvirt's own network ends, and from there that of the tests' hosts.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.parts.process import Process, run

from . import playbook
from .hosts import INSTALLED, Bed, tree

BOX = "tests/bookworm"
# What a box of Debian's has beside what any host has.
_INSTALLED = (*INSTALLED, "kmod", "linux-image-cloud-amd64", "initramfs-tools")
_PROGRAMS = {
    "vagrant": "vagrant", "libvirtd": "libvirt-daemon-system", "virsh": "libvirt-clients", "dnsmasq": "dnsmasq-base",
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "mke2fs": "e2fsprogs",
}  # fmt: skip
_KEY = Path("/usr/share/rubygems-integration/all/gems")
_POOL = "tests"
_GATEWAY = "198.18.40.1"
_PROXY_PORT = 3128
_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
seccomp_sandbox = 0
"""
_LIBVIRTD_CONF = 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n'
# libvirt's folders are the test's own, for as long as the namespace lives; $1 has its configuration.
_START = """
set -e
for folder in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do mount -t tmpfs tmpfs $folder; done
mount --bind "$1/etc" /etc/libvirt
# A processor's help that is itself made up by software is slower than none; libvirt would try it.
[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm
mkdir -p /run/libvirt /var/lib/libvirt/images
tinyproxy -c "$1/proxy.conf"
# Not exec: machines that have ended are taken off by the first process, and libvirtd does not.
libvirtd --config /etc/libvirt/libvirtd.conf &
wait $!
"""


def missing() -> str | None:
    lacking = sorted({package for name, package in _PROGRAMS.items() if shutil.which(name) is None})
    if not lacking and not _public_keys():
        lacking = ["vagrant"]
    return f"no vagrant up (apt: {' '.join(lacking)})" if lacking else None


class Laptop:
    """Runs commands where libvirt is; use `laptop`."""

    def __init__(self, libvirtd: Process, project: Path, home: Path) -> None:
        self._libvirtd = libvirtd
        self._project = project
        self._home = home

    def run(self, *command: str, timeout: float = 60.0) -> str:
        """Run a command in the project's folder and give its output; raises CommandFailed."""
        inside = _first_child(self._libvirtd.pid)
        environment = {
            **playbook.environment(self._home), "VAGRANT_HOME": str(self._home), "REGISTRY_BOX": BOX,
            "VAGRANT_DEFAULT_PROVIDER": "libvirt", "LIBVIRT_DEFAULT_URI": "qemu:///system", "HOME": str(self._home),
        }  # fmt: skip
        del environment["ANSIBLE_CONFIG"]  # the Vagrantfile names it
        enter = ["nsenter", f"--target={inside}", "--mount", "--net", "--pid", f"--wd={self._project}"]
        return run([*enter, *command], environment=environment, timeout=timeout)


@contextmanager
def laptop(bed: Bed, project: Path, folder: Path) -> Iterator[Laptop]:
    """Start libvirt with a box for it; ``project`` is a copy of the project, which Vagrant writes to."""
    home = folder / "home"
    etc = folder / "etc"
    home.mkdir(parents=True)
    etc.mkdir()
    (folder / "pool").mkdir()
    (etc / "qemu.conf").write_text(_QEMU_CONF)
    (etc / "libvirtd.conf").write_text(_LIBVIRTD_CONF)
    (folder / "proxy.conf").write_text(
        f"User nobody\nGroup nogroup\nPort {_PROXY_PORT}\nTimeout 600\nMaxClients 50\nUpstream http {bed.proxy}\n"
    )
    namespace = bed.connect()
    command = [
        "ip", "netns", "exec", namespace, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "sh", "-c", _START, "libvirt", str(folder),
    ]  # fmt: skip
    libvirtd = Process("libvirtd", command, folder)
    try:
        made = Laptop(libvirtd, project, home)
        libvirtd.until(lambda: _answers(made), timeout=180, interval=1)
        made.run("virsh", "pool-create-as", _POOL, "dir", "--target", str(folder / "pool"))
        made.run("vagrant", "box", "add", "--name", BOX, str(_box(folder, bed)), timeout=600)
        yield made
    finally:
        libvirtd.stop(signal.SIGKILL)


def _answers(laptop: Laptop) -> bool:
    try:
        laptop.run("virsh", "version", timeout=60)
    except (AssertionError, OSError, subprocess.TimeoutExpired):
        return False
    return True


def _first_child(pid: int) -> int:
    """Give the process that is the first of the namespace `unshare` made."""
    children = run(["ps", "-o", "pid=", "--ppid", str(pid)]).split()
    if not children:
        raise OSError(f"process {pid} has no child yet")
    return int(children[0])


def _box(folder: Path, bed: Bed) -> Path:
    """Pack Debian as Vagrant takes it, with what a machine without the processor's help needs; gives the file."""
    root, box = folder / "root", folder / "box"
    box.mkdir()
    run(["cp", "--archive", str(tree("box", _INSTALLED)), str(root)], timeout=300)
    _furnish(root)
    disk = box / "disk.ext4"
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), str(disk), "8G"], timeout=600)
    run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(box / "box.img")], timeout=600)
    disk.unlink()
    (box / "metadata.json").write_text(json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": 8}))
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next(root.glob(f"boot/{name}-*")), folder / name)
    shutil.rmtree(root)
    (box / "Vagrantfile").write_text(_vagrantfile(folder))
    packed = folder / "bookworm.box"
    run(["tar", "--create", "--sparse", "--file", str(packed), "--directory", str(box), "."], timeout=600)
    shutil.rmtree(box)
    return packed


def _furnish(root: Path) -> None:
    """Put there what makes a box: the user vagrant, addresses from whoever gives them, the way out."""
    chroot = ["chroot", str(root)]
    run([*chroot, "useradd", "--create-home", "--shell", "/bin/bash", "vagrant"])
    keys = root / "home/vagrant/.ssh"
    keys.mkdir(mode=0o700)
    (keys / "authorized_keys").write_text("".join(key.read_text() for key in _public_keys()))
    run([*chroot, "chown", "--recursive", "vagrant:vagrant", "/home/vagrant/.ssh"])
    (root / "etc/sudoers.d/vagrant").write_text("vagrant ALL=(ALL) NOPASSWD: ALL\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults,noatime 0 1\n")
    (root / "etc/hostname").write_text("bookworm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 bookworm\n")
    (root / "etc/machine-id").write_text("")
    (root / "etc/apt/apt.conf.d/90proxy").write_text(f'Acquire::http::Proxy "http://{_GATEWAY}:{_PROXY_PORT}";\n')
    (root / "etc/systemd/network/10-first.network").write_text("[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
    run([*chroot, "systemctl", "enable", "systemd-networkd.service"])


def _public_keys() -> Sequence[Path]:
    """Find the key that boxes are made with; Vagrant replaces it in a machine at once."""
    return list(_KEY.glob("vagrant-*/keys/vagrant.pub"))


def _vagrantfile(folder: Path) -> str:
    """Spell what the box needs of libvirt here."""
    settings: Mapping[str, str] = {
        "driver": "qemu", "cpu_mode": "custom", "cpu_model": "qemu64", "machine_type": "q35",
        "kernel": str(folder / "vmlinuz"), "initrd": str(folder / "initrd.img"),
        "cmd_line": "console=ttyS0 root=/dev/vda rw mitigations=off net.ifnames=0 quiet",
        "graphics_type": "none", "video_type": "none", "uri": "qemu:///system",
        "management_network_name": "tests", "management_network_address": f"{_GATEWAY.rpartition('.')[0]}.0/24",
        "storage_pool_name": _POOL,
    }  # fmt: skip
    lines = "".join(f"    v.{name} = {json.dumps(value)}\n" for name, value in settings.items())
    return (
        f'Vagrant.configure("2") do |config|\n  config.vm.boot_timeout = 900\n'
        f"  config.vm.provider :libvirt do |v|\n{lines}  end\nend\n"
    )
