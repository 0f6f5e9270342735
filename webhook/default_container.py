"""Which container is meant where an author names none: part of step 4 of the webhook.

Injectors run in no order that anybody promises, and those after us put containers of their own in
front of the author's, or say in an annotation which one they take for the default. A path that
meant `app` at the first run must not mean somebody's proxy at the second: the author's files would
silently be no longer collected. So the first run decides, and writes down what it has decided.
"""

from contract.names import DEFAULT_CONTAINER, KNOWN_SIDECARS
from webhook.directories import fixed_part, is_within
from webhook.options import Options
from webhook.pod import Container, Mount, Pod, Segments, segments


def default_container(pod: Pod, options: Options) -> Container:
    """Return the container that is meant where none is named (design 3.3, rule 4).

    1. The one that an earlier run has written down: in each of our containers, and in the status.
    2. Where both are gone, the one in which that run has mounted what was asked for without a
       name, or mirrors stdout.
    3. The one that the annotation `kubectl.kubernetes.io/default-container` names.
    4. The first that is not a known sidecar.
    """
    annotated = pod.annotations.get(DEFAULT_CONTAINER)
    by_name = {app.name: app for app in pod.apps}
    for name in (pod.ours.default_container, _shown_by_what_is_there(pod, options), annotated):
        if name in by_name:
            return by_name[name]
    return next((app for app in pod.apps if app.name not in KNOWN_SIDECARS), pod.apps[0])


def _shown_by_what_is_there(pod: Pod, options: Options) -> str | None:
    by_default = [_directory(one.path) for one in options.paths if one.container is None]
    for app in pod.apps:
        by_name = [_directory(one.path) for one in options.paths if one.container == app.name]
        for mount in app.kept_mounts:
            if _encloses_any(mount, by_default) and not _encloses_any(mount, by_name):
                return app.name
    if options.choices.stdout == "mirror":
        return next((app.name for app in pod.apps if app.is_mirrored), None)
    return None


def _directory(path: str) -> Segments:
    return fixed_part(segments(path))


def _encloses_any(mount: Mount, directories: list[Segments]) -> bool:
    return any(is_within(directory, mount.path) for directory in directories)
