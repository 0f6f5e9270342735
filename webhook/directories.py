"""Which directories a new volume may stand on, and what it would hide there (design 3.3, rule 3).

Everything is compared segment by segment, never by characters: `/data/app2` is not in `/data/app`.
"""

from contract.names import ROOT
from contract.reasons import BAD_PATH, FORBIDDEN_DIRECTORY, HIDES_PROGRAM
from webhook.globs import is_wild, path_matches
from webhook.pod import Container, Segments, segments

_NEVER = frozenset({"proc", "sys", "dev"})
"""Not even where the author has mounted something there."""
_SYSTEM = frozenset({"etc", "usr", "bin", "sbin"})
_SECRETS: Segments = ("run", "secrets")
_QUIET: tuple[Segments, ...] = (
    ("var", "log"),
    ("var", "tmp"),
    ("tmp",),
    ("run",),
    ("log",),
    ("logs",),
)
"""Below these nobody keeps programs, so a volume there hides nothing that matters."""
_LOGS: tuple[Segments, ...] = (("var", "log"), ("log",), ("logs",))


def show(directory: Segments) -> str:
    """Return a directory as a path."""
    return "/" + "/".join(directory)


def is_within(path: Segments, directory: Segments) -> bool:
    """Return whether `path` is `directory` or below it."""
    return path[: len(directory)] == directory


def fixed_part(pattern: Segments) -> Segments:
    """Return the directory of a pattern: what stands before its first wildcard segment.

    >>> fixed_part(("var", "log", "*", "a.log")), fixed_part(("var", "log", "a.log"))
    (('var', 'log'), ('var', 'log'))
    """
    for place, segment in enumerate(pattern):
        if is_wild(segment):
            return pattern[:place]
    return pattern[:-1]


def _canonical(path: Segments) -> Segments:
    """Return the path with `/var/run`, a link to `/run` in every image, replaced."""
    return path[1:] if path[:2] == ("var", "run") else path


def never(pattern: Segments) -> str | None:
    """Return why a pattern is refused whatever is mounted there, or None."""
    first = _canonical(pattern)[0]
    if first in _NEVER:
        return f"nothing below /{first} is collected"
    if first == ROOT[1:]:
        return f"{ROOT} is ours"
    return None


def refuse_new(
    directory: Segments, container: Container, argv: tuple[str, ...], patterns: list[Segments]
) -> tuple[str, str] | None:
    """Return the reason and the message why no volume may be mounted at `directory`, or None.

    `argv` is what the container runs, `patterns` is what is asked for in it: an argument that
    is one of the log files hides nothing.
    """
    where = _canonical(directory)
    if not directory:
        return FORBIDDEN_DIRECTORY, "the root cannot be covered: log to a directory such as /logs"
    if where[0] in _SYSTEM or where[0].startswith("lib"):
        return FORBIDDEN_DIRECTORY, f"nothing is mounted in /{where[0]}"
    if is_within(where, _SECRETS) or is_within(_SECRETS, where) or directory == ("var",):
        return FORBIDDEN_DIRECTORY, f"{show(directory)} holds or is above /run/secrets"
    if any(":" in segment for segment in directory):
        return BAD_PATH, "a directory with ':' cannot be mounted"
    hidden = _hidden(directory, container, argv, patterns)
    if hidden is not None:
        return HIDES_PROGRAM, f"a volume at {show(directory)} would hide {hidden}"
    return None


def _hidden(
    directory: Segments, container: Container, argv: tuple[str, ...], patterns: list[Segments]
) -> str | None:
    workdir = container.raw.get("workingDir")
    if isinstance(workdir, str) and workdir and is_within(segments(workdir), directory):
        return "the working directory"
    if argv and is_within(_program(argv[0], workdir), directory):
        return "the program"
    for argument in (*argv[1:], *container.args):
        if not argument.startswith("/") or not is_within(segments(argument), directory):
            continue
        if any(path_matches(pattern, segments(argument)) for pattern in patterns):
            continue
        if segments(argument) == directory and _is_log_directory(directory):
            continue  # `--log-dir /var/log/app` names the directory of the logs itself
        return "a file that the program is given as an argument"
    return None


def _program(word: str, workdir: object) -> Segments:
    """Return where the program lies; empty if its name is looked for in PATH."""
    if word.startswith("/"):
        return segments(word)
    if "/" in word and isinstance(workdir, str):
        return segments(f"{workdir}/{word}")
    return ()


def _is_log_directory(directory: Segments) -> bool:
    return any(is_within(directory, logs) and directory != logs for logs in _LOGS)


def hidden_content(directory: Segments) -> str | None:
    """Return a warning about what the image may have under a new volume, or None (rule 5)."""
    where = _canonical(directory)
    if where in _QUIET:
        return (
            f"the new volume at {show(directory)} hides the sub-directories that the image has"
            " there: name the deepest directory, or set sidetail.dev/seed"
        )
    if any(is_within(where, quiet) for quiet in _QUIET):
        return None
    return (
        f"the new volume at {show(directory)} hides what the image has there:"
        " name the deepest directory, or set sidetail.dev/seed"
    )
