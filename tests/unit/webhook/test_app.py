"""The routes and what stands behind them, without a socket."""

import json
import logging

import pytest

from contract.reasons import BAD_PATH
from tests.webhook_process import POD, Reply, review_of
from webhook.admission import Admission, Owner
from webhook.admissions import Admissions, InForce
from webhook.app import create_app
from webhook.cluster import ClusterFacts, Namespace
from webhook.framing import HttpRequest
from webhook.metrics import Metrics
from webhook.settings import DEFAULT_CONFIG
from webhook.wsgi import WsgiAnswer

OWNED = {
    **POD,
    "metadata": POD["metadata"]
    | {
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "orders-56f4db6b86",
                "uid": "c170b64f",
                "controller": True,
            }
        ]
    },
}


class App:
    """The application with everything around it that an admission meets."""

    def __init__(self, facts: ClusterFacts | None = None) -> None:
        self.facts = facts or ClusterFacts()
        self.metrics = Metrics()
        self.told: list[Admission] = []
        self.in_force = InForce(config=self.config, facts=lambda: self.facts)
        admissions = Admissions(
            self.in_force, self.metrics, tell=lambda _, admission: self.told.append(admission)
        )
        self.answer = WsgiAnswer(create_app(admissions).wsgi_app)
        self.fault: Exception | None = None

    def config(self):
        if self.fault is not None:
            raise self.fault
        return DEFAULT_CONFIG

    def ask(self, method, target, body=b"", headers=(("content-type", "application/json"),)):
        answer = self.answer(HttpRequest(method, target, tuple(headers), bytearray(body)))
        return Reply(
            answer.status, {name.lower(): value for name, value in answer.headers}, answer.body
        )

    def post(self, review, target="/mutate?timeout=10s"):
        return self.ask("POST", target, json.dumps(review).encode())

    def sample(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels) or 0


@pytest.fixture
def app():
    return App()


@pytest.mark.parametrize(
    "target",
    [
        "/mutate/",
        "//mutate",
        "/",
        "/mutate/x",
        "/Mutate",
        "/%6dutate",
        "/mutate%2f",
        "/mutate;x",
        "/./mutate",
        "/../mutate",
        "/x/../mutate",
        "/mutate%00",
        "/static/x",
        "/livez",
        "/metrics",
        "/readyz",
        "/mutate\\",
        "/validate/",
    ],
)
def test_only_the_exact_routes_are_answered(app, target):
    assert app.ask("POST", target, b"{}").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_other_methods_are_told_which_one_is_allowed(app, method, path):
    reply = app.ask(method, path)

    assert reply.status == 405
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/mutate", "/validate", "/mutate?", "/mutate?timeout=30s&x=%00"])
def test_a_query_is_normal(app, path):
    assert app.post(review_of(), path).status == 200


def test_the_answer_echoes_the_uid_and_is_json(app):
    reply = app.post(review_of(uid="abc"))

    assert reply.headers["content-type"] == "application/json"
    assert reply.response["uid"] == "abc"
    assert reply.response["allowed"] is True


def test_what_is_no_review_is_refused_in_a_line_of_text_and_counted(app):
    reply = app.ask("POST", "/mutate", b"[]")

    assert reply.status == 400
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.body.count(b"\n") == 1
    assert app.sample("sidetail_reviews_refused_total", path="mutate", status="400") == 1


def test_two_content_types_are_refused(app):
    headers = (("content-type", "application/json"), ("content-type", "application/json"))

    assert app.ask("POST", "/mutate", json.dumps(review_of()).encode(), headers).status == 415


@pytest.mark.parametrize("name", ["content_type", "content_encoding"])
def test_a_header_with_an_underscore_is_none_of_those_it_looks_like(app, name):
    headers = [("content-type", "application/json"), (name, "text/plain")]
    body = json.dumps(review_of()).encode()

    assert app.ask("POST", "/mutate", body, headers).status == 200
    assert app.ask("POST", "/mutate", body, headers[1:]).status == 415


@pytest.mark.parametrize(
    "review",
    [
        pytest.param(review_of(operation="UPDATE"), id="update"),
        pytest.param(review_of(operation="DELETE", object=None, oldObject=POD), id="delete"),
        pytest.param(review_of(operation="CONNECT"), id="connect"),
        pytest.param(review_of(subResource="ephemeralcontainers"), id="ephemeral-containers"),
        pytest.param(review_of(subResource="status"), id="status"),
        pytest.param(review_of(subResource="resize"), id="resize"),
        pytest.param(review_of(operation="UPDATE", subResource="resize"), id="update-resize"),
        pytest.param(
            review_of(resource={"group": "", "version": "v1", "resource": "secrets"}), id="secrets"
        ),
        pytest.param(
            review_of(resource={"group": "apps", "version": "v1", "resource": "pods"}),
            id="pods-of-another-group",
        ),
        pytest.param(review_of(object=None), id="create-without-an-object"),
    ],
)
@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_what_is_not_the_creation_of_a_pod_is_admitted_as_it_is(app, review, path):
    response = app.post(review, path).response

    assert response == {"uid": review["request"]["uid"], "allowed": True}


def test_a_dry_run_gets_the_same_patch_and_no_side_effect(app):
    bad = json.loads(json.dumps(OWNED))
    bad["metadata"]["annotations"]["sidetail.dev/paths"] = "var/log"
    wet, dry = app.post(review_of(bad)), app.post(review_of(bad, dryRun=True))

    assert wet.patch == dry.patch
    assert wet.response == dry.response
    assert len(app.told) == 1
    assert app.told[0].owner == Owner("apps/v1", "ReplicaSet", "orders-56f4db6b86", "c170b64f")
    assert app.sample("sidetail_left_out_total", reason=BAD_PATH) == 1
    counted = {
        outcome: app.sample("sidetail_admissions_total", path="mutate", outcome=outcome)
        for outcome in ("skipped", "dry-run")
    }
    assert counted == {"skipped": 1, "dry-run": 1}


def test_what_is_left_out_is_counted_by_reason(app):
    bad = json.loads(json.dumps(POD))
    bad["metadata"]["annotations"]["sidetail.dev/paths"] = "var/log"
    app.post(review_of(bad))

    assert app.sample("sidetail_left_out_total", reason=BAD_PATH) == 1


def test_every_reason_is_shown_from_the_start(app):
    assert (
        app.metrics.registry.get_sample_value("sidetail_left_out_total", {"reason": BAD_PATH}) == 0
    )


def test_a_namespace_that_is_not_in_memory_is_counted():
    app = App(ClusterFacts(namespaces={"other": Namespace()}))
    app.post(review_of())

    assert app.sample("sidetail_namespaces_unknown_total") == 1


def test_without_an_api_server_no_namespace_is_missing(app):
    app.post(review_of())

    assert app.sample("sidetail_namespaces_unknown_total") == 0


class SecretiveError(Exception):
    pass


@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_a_fault_of_ours_admits_with_an_error_id_and_is_counted(app, path, caplog):
    app.fault = SecretiveError("hunter2")
    deployment = review_of(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {}},
        resource={"group": "apps", "version": "v1", "resource": "deployments"},
    )
    with caplog.at_level(logging.DEBUG):
        reply = app.post(review_of() if path == "/mutate" else deployment, path)

    assert reply.status == 200
    assert reply.response["allowed"] is True
    assert "patch" not in reply.response
    assert app.sample("sidetail_webhook_faults_total", path=path[1:]) == 1
    said = next(line for line in caplog.records if "fault of ours" in line.message)
    assert said.fields["error_id"] in reply.response["warnings"][0]
    assert said.fields["error"] == "SecretiveError"
    assert any("config" in place for place in said.fields["at"])
    assert b"Traceback" not in reply.body
    everything = reply.body.decode() + "".join(str(vars(line)) for line in caplog.records)
    assert "hunter2" not in everything
    app.fault = None
    assert "warnings" not in app.post(review_of()).response


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), KeyError("x"), ValueError()])
def test_no_kind_of_fault_denies(app, error):
    app.fault = error

    assert app.post(review_of()).response["allowed"] is True


class Broken:
    """Breaks the promise to raise nothing."""

    def mutate(self, review):
        del review
        raise SecretiveError("hunter2")

    validate = mutate


def test_a_fault_outside_of_that_is_the_servers_to_answer_and_says_nothing(caplog):
    answer = WsgiAnswer(create_app(Broken()).wsgi_app)
    headers = (("content-type", "application/json"),)
    body = bytearray(json.dumps(review_of()).encode())
    with caplog.at_level(logging.DEBUG), pytest.raises(SecretiveError):
        answer(HttpRequest("POST", "/mutate", headers, body))

    assert caplog.records == []


def test_each_admission_is_one_line_of_log_without_the_object(app, caplog):
    secretive = json.loads(json.dumps(POD))
    secretive["spec"]["containers"][0]["env"] = [{"name": "PASSWORD", "value": "hunter2"}]
    with caplog.at_level(logging.DEBUG):
        app.post(review_of(secretive, uid="the-uid"))

    (line,) = [record for record in caplog.records if record.name == "webhook.admissions"]
    assert line.fields["uid"] == "the-uid"
    assert line.fields["namespace"] == "shop"
    assert line.fields["decision"] in ("injected", "partial", "skipped", "none")
    assert line.fields["milliseconds"] >= 0
    assert "hunter2" not in "".join(str(vars(record)) for record in caplog.records)


def test_how_long_it_took_is_measured(app):
    app.post(review_of())

    assert app.sample("sidetail_admission_seconds_count", path="mutate") == 1
