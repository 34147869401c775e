"""The manifests: valid by Kubernetes' own schemas (strict: no field that it does not know), and true to each other.

KEDA's ScaledObject has no schema there; what it needs is looked at by hand.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.settings import Settings, load_settings
from support.monitoring import DEPLOY

FOLDER = DEPLOY / "kubernetes"
KEDA = ("keda.sh/v1alpha1", "ScaledObject")
VERSIONS = ("1.31", "1.37")


def kustomization() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return read


def manifests() -> Iterator[dict[str, Any]]:
    for name in kustomization()["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text())


ALL = list(manifests())
NAMES = [f"{one['kind']}-{one['metadata']['name']}" for one in ALL]


def of(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in ALL if (one["kind"], one["metadata"]["name"]) == (kind, name))


def container(part: str) -> dict[str, Any]:
    (only,) = of("Deployment", f"perennial-{part}")["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", ALL, ids=NAMES)
def test_it_is_valid_by_kubernetes_schemas(manifest: dict[str, Any], version: str):
    if (manifest["apiVersion"], manifest["kind"]) == KEDA:
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        return
    kubernetes_validate.validate(manifest, version, strict=True)


def test_what_is_wrong_is_refused():
    broken = yaml.safe_load(yaml.safe_dump(of("Deployment", "perennial-api")))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessProb"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_file_is_listed_and_every_listed_file_is_there():
    listed = kustomization()["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in FOLDER.iterdir())
    assert len(set(NAMES)) == len(NAMES)
    images = {one["name"] for one in kustomization()["images"]}
    assert {container(part)["image"] for part in ("api", "worker")} == images


def test_selectors_find_their_pods():
    labels = {}
    for part in ("api", "worker"):
        deployment = of("Deployment", f"perennial-{part}")["spec"]
        labels[part] = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"] == labels[part]
        assert of("PodDisruptionBudget", f"perennial-{part}")["spec"]["selector"]["matchLabels"] == labels[part]
        assert of("NetworkPolicy", f"perennial-{part}")["spec"]["podSelector"]["matchLabels"] == labels[part]
    assert labels["api"] != labels["worker"]
    service = of("Service", "perennial")["spec"]
    assert service["selector"] == labels["api"]
    assert service["ports"][0]["targetPort"] == container("api")["ports"][0]["name"]


@pytest.mark.parametrize("part", ["api", "worker"])
def test_its_settings_are_settings(part: str, monkeypatch: pytest.MonkeyPatch):
    one = container(part)
    stand_ins = {"redis-url": "redis://redis.example:6379/0", "api-keys": f"alice:{'0' * 64}"}
    given = dict(of("ConfigMap", "perennial")["data"])
    for entry in one["env"]:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            given[entry["name"]] = stand_ins[source["secretKeyRef"]["key"]]
        elif "resourceFieldRef" in source:
            given[entry["name"]] = one["resources"]["limits"]["cpu"]
        else:
            given[entry["name"]] = entry["value"]
    for name, value in {"PERENNIAL_HOST": "0.0.0.0", **given}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(env_file=None)
    assert settings.redis_url == stand_ins["redis-url"]
    if part == "api":
        assert settings.check_exposure() is False
    ports = {port["containerPort"] for port in one["ports"]}
    assert ports == {settings.port if part == "api" else settings.worker_metrics_port}


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_pod_has_time_to_drain(part: str):
    pod = of("Deployment", f"perennial-{part}")["spec"]["template"]["spec"]
    before = container(part).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    drain = float(of("ConfigMap", "perennial")["data"]["PERENNIAL_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] >= float(before[1]) + drain + 10


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_pod_can_do_nothing_but_its_work(part: str):
    pod = of("Deployment", f"perennial-{part}")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(re.findall(r"^USER (\d+)", _dockerfile(), re.M)[-1])
    assert pod["automountServiceAccountToken"] is False
    one = container(part)
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {mount["mountPath"] for mount in one["volumeMounts"]} == {"/cache", "/data", "/tmp"}
    assert {mount["name"] for mount in one["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def _dockerfile() -> str:
    return Path(DEPLOY.parent / "Dockerfile").read_text()


def test_probes_ask_what_is_answered():
    paths = {probe: container("api")[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")}
    assert paths == {"readinessProbe": "/health/ready", "livenessProbe": "/health/live"}
    # A worker that is restarted because Redis is away would come back no wiser: neither looks at the store.
    assert container("worker")["livenessProbe"]["httpGet"] == {"path": "/metrics", "port": "metrics"}


def test_the_autoscalers_scale_what_exists_and_leave_the_figure_alone():
    for kind, name in (("HorizontalPodAutoscaler", "perennial-api"), ("ScaledObject", "perennial-worker")):
        target = of(kind, name)["spec"]["scaleTargetRef"]["name"]
        assert "replicas" not in of("Deployment", target)["spec"]


def test_the_workers_follow_the_queue():
    spec = of("ScaledObject", "perennial-worker")["spec"]
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes strings only"
    assert "max(perennial_queue_depth)" in trigger["metadata"]["query"]
    slots = next(entry["value"] for entry in container("worker")["env"] if entry["name"] == "PERENNIAL_SLOTS")
    assert 0 < float(trigger["metadata"]["threshold"]) <= int(slots)
    assert spec["cooldownPeriod"] >= Settings.model_fields["drain_s"].default


def test_what_is_reached_is_what_is_used():
    """Redis by its port; the worker's metrics for Prometheus' namespace, where KEDA finds it too."""
    for part in ("api", "worker"):
        out = of("NetworkPolicy", f"perennial-{part}")["spec"]["egress"]
        assert {port["port"] for rule in out for port in rule["ports"]} == {53, 6379}
    entry = of("NetworkPolicy", "perennial-worker")["spec"]["ingress"][0]
    namespace = entry["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    address = of("ScaledObject", "perennial-worker")["spec"]["triggers"][0]["metadata"]["serverAddress"]
    assert f".{namespace}.svc" in address


def built() -> list[dict[str, Any]]:
    """What `kubectl apply -k` would apply, by kustomize itself, which has to be there."""
    own, within = shutil.which("kustomize"), shutil.which("kubectl")
    if own is None and within is None:
        pytest.skip("neither kustomize nor kubectl is here")
    command = [own, "build"] if own else [str(within), "kustomize"]
    ran = subprocess.run([*command, str(FOLDER)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return list(yaml.safe_load_all(ran.stdout))


def test_kustomize_builds_what_the_files_say():
    applied = built()
    assert sorted(f"{one['kind']}-{one['metadata']['name']}" for one in applied) == sorted(NAMES)
    for one in applied:
        assert one["metadata"]["namespace"] == "perennial"
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "perennial"
        if (one["apiVersion"], one["kind"]) != KEDA:
            kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
        if one["kind"] == "Deployment":
            written = of("Deployment", one["metadata"]["name"])
            assert one["spec"]["selector"] == written["spec"]["selector"], "a selector cannot be changed later"
            [only] = one["spec"]["template"]["spec"]["containers"]
            assert only["image"] == "perennial:0.1.0"
