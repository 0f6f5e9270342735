"""Builds the C files into the library that `sidecar.native` loads.

`python -m sidecar.build_encoder`, or `make encoder`.

It needs a C compiler (`$CC`, else `cc`) and nothing else. Flags for a variant (sanitizers) and
another target may be given: see `--help`.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sidecar.native import LIBRARY

SOURCES = tuple(
    Path(__file__).parent / f"{name}.c"
    for name in ("encode", "lines", "automaton", "objects", "record_batch")
)
FLAGS = ("-std=c11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")


def build(target: Path, *, flags: Sequence[str] = (), compiler: str = "cc") -> None:
    """Compile the encoder to `target`; a reader of the old file keeps the old file.

    Raises:
        subprocess.CalledProcessError: the compiler says no (on its stderr).
        OSError: there is no compiler, or the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target and renamed: a running sidecar has the old one mapped.
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    command = [*shlex.split(compiler), *FLAGS, *flags, "-o", str(fresh), *map(str, SOURCES)]
    try:
        subprocess.run(command, check=True)  # noqa: S603 - the compiler that the builder named
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> int:
    """Build the library; exit status 0, or 1 where it could not be built."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.build_encoder", description=__doc__)
    parser.add_argument("--target", type=Path, default=Path(LIBRARY), help="default: %(default)s")
    parser.add_argument("flags", nargs="*", help="more flags for the compiler, after --")
    options = parser.parse_args(arguments)
    try:
        build(options.target, flags=options.flags, compiler=os.environ.get("CC", "cc"))
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"building the encoder: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
