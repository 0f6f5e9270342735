"""Assemble an image's root folder: Python, our packages, their libraries, and nothing else.

Runs inside the build stage of the Dockerfiles: `python3 -m images.root TARGET --site SITE
--package NAME… [--file FROM:TO…]`. What is copied: the interpreter, the standard library without
its tests and tools, the packages of SITE, ours, every shared library that one of those names, the
system's CA certificates. There is no shell, no package manager and no compiler in the result.
Modules are compiled ahead, checked by nothing, so that a read-only root starts as quickly as any;
all times are $SOURCE_DATE_EPOCH, so that the same input gives the same bytes.
"""

import argparse
import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = frozenset(
    {
        "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "distutils",
        "venv", "site-packages", "dist-packages", "unittest", "sqlite3", "dbm", "curses", "xmlrpc",
        "msilib",
        # The asynchronous half of the Kubernetes client, which nothing of ours imports: 70 MB.
        "kubernetes/aio", "aiohttp", "aiohttp_retry",
    }
)  # fmt: skip
"""Folders, from the top of what is copied."""
LEFT_OUT_ANYWHERE = frozenset({"test", "tests", "__pycache__"})
LEFT_OUT_FILES = ("turtle.py", "doctest.py", "pdb.py", "antigravity.py", "this.py")
LEFT_OUT_LIBRARIES = (
    "_tkinter",
    "_test",
    "_ctypes_test",
    "_sqlite3",
    "_curses",
    "_dbm",
    "readline",
)
OF_EXTRAS = ("crc32c", "kafka")
"""Modules that an image has only with `EXTRAS` (requirements/kafka.in)."""
UID = 65532
PYTHON = Path("/usr/local/bin/python")


def main(arguments: list[str]) -> int:
    """Assemble the folder."""
    parser = argparse.ArgumentParser(prog="python3 -m images.root", description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--site", type=Path, required=True, help="what pip installed, a folder")
    parser.add_argument("--package", action="append", default=[], help="ours, copied to /app")
    parser.add_argument("--file", action="append", default=[], metavar="FROM:TO")
    options = parser.parse_args(arguments)
    root: Path = options.target
    _copy_python(root)
    _copy_tree(options.site, root / "app" / "site")
    for package in options.package:
        _copy_tree(Path(package), root / "app" / package)
    for pair in options.file:
        source, _, target = pair.partition(":")
        _copy_file(Path(source), root / target.lstrip("/"))
    _copy_libraries(root)
    _write_system_files(root)
    _compile(root)
    _try(root, options.package)
    _set_times(root, int(os.environ.get("SOURCE_DATE_EPOCH", "0")))
    return 0


def _copy_python(root: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    _copy_file(interpreter, root / str(interpreter).lstrip("/"))
    link = root / str(PYTHON).lstrip("/")
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(interpreter)
    for kind in ("stdlib", "platstdlib"):
        library = Path(sysconfig.get_path(kind))
        _copy_tree(library, root / str(library).lstrip("/"))


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a folder without what LEFT_OUT… names; links are followed."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if _is_left_out(Path(folder) / name, source)}

    shutil.copytree(source, target, ignore=left_out, dirs_exist_ok=True)


def _is_left_out(path: Path, source: Path) -> bool:
    where = path.relative_to(source).as_posix()
    if path.is_dir():
        # Most of them at the top only: a package of pip may have a `unittest` of its own.
        return where in LEFT_OUT or path.name in LEFT_OUT_ANYWHERE or where.startswith("config-3.")
    if path.name.endswith((".pyc", ".pyi", ".a")) or path.name in LEFT_OUT_FILES:
        return True
    return path.name.endswith(".so") and path.name.startswith(LEFT_OUT_LIBRARIES)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _copy_libraries(root: Path) -> None:
    """Copy every shared library that a program or library in `root` asks for, and the loader."""
    wanted = [path for path in root.rglob("*") if path.is_file() and _is_elf(path)]
    seen: set[str] = set()
    while wanted:
        listed = subprocess.run(
            ["ldd", str(wanted.pop())], capture_output=True, text=True, check=False
        )
        for line in listed.stdout.splitlines():
            words = line.split()
            path = next((word for word in words if word.startswith("/")), None)
            if path is None or path in seen or path.startswith(str(root)):
                continue
            seen.add(path)
            target = root / path.lstrip("/")
            if not target.exists():
                _copy_file(Path(path).resolve(), target)
                wanted.append(target)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _write_system_files(root: Path) -> None:
    etc = root / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(f"root:x:0:0:root:/:\nsidetail:x:{UID}:0:sidetail:/:\n")
    (etc / "group").write_text(f"root:x:0:\nsidetail:x:{UID}:\n")
    (etc / "nsswitch.conf").write_text("hosts: files dns\npasswd: files\ngroup: files\n")
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():
        _copy_file(bundle, etc / "ssl" / "certs" / bundle.name)
        (etc / "ssl" / "cert.pem").symlink_to(f"certs/{bundle.name}")
    openssl = Path("/usr/lib/ssl")
    (root / "usr" / "lib" / "ssl").mkdir(parents=True, exist_ok=True)
    if openssl.exists():
        (root / "usr" / "lib" / "ssl" / "cert.pem").symlink_to(f"/etc/ssl/certs/{bundle.name}")
    for name in ("tmp", "proc", "dev", "sys", "run"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def _compile(root: Path) -> None:
    for source in [path for path in root.rglob("*.py") if "lib2to3" not in path.parts]:
        compileall.compile_file(
            source,
            ddir=str(Path("/") / source.relative_to(root).parent),
            quiet=2,
            optimize=0,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _try(root: Path, packages: list[str]) -> None:
    """Import every package inside the result, and of ours every module.

    What is imported late would else be missed late: a part of the standard library that was left
    out, or a shared library that only this base has. Modules for an extra that was not asked for
    are the only ones that may miss something.
    """
    program = (
        "import importlib, pkgutil, sys\n"
        "names = [found.name for found in pkgutil.iter_modules(['/app/site'])]\n"
        "for package in sys.argv[1:]:\n"
        "    walked = pkgutil.walk_packages(['/app/' + package], package + '.')\n"
        "    names += [found.name for found in walked if not found.name.endswith('__main__')]\n"
        "for name in names:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        f"        if error.name not in {OF_EXTRAS}:\n"
        "            raise\n"
    )
    subprocess.run(
        ["chroot", str(root), str(PYTHON), "-c", program, *packages],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": "/app:/app/site",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        check=True,
    )


def _set_times(root: Path, epoch: int) -> None:
    for path in [*root.rglob("*"), root]:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
