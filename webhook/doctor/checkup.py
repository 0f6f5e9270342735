"""All checks in the order of a pod's way: the doctor's table of contents."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runtime.kube import KubeError, StatusError
from webhook.doctor.certificate import check_certificate
from webhook.doctor.credentials import check_secrets
from webhook.doctor.findings import Finding, Result, broken, result_of, unseen
from webhook.doctor.installed import (
    check_config,
    check_endpoints,
    check_installed,
    check_replicas,
)
from webhook.doctor.namespaces import check_namespaces
from webhook.doctor.pods import check_pods
from webhook.doctor.registration import check_webhooks
from webhook.doctor.sight import Sight
from webhook.doctor.trial import check_dry_run
from webhook.doctor.versions import check_api_server, check_native_sidecars
from webhook.doctor.workloads import check_workloads


@dataclass(frozen=True, slots=True)
class Check:
    """One link."""

    name: str
    look: Callable[[Sight], Iterator[Finding]]
    is_inside: bool = False
    """Whether there is nothing to look at without the namespace of ours."""


CHECKS = (
    Check("api server", check_api_server),
    Check("native sidecars", check_native_sidecars),
    Check("installed", check_installed),
    Check("config", check_config, is_inside=True),
    Check("replicas", check_replicas, is_inside=True),
    Check("endpoints", check_endpoints, is_inside=True),
    Check("webhooks", check_webhooks),
    Check("certificate", check_certificate, is_inside=True),
    Check("dry run", check_dry_run, is_inside=True),
    Check("namespaces", check_namespaces),
    Check("workloads", check_workloads),
    Check("pods", check_pods),
    Check("secrets", check_secrets),
)


def check_up(sight: Sight) -> Iterator[Result]:
    """Yield the result of each check as it comes."""
    for check in CHECKS:
        yield result_of(check.name, _findings(check, sight))
        if not sight.has_answer:
            return  # each of the others would wait for it as well


def _findings(check: Check, sight: Sight) -> Iterator[Finding]:
    if check.is_inside and sight.is_absent:
        yield unseen("nothing to look at: Sidetail is not installed")
        return
    try:
        yield from check.look(sight)
    except StatusError as error:
        yield _answer(error)
    except KubeError as error:
        yield broken(f"the API server cannot be asked: {error}", "kubectl get --raw /readyz")
    except Exception as error:  # noqa: BLE001 - the other checks are worth as much without this one
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        yield unseen(f"the doctor failed: {type(error).__name__} at {where}", "please report it")


def _answer(error: StatusError) -> Finding:
    if error.status == 401:
        return broken("the API server does not take your credentials", "kubectl auth whoami")
    if error.status == 403:
        return unseen(f"not allowed to look: {error.message or error}", "ask somebody who may")
    return broken(f"the API server refuses: {error}", "kubectl get --raw /readyz")
