"""Shows what an author wrote: printable, cut, and never what looks like a secret."""

from webhook.credentials import looks_like_credential

MAX_SHOWN_PATH = 120
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


def shown_name(text: str) -> str:
    """Return a container's name as messages show it: at most 63 characters."""
    return shown_path(text[:63])


def cut(text: str, limit: int) -> str:
    """Return `text` with at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
