"""The end of step 5: what of a plan is carried out in this pod, and what of it there is room for.

In: the plan. Out: `Fitted`: the plan that is carried out, its additions with our annotations,
all faults and warnings. Everything is worked out from the pod without our additions, so that a
second run comes to the same.
"""

from dataclasses import dataclass, replace

from contract.names import LOGS_VOLUME
from contract.plan import Outcome, Status
from webhook.ascii_json import to_ascii
from webhook.cluster import ClusterFacts
from webhook.faults import Fault
from webhook.injection import Additions, Setting, build_additions
from webhook.native import choose_native
from webhook.obstacles import choose_port, nothing_asked, obstacle, remarks
from webhook.options import Options
from webhook.ours import free_suffix
from webhook.planned import Plan, first_of
from webhook.pod import Pod
from webhook.resources import work_out_figures
from webhook.settings import OperatorConfig
from webhook.status import (
    Room,
    annotations_for,
    fits,
    outcome_of,
    status_document,
)

MAX_PATCH = 48 * 1024
"""Bytes of a patch."""
_SPARE = 4 * 1024
"""Of it, for what an earlier run has planned already: others make images and labels longer in
between, and what is mounted and mirrored has to be collected still."""
GOOD_PATCH = 16 * 1024
"""Bytes of a patch for a few paths: the detail of a status gives way to it."""
_FEW_PATHS = 10
_PER_OPERATION = 80
"""Bytes of an operation around its value, at most."""
_ANNOTATIONS = 512
"""Bytes of the operations for those of our annotations that are not the status."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is carried out."""

    plan: Plan
    additions: Additions
    warnings: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """What became of the pod."""
        return outcome_of(self.plan)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Everything that is left out."""
        return self.plan.faults


def fit(
    pod: Pod, options: Options, plan: Plan, settings: OperatorConfig, facts: ClusterFacts
) -> Fitted:
    """Return what of `plan` is carried out in `pod`."""
    native = choose_native(pod, options, facts)
    figures = work_out_figures(pod, options, settings, facts.limit_ranges.get(pod.namespace, ()))
    faults = (*options.faults, *plan.faults, *([native.fault] if native.fault else []))
    plan = replace(plan, faults=faults)
    if plan.is_empty:
        return _skipped(pod, options, faults or nothing_asked(options))
    by_sidecar = options.choices.collector == "sidecar"
    whole = obstacle(pod, options, is_native=native.is_native)
    if whole is None and by_sidecar:
        whole = figures.fault
    if whole is not None:
        return _skipped(pod, options, (*faults, whole))
    port = choose_port(pod, options)
    setting = Setting(
        settings=settings,
        namespace=facts.namespace(pod.namespace),
        resources=figures.resources,
        is_native=native.is_native,
        suffix=free_suffix(pod.volumes),
        port=port.number,
        announces_port=port.is_announced,
    )
    fitted = _within_limits(pod, options, plan, setting)
    warnings = [*plan.warnings, *fitted.additions.warnings]
    if by_sidecar:
        warnings += [*figures.warnings, *port.warnings, *remarks(pod, options, settings)]
    return replace(fitted, warnings=tuple(warnings))


def _skipped(pod: Pod, options: Options, faults: tuple[Fault, ...]) -> Fitted:
    """Return a pod to which nothing but the status is added."""
    plan = Plan(faults=faults)
    status = status_document(pod, options, plan, LOGS_VOLUME)
    return _finished(pod, plan, Additions(), status, taken=0)


def _within_limits(pod: Pod, options: Options, plan: Plan, setting: Setting) -> Fitted:
    """Return the plan's additions; where they are too large, those of its first entries."""
    count = plan.size
    while count > 0:
        limit = MAX_PATCH if count <= plan.kept_size else MAX_PATCH - _SPARE
        kept = first_of(plan, count)
        additions = build_additions(pod, options, kept, setting)
        status = status_document(pod, options, kept, LOGS_VOLUME + setting.suffix)
        taken = _cost(additions)
        if fits(status, limit - taken):
            return _finished(pod, kept, additions, status, taken=taken)
        fewer = count - max(1, count * (taken - limit) // (2 * taken))
        count = max(fewer, plan.kept_size) if count > plan.kept_size else fewer
    return _skipped(pod, options, first_of(plan, 0).faults)


def _finished(pod: Pod, plan: Plan, additions: Additions, status: Status, *, taken: int) -> Fitted:
    """Add our annotations, which take what room the rest leaves."""
    good = GOOD_PATCH if plan.size <= _FEW_PATHS else MAX_PATCH
    room = Room(good - taken, MAX_PATCH - taken)
    annotations = annotations_for(status, pod, additions, room)
    return Fitted(plan, replace(additions, annotations=annotations))


def _cost(additions: Additions) -> int:
    """Return about the bytes of a patch that adds everything: never less than it takes."""
    parts = [
        additions.init_containers,
        additions.containers,
        additions.volumes,
        additions.mounts,
        additions.commands,
        additions.pull_secret,
    ]
    operations = 4 + len(additions.volumes) + len(additions.init_containers)
    operations += sum(len(mounts) for mounts in additions.mounts.values())
    operations += len(additions.commands)
    text = to_ascii(parts)
    blanks = text.count(",") + text.count(":")  # as many as a serialiser may add
    return len(text) + blanks + _PER_OPERATION * operations + _ANNOTATIONS
