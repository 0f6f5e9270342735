"""Run one container's command with real mounts: `python -m demo.sandbox DOCUMENT`.

The process enters a user and mount namespace of its own, which needs no rights, makes itself a
root out of the machine's (every folder as it is, but for the mounts' places), and becomes the
command. The document is JSON: `root` (an empty folder), `mounts` (from, to, read_only),
`directory`, `command`.

Source: user_namespaces(7), mount(2), locked mount flags in mount_namespaces(7).
"""

import ctypes
import json
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_MS_LOCKED = 2 | 4 | 8 | 1024 | 2048
"""nosuid, nodev, noexec, noatime, nodiratime: a remount has to repeat what stands."""
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """One volume in one container."""

    source: str
    """A folder (or file) of this machine."""
    target: str
    """An absolute path in the container."""
    read_only: bool


def works() -> bool:
    """Return whether this machine lets an ordinary process do all this."""
    with tempfile.TemporaryDirectory(prefix="sidetail-probe-") as folder:
        child = os.fork()
        if child == 0:
            try:
                enter(Path(folder), [Mount(folder, "/var/log/probe", read_only=True)])
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0


def enter(root: Path, mounts: list[Mount]) -> None:
    """Move this process into a namespace where `mounts` are in place.

    Raises:
        OSError: the machine forbids it.
    """
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", str(root), "tmpfs", 0)
    targets = [Path(mount.target) for mount in mounts]
    _expose(Path("/"), root, targets)
    for mount in sorted(mounts, key=lambda each: each.target.count("/")):
        _place(mount, root)
    os.chroot(root)
    os.chdir("/")


def _expose(folder: Path, root: Path, targets: list[Path]) -> None:
    """Show what the machine has in `folder`: bound as it is, but for the ways to the targets."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        path = Path(entry.path)
        place = root / path.relative_to("/")
        if entry.is_symlink():
            place.symlink_to(path.readlink())
        elif not entry.is_dir():
            place.touch()
            _mount(str(path), str(place), None, _MS_BIND)
        elif any(target.is_relative_to(path) for target in targets):
            place.mkdir()
            if path not in targets:
                _expose(path, root, targets)
        else:
            place.mkdir()
            _mount(str(path), str(place), None, _MS_BIND | _MS_REC)


def _place(mount: Mount, root: Path) -> None:
    place = root / mount.target.lstrip("/")
    if Path(mount.source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount(mount.source, str(place), None, _MS_BIND | _MS_REC)
    if mount.read_only:
        locked = os.statvfs(place).f_flag & _MS_LOCKED
        _mount("none", str(place), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | locked)


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() if kind else None, flags, None
    )
    _check(result, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def main(arguments: list[str]) -> int:
    """Become the command of the document; return only if that fails, as a shell would."""
    document = json.loads(arguments[0])
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if document["root"]:
        enter(Path(document["root"]), [Mount(**mount) for mount in document["mounts"]])
    command: list[str] = document["command"]
    try:
        os.chdir(document["directory"])
        os.execvp(command[0], command)  # noqa: S606 - it is what the pod's author asked for
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
