"""Generated parts of documents and manifests: `python -m tests.generated [--write]`.

Each row of GENERATED names a file and what it should hold; a test checks that it does.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from contract.annotations import ANNOTATIONS, PREFIX
from contract.reasons import REASONS, SKIPS
from contract.sidecar_config import BACKEND_TYPES
from manifests.build import installation
from runtime.settings import REQUIRED, Key
from sidecar.backends.registry import backend_module, option_keys
from sidecar.keys import BACKEND_KEYS, DOCUMENT_KEYS, LIMIT_KEYS, SOURCE_KEYS
from webhook.config_keys import TOP_KEYS

ROOT = Path(__file__).resolve().parent.parent


def _between(path: Path, name: str, content: str) -> str:
    """Return the file with the part between the marks `name: begin` and `name: end` replaced."""
    text = path.read_text(encoding="utf-8")
    begin = text.index("\n", text.index(f"<!-- {name}: begin")) + 1
    end = text.index(f"<!-- {name}: end")
    return text[:begin] + content + text[end:]


def _readme_annotations() -> str:
    rows = [
        f"| `{PREFIX}{row.key.removeprefix(PREFIX)}` | {row.sentence} | {row.default} |\n"
        for row in ANNOTATIONS
    ]
    table = "| annotation | what it does | default |\n|---|---|---|\n" + "".join(rows)
    return _between(ROOT / "README.md", "annotations", table)


def _key_rows(keys: tuple[Key, ...]) -> str:
    rows = []
    for key in keys:
        default = "required" if key.default is REQUIRED else _shown(key.default)
        rows.append(f"| `{key.name}` | {key.sentence} | {default} |\n")
    return "| key | meaning | default |\n|---|---|---|\n" + "".join(rows)


def _shown(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default in ([], {}):
        return "empty"
    return f"`{default}`"


def _sidecar_keys() -> str:
    content = "".join(
        f"### {title}\n\n{_key_rows(keys)}\n"
        for title, keys in (
            ("The document", DOCUMENT_KEYS),
            ("`sources[]`", SOURCE_KEYS),
            ("`backends[]`, every type", BACKEND_KEYS),
            ("`limits`", LIMIT_KEYS),
        )
    )
    return _between(ROOT / "docs" / "sidecar.md", "keys", content)


def _annotations() -> str:
    rows = [
        f"| `{row.key}` | {row.value.replace('|', '&#124;')} | {row.default} | {row.sentence} |\n"
        for row in ANNOTATIONS
    ]
    table = "| annotation | value | default | |\n|---|---|---|---|\n" + "".join(rows)
    return _between(ROOT / "docs" / "annotations.md", "annotations", table)


def _operator_keys() -> str:
    return _between(ROOT / "docs" / "operator.md", "keys", _key_rows(TOP_KEYS))


def _reasons() -> str:
    head = (
        "# Reasons\n\nWhy something that was asked for is not done: the codes of `left_out` in"
        " `sidetail.dev/status`, of Events, warnings and `sidetail_left_out_total{reason}`. One"
        " code for each remedy.\n"
    )
    parts = [
        f"\n## {reason.code}\n\n{reason.sentence}\n\n{reason.remedy}\n"
        + ("" if reason.mendable else "\nNever denied, also with `on_error: deny`.\n")
        for reason in REASONS
    ]
    skips = "".join(f"| `{code}` | {sentence} |\n" for code, sentence in SKIPS.items())
    tail = "\n# Why a pod is not looked at\n\nIt gets no status.\n\n| code | |\n|---|---|\n"
    return head + "".join(parts) + tail + skips


def _backend_types() -> str:
    rows = []
    for name in BACKEND_TYPES:
        sentence = (backend_module(name).__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        rows.append(f"| [{name}]({name}.md) | {sentence.removeprefix(f'`{name}`: ')} |\n")
    table = "| type | |\n|---|---|\n" + "".join(rows)
    return _between(ROOT / "docs" / "backends" / "README.md", "types", table)


def _backend_options(name: str) -> str:
    keys = option_keys(name)
    content = _key_rows(keys) if keys else "No options of its own.\n"
    return _between(ROOT / "docs" / "backends" / f"{name}.md", "options", content)


GENERATED: dict[str, Callable[[], str]] = {
    "README.md": _readme_annotations,
    "docs/annotations.md": _annotations,
    "docs/operator.md": _operator_keys,
    "docs/reasons.md": _reasons,
    "docs/sidecar.md": _sidecar_keys,
    "docs/backends/README.md": _backend_types,
    **{f"docs/backends/{name}.md": partial(_backend_options, name) for name in BACKEND_TYPES},
    "manifests/install.yaml": installation,
}


def main(arguments: list[str]) -> int:
    """Check every generated file, or write it; return 0 if all match."""
    stale = [
        name
        for name, make in GENERATED.items()
        if make() != (ROOT / name).read_text(encoding="utf-8")
    ]
    if "--write" in arguments:
        for name in stale:
            (ROOT / name).write_text(GENERATED[name](), encoding="utf-8")
            print("written:", name)
        return 0
    for name in stale:
        print("not as generated (make generated):", name)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
