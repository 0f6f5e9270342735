"""Tells text that looks like a secret, which must stand in no pod and in no message (T14)."""

import re

_SHAPES = re.compile(
    r"""
      ://[^/\s]*@                                # userinfo of a URL
    | \b(?:ghp|gho|ghu|ghs|ghr|github_pat|glpat|sk|xox[abeoprs]|npm|pypi|hf)[_-][\w-]{16,}
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
    | \beyJ[\w-]{8,}\.[\w-]{4,}                  # a JSON web token
    | (?i:\b(?:bearer|basic)\s+[\w+/=.~-]{8,})
    | -----BEGIN
    | \b(?:AIza|ya29\.|SG\.|dop_v1_|hvs\.|s\.)[\w-]{20,}
    """,
    re.VERBOSE,
)
_WORDS = re.compile(
    r"(?i)(?:^|[._-])(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|credentials?|authorization)(?:$|[._-])"
)


def looks_like_credential(text: str) -> bool:
    """Return whether `text` has the shape of a token, a key or a URL with a password."""
    return _SHAPES.search(text) is not None


def names_credential(key: str) -> bool:
    """Return whether a value under this key would be a secret, as under `api_key`."""
    return _WORDS.search(key) is not None
