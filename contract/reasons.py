"""The closed list of reasons, one code per remedy: for status, Event, metric and docs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something that was asked for is not done, and what to do about it."""

    code: str
    """Kebab-case; also the anchor in docs/reasons.md."""
    sentence: str
    """What it means, for people."""
    remedy: str
    """What to do about it."""
    mendable: bool = True
    """Whether its author can mend it where it stands, so that `on_error: deny` denies for it."""


BAD_PATH = "bad-path"
BAD_VALUE = "bad-value"
NOT_ALLOWED = "not-allowed"
UNKNOWN_CONTAINER = "unknown-container"
UNKNOWN_BACKEND = "unknown-backend"
UNKNOWN_PATTERN = "unknown-pattern"
FORBIDDEN_DIRECTORY = "forbidden-directory"
HIDES_PROGRAM = "hides-program"
VOLUME_KIND = "volume-kind"
BLOCK_DEVICE = "block-device"
ENVIRONMENT_UNKNOWN = "environment-unknown"
NO_COMMAND = "no-command"
TERMINAL = "terminal"
NEEDS_PID_1 = "needs-pid-1"
JOB_NEEDS_NATIVE = "job-needs-native"
NAME_TAKEN = "name-taken"
NO_ROOM = "no-room"
TOO_MANY = "too-many"
TOO_LARGE = "too-large"
NOTHING_ASKED = "nothing-asked"

REASONS = (
    Reason(
        BAD_PATH,
        "The path, or the list of paths, cannot be read.",
        "Write an absolute path as the container sees it, such as `/var/log/app/*.log`. The"
        " wildcards are `*`, `?`, `[abc]`, `[a-z]`, `[!abc]` and `**` between two slashes. A path"
        " with a comma stands in a JSON list.",
    ),
    Reason(
        BAD_VALUE,
        "The value of an annotation is not one that the annotation may have.",
        "The message says what is expected; docs/annotations.md lists all annotations. A `keep`,"
        " `drop`, `exclude` or `redact` that cannot be read stops what it would have protected.",
    ),
    Reason(
        NOT_ALLOWED,
        "The operator does not let pod authors set this annotation.",
        "Remove it, or ask the operator to add it to `tenant_keys`.",
    ),
    Reason(
        UNKNOWN_CONTAINER,
        "The pod has no container of that name.",
        "Name one of the containers or init containers of the pod; the message lists them.",
    ),
    Reason(
        UNKNOWN_BACKEND,
        "The operator has not defined a backend of that name.",
        "Name one of the backends of the operator config, or leave the annotation out. A list of"
        " which no name is known stops everything: lines never go to the wrong place.",
    ),
    Reason(
        UNKNOWN_PATTERN,
        "The operator has not defined a pattern of that name to black out.",
        "Name one of the patterns under `redact` in the operator config. Until then nothing that"
        " the pattern would have protected is shipped.",
    ),
    Reason(
        FORBIDDEN_DIRECTORY,
        "A volume at this directory would break the container or show what must not be shown.",
        "Let the program log to a directory of its own, such as `/var/log/app`, or mount a volume"
        " of your own there.",
    ),
    Reason(
        HIDES_PROGRAM,
        "A volume at this directory would hide the program, one of its files or its working"
        " directory.",
        "Let the program log to a directory of its own, or mount a volume of your own there.",
    ),
    Reason(
        VOLUME_KIND,
        "The volume at this directory is of a kind that nothing can be logged to.",
        "Let the program log to another directory.",
    ),
    Reason(
        BLOCK_DEVICE,
        "The path is a block device of the container.",
        "Name a file on a file system.",
    ),
    Reason(
        ENVIRONMENT_UNKNOWN,
        "The mount's `subPathExpr` needs a variable whose value the sidecar cannot have.",
        "Set the variable under the container's `env` (not by `envFrom` or from a file), or use"
        " `subPath`.",
    ),
    Reason(
        NO_COMMAND,
        "The container's spec has no `command`, and the image's own is not known here.",
        "Set `command` in the container's spec, or name the program with `sidetail.dev/command`.",
        mendable=False,
    ),
    Reason(
        TERMINAL,
        "The container has `tty` or `stdin`, which a mirror would take away.",
        "Remove `tty` and `stdin`, or collect a file, or use `sidetail.dev/collector: node`.",
        mendable=False,
    ),
    Reason(
        NEEDS_PID_1,
        "The program has to be process 1 of its container.",
        "Collect its files, or use `sidetail.dev/collector: node`.",
        mendable=False,
    ),
    Reason(
        JOB_NEEDS_NATIVE,
        "The pod ends by itself, and an ordinary sidecar would keep it from ending.",
        "Use Kubernetes 1.29 or newer on the API server and all nodes, or"
        " `sidetail.dev/collector: node`. Where versions are not known, `sidetail.dev/native:"
        ' "true"` says that the cluster has native sidecars.',
        mendable=False,
    ),
    Reason(
        NAME_TAKEN,
        "The pod has something of its own under a name or path that is ours.",
        "Rename the container that begins with `sidetail`, or move the mount below `/sidetail`.",
        mendable=False,
    ),
    Reason(
        NO_ROOM,
        "A LimitRange of the namespace leaves no room in the pod for a sidecar.",
        "Raise the `max` of the LimitRange for pods, or lower the limits of the app, or use"
        " `sidetail.dev/collector: node`.",
        mendable=False,
    ),
    Reason(
        TOO_MANY,
        "More was asked for than one pod may have.",
        "At most 32 paths are collected from a pod: use wildcards.",
    ),
    Reason(
        TOO_LARGE,
        "The sidecar's configuration would be larger than a pod may carry.",
        "Use fewer paths, shorter regexes and fewer fields.",
        mendable=False,
    ),
    Reason(
        NOTHING_ASKED,
        "The pod asks to be collected, but for nothing in particular, and the operator mirrors"
        " no stdout by default.",
        "Set `sidetail.dev/paths` or `sidetail.dev/stdout`.",
        mendable=False,
    ),
)

BY_CODE = {reason.code: reason for reason in REASONS}

SKIPS = {
    "excluded-namespace": "The namespace is never looked at.",
    "not-enabled": "Neither namespace nor pod has the label, so the webhook should not be called.",
    "opted-out": "The pod's label says no.",
    "static-pod": "The mirror pod of a static pod cannot be changed.",
    "nothing-asked": "No annotation of ours on pod or namespace.",
    "windows": "The pod runs on Windows.",
    "malformed-pod": "The API server will refuse the pod, so it is left as it is.",
}
"""Why a pod was not looked at (`outcome` is `none`): code → sentence."""
