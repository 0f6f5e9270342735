"""The pod's walk from admission to patch: the webhook's table of contents.

step            what it finds out                               its modules, in reading order
1 request       what the API server asks                        request
2 eligibility   is this pod to be looked at?                    pod, ours, eligibility
3 options       what is asked for it, by annotations and by     options, choices, values, paths,
                the operator                                    globs, quantities, yaml_text
4 plan          which path is reached through which volume,     plan, default_container, placing,
                whose stdout is mirrored                        directories, volumes, environment,
                                                                stdout, planned
5 injection     what that adds to the pod, and what of it       fitting, obstacles, native,
                there is room for                               resources, injection, containers,
                                                                seeding, identity,
                                                                sidecar_document, attributes, status
6 patch         what of it is not there yet                     patch
7 response      what to say                                     faults, shown, response

Steps 2 to 6 are pure functions and stand below; 1 and 7 are called by `admissions`, which `app`
calls for `server`. The same steps serve `template` (a workload's, for `validate`) and `explanation`
(offline, for `inject`).

A pod comes here again when another injector has changed it, and as a copy of one that runs. Step 2
sets apart what we left in it (`ours`), and the same steps plan the author's part once more; what
the first run decided holds, as `ours` says, and `patch` adds what is not there any more.
"""

from typing import Any

from webhook.admission import Admission
from webhook.cluster import ClusterFacts, Namespace
from webhook.eligibility import Skip, decide, odd_keys
from webhook.faults import denial, worded
from webhook.fitting import Fitted, fit
from webhook.options import Options, read_options
from webhook.ours import free_suffix
from webhook.patch import to_patch
from webhook.plan import make_plan
from webhook.pod import MalformedPodError, Pod, read_pod
from webhook.settings import OperatorConfig


def admit_pod(
    pod: dict[str, Any], namespace: str, *, settings: OperatorConfig, facts: ClusterFacts
) -> Admission:
    """Return what to answer for `pod`, a v1 Pod that is created in `namespace`.

    Nothing is asked of the network, nothing of `pod` is changed, and nothing is raised.
    """
    try:
        author = read_pod(pod, namespace)
    except MalformedPodError:
        return Admission("none", skip="malformed-pod")
    place = facts.namespace(namespace)
    decision = decide(author, place)
    if isinstance(decision, Skip):
        warnings = tuple(worded(text) for text in decision.warnings)
        return Admission("none", warnings=warnings, skip=decision.reason)
    _, fitted = work_out(author, place, settings, facts)
    denied = denial(fitted.faults) if settings.on_error == "deny" else None
    warnings = tuple(fault.warning() for fault in fitted.faults)
    warnings += tuple(worded(text) for text in (*fitted.warnings, *odd_keys(author, place)))
    return Admission(
        outcome=fitted.outcome if denied is None else "skipped",
        patch=tuple(to_patch(pod, fitted.additions)) if denied is None else (),
        warnings=tuple(dict.fromkeys(warnings)),
        denied=denied,
        left_out=tuple(fault.entry() for fault in fitted.faults),
        owner=author.owner,
    )


def work_out(
    author: Pod, place: Namespace | None, settings: OperatorConfig, facts: ClusterFacts
) -> tuple[Options, Fitted]:
    """Return what is asked for an eligible pod, and what of it is carried out: steps 3 to 5."""
    options = read_options(author, place, settings)
    plan = make_plan(author, options, suffix=free_suffix(author.volumes))
    return options, fit(author, options, plan, settings, facts)
