"""Alerts and the dashboard ask for metrics that there are."""

import json
import re
from collections.abc import Iterator

import pytest

from manifests.build import HERE
from tests.manifests.objects import Json, find, of_kind, rendered
from webhook.containers import METRICS_PORT_NAME

ROOT = HERE.parent
DASHBOARD: Json = json.loads(
    (HERE / "components" / "servicemonitor" / "sidetail.json").read_text("utf-8")
)
OF_KUBERNETES = {
    "up",
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
}


def known_metrics() -> set[str]:
    """Return the names that our processes give their metrics, without the suffix of a series."""
    sources = [ROOT / package / "metrics.py" for package in ("webhook", "certs", "sidecar")]
    texts = "".join(source.read_text("utf-8") for source in sources)
    return {name.removesuffix("_total") for name in re.findall(r'"(sidetail_\w+)"', texts)}


def alert_expressions() -> dict[str, str]:
    (rule,) = of_kind(rendered("servicemonitor"), "PrometheusRule")
    return {row["alert"]: row["expr"] for group in rule["spec"]["groups"] for row in group["rules"]}


def panel_expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def asked_for(expression: str) -> set[str]:
    without_texts = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"\b(?:sidetail|apiserver)_\w+|\bup\b", without_texts))


@pytest.mark.parametrize(
    ("title", "expression"),
    [*alert_expressions().items(), *panel_expressions()],
    ids=lambda value: value if " " not in value else "",
)
def test_every_expression_asks_for_metrics_that_there_are(title: str, expression: str) -> None:
    names = asked_for(expression) - OF_KUBERNETES
    families = {re.sub("_(total|bucket|sum|count)$", "", name) for name in names}

    assert asked_for(expression)
    assert families <= known_metrics()


def test_every_expression_closes_what_it_opens() -> None:
    for _, expression in [*alert_expressions().items(), *panel_expressions()]:
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    (rule,) = of_kind(rendered("servicemonitor"), "PrometheusRule")
    for group in rule["spec"]["groups"]:
        for row in group["rules"]:
            assert row["labels"]["severity"] in {"info", "warning", "critical"}
            assert row["annotations"]["summary"].endswith(".")


def test_the_dashboard_shows_lag_dropped_missed_pods_and_days_left() -> None:
    first_row = [panel["title"] for panel in DASHBOARD["panels"] if panel["gridPos"]["y"] == 1]

    assert first_row == [
        "Lag",
        "Dropped, last hour",
        "Missed pods",
        "Certificate, days left",
        "CA, days left",
    ]


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_scraping_goes_to_ports_that_there_are() -> None:
    objects = rendered("servicemonitor")
    service = find(objects, "Service", "sidetail-webhook")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    sidecars = find(objects, "PodMonitor", "sidetail-sidecars")

    assert {port["name"] for port in service["spec"]["ports"]} >= {
        endpoint["port"] for endpoint in monitor["spec"]["endpoints"]
    }
    assert [one["port"] for one in sidecars["spec"]["podMetricsEndpoints"]] == [METRICS_PORT_NAME]


def test_the_dashboard_is_found_by_grafana() -> None:
    config_map = find(rendered("servicemonitor"), "ConfigMap", "sidetail-dashboard")

    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config_map["data"]["sidetail.json"]) == DASHBOARD


@pytest.mark.parametrize(
    "name", ["sidetail_lag_bytes", "sidetail_admissions", "sidetail_ca_not_after"]
)
def test_metrics_of_each_process_are_known_here(name: str) -> None:
    assert name in known_metrics()
