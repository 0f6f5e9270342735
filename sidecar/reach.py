"""The sources' globs compiled, and how far one has been matched in a folder.

In: sources. Out: which paths belong to one, and how records show them. Pure.
"""

import os
from dataclasses import dataclass

from sidecar.glob import MAX_DEPTH, Exclude, Glob, States, compile_exclude, compile_path
from sidecar.identity import shown_name
from sidecar.settings import Source


@dataclass(frozen=True, slots=True, eq=False)
class SourceGlobs:
    """A source with its patterns compiled."""

    source: Source
    base: str
    """What `shown_as` stands for."""
    globs: tuple[Glob, ...]
    exclude: Exclude

    def shown_path(self, path: str) -> str:
        """Return a file's path as records show it."""
        if self.source.shown_as is not None:
            base = self.base.rstrip("/")
            if path.startswith(base + "/"):
                path = self.source.shown_as.rstrip("/") + path[len(base) :]
        return shown_name(os.fsencode(path))

    def matches(self, path: str) -> bool:
        """Return whether a file at this path would be found."""
        *folders, name = path.strip("/").split("/")
        for glob in self.globs:
            fixed = [part for part in glob.folder.split("/") if part]
            if folders[: len(fixed)] != fixed or len(folders) - len(fixed) > MAX_DEPTH:
                continue
            states = glob.start()
            for folder in folders[len(fixed) :]:
                states = glob.enter(states, folder)
            if glob.matches(states, name):
                return not self.exclude.matches(self.shown_path(path), name)
        return False


def compile_source(source: Source) -> SourceGlobs:
    """Compile the patterns of a source.

    Raises:
        GlobError: one is not of the dialect.
    """
    base, globs = compile_path(source.path)
    return SourceGlobs(source, base, globs, compile_exclude(source.exclude))


@dataclass(frozen=True, slots=True)
class Reach:
    """How one pattern reaches into a folder."""

    globs: SourceGlobs
    glob: Glob
    states: States
    depth: int
    """Folders below the pattern's fixed folder."""


def descends(reach: Reach) -> bool:
    """Return whether a pattern reaches into folders of this one."""
    last = len(reach.glob.segments) - 1
    return reach.depth < MAX_DEPTH and any(state < last for state in reach.states)
