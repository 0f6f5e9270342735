"""Shows what an author wrote: printable, cut, and never what looks like a secret."""

import re

from contract.annotations import ANNOTATIONS, INJECT_LABEL
from contract.sidecar_config import FORMATS, LOG_LEVELS, MULTILINE_MODES
from runtime.settings import nearest
from webhook.credentials import looks_like_credential

MAX_SHOWN_PATH = 120
_MAX_WORD = 16
_NUMBER = re.compile(r"[ +-]*[0-9][0-9A-Za-z.+_-]{0,12} *", re.ASCII)
_WORDS = (
    *("mirror", "all", "sidecar", "node", "auto", "true", "false", "yes", "enabled", "disabled"),
    *(*FORMATS, *MULTILINE_MODES, *LOG_LEVELS),
)
_WORD_KEYS = {INJECT_LABEL, *(annotation.key for annotation in ANNOTATIONS if annotation.is_word)}
_HIDDEN = "(not shown: it looks like a credential)"


def shown_path(text: str) -> str:
    """Return a path as messages and the status show it.

    Everything that is not printable, spaces aside, is escaped: bidirectional marks and line
    separators too, which would turn a terminal's line around.
    """
    if looks_like_credential(text):
        return _HIDDEN
    cut = text if len(text) <= MAX_SHOWN_PATH else text[:MAX_SHOWN_PATH] + "…"
    if cut.isprintable():
        return cut
    return "".join(
        character if character.isprintable() else _escaped(character) for character in cut
    )


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]


def got(key: str, value: object) -> str:
    """Return how a message about a wrong value of an annotation begins, such as `got 'JSON', `.

    Empty for what resembles nothing that anybody would write there: it may be a secret that
    went astray.
    """
    if key not in _WORD_KEYS or not isinstance(value, str) or len(value) > _MAX_WORD:
        return ""
    is_slip = _NUMBER.fullmatch(value) or nearest(value.strip().lower(), _WORDS)
    return f"got {value!a}, " if is_slip else ""


def shown_name(text: str) -> str:
    """Return a container's name as messages show it: at most 63 characters."""
    return shown_path(text[:63])


def cut(text: str, limit: int) -> str:
    """Return `text` with at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
