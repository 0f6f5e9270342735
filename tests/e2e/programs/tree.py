"""Tells the collector what is in a folder; $TREE is a JSON object of `main`'s arguments.

Not on the command line: a program that is given a file there does not get a volume over it.
"""

import hashlib
import json
import os
import time
import urllib.request
from pathlib import Path


def seen(folder: Path) -> dict[str, str]:
    """Return the files and links below `folder` that this user can read: path → what it is."""
    found: dict[str, str] = {}
    for top, _, names in os.walk(folder):
        for path in (Path(top) / name for name in names):
            name = str(path.relative_to(folder))
            if path.is_symlink():
                found[name] = f"link to {os.readlink(path)}"
            elif path.is_file() and os.access(path, os.R_OK):
                mode = path.stat().st_mode & 0o777
                found[name] = f"{mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def main(collector: str, namespace: str, label: str, folder: str) -> None:
    body = json.dumps({"label": label, "uid": os.getuid(), "tree": seen(Path(folder))}).encode()
    request = urllib.request.Request(f"{collector}/note?namespace={namespace}", body, method="POST")
    for attempt in range(20):
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except OSError:
            if attempt == 19:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main(**json.loads(os.environ["TREE"]))
