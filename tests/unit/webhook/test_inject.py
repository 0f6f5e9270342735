"""`python -m webhook.inject`: the same engine without a cluster."""

import io
import subprocess
import sys

import pytest
import yaml

from contract.annotations import STATUS
from webhook.inject import DENIED, DONE, USAGE, main

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {when: 2020-01-01, answer: "yes"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    metadata:
      annotations: {sidetail.dev/paths: "/srv/logs/*.log,/etc/x.log,/data/x.log"}
    spec:
      volumes: [{name: data, persistentVolumeClaim: {claimName: d}}]
      containers:
        - {name: app, image: "web:1.2", volumeMounts: [{name: data, mountPath: /data}]}
---
apiVersion: v1
kind: List
items:
  - apiVersion: batch/v1
    kind: CronJob
    metadata: {name: tick}
    spec:
      jobTemplate:
        spec:
          template:
            metadata: {annotations: {sidetail.dev/stdout: mirror}}
            spec:
              restartPolicy: Never
              containers: [{name: tick, image: "tick:1", command: [/bin/tick]}]
  - apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: db}
    spec:
      template:
        metadata: {annotations: {sidetail.dev/paths: /var/log/db/*.log}}
        spec: {containers: [{name: db, image: "db:1"}]}
---
---
"""


def run(*arguments, text=MANIFEST):
    out, err = io.StringIO(), io.StringIO()
    status = main(["-f", "-", *arguments], io.StringIO(text), out, err)
    return status, out.getvalue(), err.getvalue()


def pod_that(asks):
    metadata = f"metadata: {{name: p, annotations: {asks}}}"
    return f"{metadata}\nspec: {{containers: [{{name: a, image: x}}]}}"


def sidecar_in(spec):
    listed = [*(spec.get("initContainers") or []), *spec["containers"]]
    return next((found for found in listed if found["name"] == "sidetail"), None)


def test_every_pod_of_a_manifest_is_injected_and_the_rest_stays():
    status, out, err = run("--kubernetes-version", "1.31")
    settings, web, listed, *_ = yaml.safe_load_all(out)
    tick, db = listed["items"]
    job = tick["spec"]["jobTemplate"]["spec"]["template"]

    assert status == DONE
    assert settings["data"] == {"when": "2020-01-01", "answer": "yes"}
    assert sidecar_in(web["spec"]["template"]["spec"])["restartPolicy"] == "Always"
    assert sidecar_in(job["spec"])["restartPolicy"] == "Always"
    assert "k8s.statefulset.name" in str(sidecar_in(db["spec"]["template"]["spec"]))
    assert "ownerReferences" not in out
    assert "Deployment shop/web: warning: sidetail: /etc/x.log: nothing is mounted in /etc" in err


def test_a_second_run_prints_the_same():
    _, once, _ = run("--kubernetes-version", "1.31")
    _, twice, _ = run("--kubernetes-version", "1.31", text=once)

    assert once == twice


def test_without_a_version_nothing_is_known():
    _, out, err = run()
    _, web, listed, *_ = yaml.safe_load_all(out)
    job = listed["items"][0]["spec"]["jobTemplate"]["spec"]["template"]

    assert [c["name"] for c in web["spec"]["template"]["spec"]["containers"]] == ["app", "sidetail"]
    assert sidecar_in(job["spec"]) is None
    assert "job-needs-native" in job["metadata"]["annotations"][STATUS]
    assert "CronJob default/tick: warning:" in err


def test_explain_says_the_plan_each_volume_and_each_reason():
    status, out, _ = run("--explain", "--kubernetes-version", "v1.31.2")

    assert status == DONE
    assert "Deployment shop/web: partial, a native sidecar\n" in out
    assert "volume sidetail-logs (new, sub-path app/srv-logs), files *.log in it" in out
    assert "volume data (persistentVolumeClaim), files x.log in it" in out
    assert "left out  /etc/x.log  forbidden-directory: nothing is mounted in /etc" in out
    assert "docs/reasons.md#forbidden-directory" in out
    assert "warning   the new volume at /srv/logs hides" in out
    assert "CronJob default/tick: injected, a native sidecar" in out
    assert "stdout    tick  its command runs under the mirror" in out


NAMESPACE = """
kind: Namespace
metadata:
  name: shop
  labels: {sidetail.dev/inject: LABEL, number: 5}
  annotations: {sidetail.dev/format: json, sidetail.dev/seed: true}
---
"""


def test_a_namespace_of_the_manifest_says_what_holds_for_its_pods():
    enabled = NAMESPACE.replace("LABEL", "enabled")
    _, out, _ = run("--kubernetes-version", "1.31", text=enabled + MANIFEST)
    _, bare, _ = run("--explain", text=NAMESPACE.replace("LABEL", "x") + MANIFEST)

    _, _, web, *_ = yaml.safe_load_all(out)
    sidecar = sidecar_in(web["spec"]["template"]["spec"])
    (config,) = (row["value"] for row in sidecar["env"] if row["name"] == "SIDETAIL_CONFIG")
    assert '"format":"json"' in config
    assert "Deployment shop/web: left as it is" in bare
    assert "CronJob default/tick: left as it is" not in bare


@pytest.mark.parametrize("metadata", ["5", "{name: shop, labels: [x], annotations: 5}", "{}"])
def test_a_namespace_of_any_shape_is_survived(metadata):
    status, _, _ = run(text=f"kind: Namespace\nmetadata: {metadata}\n---{MANIFEST}")

    assert status == DONE


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ("metadata: {name: p}\nspec: {containers: [{name: a, image: x}]}", "nothing-asked"),
        ("metadata: {name: p}\nspec: {containers: []}", "malformed-pod"),
        (pod_that("{sidetail.dev/path: /x}"), "did you mean sidetail.dev/paths?"),
        (
            pod_that("{sidetail.dev/stdout: all, sidetail.dev/collector: node}"),
            "collected by the agent of the node",
        ),
    ],
    ids=["nothing", "malformed", "misspelt", "node"],
)
def test_explain_says_why_a_pod_stays_as_it_is(pod, said):
    _, out, _ = run("--explain", text=f"apiVersion: v1\nkind: Pod\n{pod}\n")

    assert said in out


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "!!python/object:x {}", "\t"], ids=repr)
def test_what_is_no_manifest_is_refused(text):
    status, out, err = run(text=text)

    assert (status, out) == (USAGE, "")
    assert err.startswith("inject: ")


@pytest.mark.parametrize(
    "text", ["", "5", "[]", "kind: [x]", "kind: Deployment\nspec: 7"], ids=repr
)
def test_what_holds_no_pod_is_printed_as_it_is(text):
    status, out, err = run(text=text)

    assert (status, err) == (DONE, "")
    assert list(yaml.safe_load_all(out)) == list(yaml.safe_load_all(text))


def test_an_operator_who_denies_is_heard(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("on_error: deny\nbackends: [{name: main, type: stdout}]\n")
    status, out, err = run("--config", str(config))

    assert status == DENIED
    assert "Deployment shop/web: denied: sidetail: /etc/x.log" in err
    assert STATUS not in next(d for d in yaml.safe_load_all(out) if d["kind"] == "Deployment")


def test_a_bad_config_and_a_missing_file_are_said_without_a_traceback(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("imag: x\n")

    assert run("--config", str(config))[0] == USAGE
    assert run("--config", str(tmp_path / "nowhere"))[0] == USAGE
    assert main(["-f", str(tmp_path / "nowhere")], io.StringIO(), io.StringIO(), io.StringIO())


def test_it_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "webhook.inject", "-f", "-", "--explain"],
        input=MANIFEST,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "StatefulSet default/db: injected, an ordinary sidecar" in done.stdout
