"""What a cluster is told, read as it would read it: the published schemas, strictly, and what no schema can know."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from referencing import Registry, Resource

from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.serving.app import GRACE, create_app
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.settings import Settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy/kubernetes"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: the first that has the sleeping preStop switched on, and the newest known here."""
PLAIN = sorted((FOLDER / "cluster").glob("*.yaml"))
OVERLAYS = ("cluster", "gpu", "object-store")
KSERVE = sorted((FOLDER / "kserve").glob("*.yaml"))
WHEELS = sorted((Path(sys.prefix) / "schemas").glob("kserve-*.whl"))
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which puts overlays together, is not here"
)
needs_kserve = pytest.mark.skipif(not WHEELS, reason="KServe's wheel, fetched by `make`, is not here")


def documents(text: str) -> list[dict[str, Any]]:
    """The objects of a YAML text."""
    return [one for one in yaml.safe_load_all(text) if one]


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, check=True)
    return documents(done.stdout)


def plain() -> list[dict[str, Any]]:
    """The objects of `cluster`, as they lie there."""
    files = [path for path in PLAIN if path.name != "kustomization.yaml"]
    return [one for path in files for one in documents(path.read_text())]


def named(objects: list[dict[str, Any]], kind: str, name: str = "breadcrumbs") -> dict[str, Any]:
    """The one object of a kind and name."""
    (one,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return one


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod that each Deployment makes, by the Deployment's name."""
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"}


def kserve() -> tuple[dict[str, Any], dict[str, Any]]:
    """The runtime and the service."""
    runtime, service = (documents((FOLDER / f"kserve/{name}.yaml").read_text())[0] for name in ("runtime", "service"))
    return runtime, service


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container anywhere, with what it is called in a message."""
    for name, pod in pods(plain()).items():
        yield name, pod["containers"][0]
    yield "kserve", kserve()[0]["spec"]["containers"][0]


CONTAINERS = dict(containers())


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


# What the schemas know.


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_published_schema(version: str) -> None:
    """Strictly: no field that Kubernetes does not know."""
    for one in plain():
        assert kubernetes_validate.validate(one, version, strict=True) == version


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_fits_the_published_schema(overlay: str, version: str) -> None:
    """As it is sent."""
    assert len(built(overlay)) >= 5
    for one in built(overlay):
        assert kubernetes_validate.validate(one, version, strict=True) == version


def test_the_schemas_find_what_is_wrong() -> None:
    """A misspelt field, deep inside, is refused: the checks above can fail."""
    wrong = named(plain(), "Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@cache
def model(name: str) -> tuple[dict[str, str], frozenset[str]] | None:
    """Fields and types of one of KServe's models, and those that must be there; read from its wheel, nothing is run."""
    stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("V1alpha1", "V1alpha1_").replace("V1beta1", "V1beta1_"))
    stem = stem.replace("__", "_").lower()
    with zipfile.ZipFile(WHEELS[-1]) as wheel:
        path = f"kserve/models/{stem}.py"
        if path not in wheel.namelist():
            return None
        text = wheel.read(path).decode()
    (found,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    parts = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in found.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict)
    }
    needed = re.findall(r"Invalid value for `(\w+)`, must not be `None`", text)
    keys = parts["attribute_map"]
    return {keys[k]: kind for k, kind in parts["openapi_types"].items()}, frozenset(keys[k] for k in needed)


def check(value: Any, kind: str, where: str, version: str = VERSIONS[-1]) -> int:
    """Compare a value with a type as KServe's models write it; tell how many parts were compared."""
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        assert isinstance(value, list), where
        return sum(check(one, listed[1], f"{where}[{i}]", version) for i, one in enumerate(value))
    if kind.startswith("dict("):
        assert isinstance(value, dict), where
        return len(value)
    if kind in {"str", "int", "bool", "float", "object"}:
        assert isinstance(
            value, {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}[kind]
        ), where
        return 1
    if known := model(kind):
        fields, needed = known
        assert set(value) <= set(fields), f"{where}: no fields {set(value) - set(fields)}"
        assert needed <= set(value), f"{where}: {needed - set(value)} missing"
        return sum(check(one, fields[key], f"{where}.{key}", version) for key, one in value.items())
    group = "-apps-v1" if kind.startswith("K8sIoApiApps") else "-v1"
    return by_schema(value, kind.replace("K8sIoApiApps", "").removeprefix("V1").lower() + group, version)


def by_schema(value: Any, name: str, version: str) -> int:
    """Compare a value with Kubernetes' own strict schema of that part."""
    folder = resources.files(kubernetes_validate) / "kubernetes-json-schema"
    strict = next(
        one for one in folder.iterdir() if one.name.startswith(f"v{version}.") and one.name.endswith("strict")
    )
    schema, definitions = (
        Resource.from_contents(json.loads((strict / file).read_text()))
        for file in (f"{name}.json", "_definitions.json")
    )
    registry = definitions @ (schema @ Registry())
    jsonschema.Draft202012Validator(schema.contents, registry=registry).validate(value)
    return 1


@needs_kserve
def test_kserve_knows_every_field_of_the_runtime() -> None:
    """Its containers and volumes are Kubernetes' own, and are compared with those."""
    runtime, _ = kserve()

    assert check(runtime["spec"], "V1alpha1ServingRuntimeSpec", "runtime") > 10


@needs_kserve
def test_kserve_knows_every_field_of_the_service() -> None:
    """Down to the model."""
    _, service = kserve()

    assert check(service["spec"], "V1beta1InferenceServiceSpec", "service") > 10


@needs_kserve
def test_kserves_models_find_what_is_wrong() -> None:
    """A field of another part, one of the wrong type, one that is missing."""
    runtime, service = kserve()
    for spec, kind, change in (
        (runtime["spec"], "V1alpha1ServingRuntimeSpec", {"securityContext": {}}),
        (runtime["spec"], "V1alpha1ServingRuntimeSpec", {"multiModel": "no"}),
        (
            service["spec"],
            "V1beta1InferenceServiceSpec",
            {"predictor": {"model": {"storageUri": "pvc://a/b"}, "models": {}}},
        ),
    ):
        with pytest.raises(AssertionError):
            check(spec | change, kind, "wrong")


# What no schema can know.


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_variable_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a value that the server takes."""
    given = environment(CONTAINERS[name])
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)

    assert {variable.removeprefix("BREADCRUMBS_").lower() for variable in given} <= set(Settings.model_fields)
    assert Settings().store == "/store"


def test_many_answer_and_one_refits() -> None:
    """The many put refits into the store, the one takes them; it is never there twice."""
    many, one = (named(plain(), "Deployment", name)["spec"] for name in ("breadcrumbs", "breadcrumbs-refit"))
    said = [environment(spec["template"]["spec"]["containers"][0])["BREADCRUMBS_REFIT"] for spec in (many, one)]

    assert said == ["elsewhere", "here"]
    assert (one["replicas"], one["strategy"]["type"]) == (1, "Recreate")
    assert "replicas" not in many  # an apply would undo the autoscaler


@pytest.mark.parametrize("name", CONTAINERS)
def test_probes_ask_routes_that_there_are_without_a_key(name: str, tmp_path: Path) -> None:
    """At the port that the image listens on; alive and ready are two questions."""
    container = CONTAINERS[name]
    (port,) = container["ports"]
    routes = set(create_app(Settings(store=str(tmp_path))).openapi()["paths"])
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}

    assert port["containerPort"] == int(re.findall(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE)[0])
    assert {one["path"] for one in asked.values()} <= routes
    assert all(one["port"] in (port["name"], port["containerPort"]) for one in asked.values())
    assert asked["liveness"]["path"] in ("/healthz", "/v2/health/live")
    assert asked["readiness"]["path"] in ("/readyz", "/v2/health/ready")


def test_the_service_reaches_those_that_answer() -> None:
    """By labels that their pods have, at a port that they name; the one that refits is left to its work."""
    service, many = named(plain(), "Service")["spec"], named(plain(), "Deployment")["spec"]
    refit = named(plain(), "Deployment", "breadcrumbs-refit")["spec"]
    labels = many["template"]["metadata"]["labels"]
    ports = {port["name"] for port in many["template"]["spec"]["containers"][0]["ports"]}

    assert service["selector"].items() <= labels.items()
    assert not service["selector"].items() <= refit["template"]["metadata"]["labels"].items()
    assert {port["targetPort"] for port in service["ports"]} <= ports
    for spec in (many, refit):
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_a_disruption_leaves_servers_that_answer() -> None:
    """The budget counts the pods that answer, and fewer of them may go than there are at the least."""
    budget, scaling = named(plain(), "PodDisruptionBudget")["spec"], named(plain(), "HorizontalPodAutoscaler")["spec"]
    labels = named(plain(), "Deployment")["spec"]["template"]["metadata"]["labels"]

    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert 0 < budget["maxUnavailable"] < scaling["minReplicas"] < scaling["maxReplicas"]


def test_the_autoscaler_asks_for_a_metric_that_comes_to_it() -> None:
    """A metric of ours, which Prometheus gets under the labels that the adapter's rule looks for."""
    scaling = named(plain(), "HorizontalPodAutoscaler")["spec"]
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    (job,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    (metric,) = [one["pods"]["metric"]["name"] for one in scaling["metrics"] if one["type"] == "Pods"]
    series, labels = re.fullmatch(r"(\w+)\{(.*)\}", rule["seriesQuery"]).groups()
    target = scaling["scaleTargetRef"]

    assert f"# TYPE {series} gauge" in Metrics().text().decode()
    assert metric == rule["name"]["as"] == series
    assert set(rule["resources"]["overrides"]) == set(re.findall(r"(\w+)!=", labels))
    assert set(rule["resources"]["overrides"]) <= {step.get("target_label") for step in job["relabel_configs"]}
    assert named(plain(), target["kind"], target["name"])["apiVersion"] == target["apiVersion"]
    (cpu,) = [one for one in scaling["metrics"] if one["type"] == "Resource"]
    assert cpu["resource"]["name"] in CONTAINERS["breadcrumbs"]["resources"]["requests"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_may_do_little(name: str) -> None:
    """As the image's user, on a read-only file system, without capabilities; and they write where a volume is."""
    container = CONTAINERS[name]
    pod = {**pods(plain()), "kserve": kserve()[0]["spec"]}[name]
    context = pod.get("securityContext", {}) | container["securityContext"]
    (user,) = re.findall(r"useradd --uid (\d+)", DOCKERFILE)
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    writes = json.loads(re.findall(r"^VOLUME (\[.*\])", DOCKERFILE, re.MULTILINE)[0])

    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, int(user))
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert set(writes) == {path for path, mount in mounts.items() if not mount.get("readOnly")}
    assert {mount["name"] for mount in mounts.values()} == volumes
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])


@pytest.mark.parametrize("name", [*pods(plain()), "kserve"])
def test_a_pod_is_given_the_time_to_drain(name: str) -> None:
    """What a proxy needs to hear of it, and the server's own grace, with something to spare; and no stray variables."""
    pod = {**pods(plain()), "kserve": kserve()[1]["spec"]["predictor"]}[name]
    waits = CONTAINERS[name]["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod["terminationGracePeriodSeconds"] >= waits + GRACE + 10
    assert pod["enableServiceLinks"] is False  # a Service named breadcrumbs would set BREADCRUMBS_PORT to a URL
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", pods(plain()))
def test_keys_come_from_a_secret(name: str) -> None:
    """Mounted where the setting points; without them the server does not start."""
    pod, given = pods(plain())[name], environment(CONTAINERS[name])
    (mount,) = [one for one in CONTAINERS[name]["volumeMounts"] if one["name"] == "keys"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "keys"]

    assert Path(given["BREADCRUMBS_KEYS"]).parent == Path(mount["mountPath"])
    assert mount["readOnly"]
    assert "secretName" in volume["secret"]
    assert given["BREADCRUMBS_INSECURE"] == "false"


def test_images_are_those_that_the_dockerfile_makes() -> None:
    """By the names of the docs, in this version; the one that refits has torch."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chosen = yaml.safe_load((FOLDER / "cluster/kustomization.yaml").read_text())["images"]
    used = {name: container["image"].partition(":")[0] for name, container in CONTAINERS.items()}

    assert used == {
        "breadcrumbs": "breadcrumbs-serve",
        "breadcrumbs-refit": "breadcrumbs",
        "kserve": "breadcrumbs-serve",
    }
    assert {image["name"]: image["newTag"] for image in chosen} == dict.fromkeys(used.values(), version)
    assert CONTAINERS["kserve"]["image"] == f"breadcrumbs-serve:{version}"
    assert all(f"docker build -t {name}" in DOCKERFILE for name in used.values())


def test_the_kustomization_lists_what_is_there() -> None:
    """Every file of the folder, and no other."""
    listed = yaml.safe_load((FOLDER / "cluster/kustomization.yaml").read_text())["resources"]

    assert {path.name for path in PLAIN} == {*listed, "kustomization.yaml"}


@needs_kubectl
def test_the_gpu_overlay_asks_for_a_gpu() -> None:
    """With the image that can use it, and a server that does not start without it; the rest stays as it was."""
    container = pods(built("gpu"))["breadcrumbs"]["containers"][0]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["image"].startswith("breadcrumbs:")
    assert environment(container)["BREADCRUMBS_DEVICE"] == "cuda"
    assert container["readinessProbe"] == CONTAINERS["breadcrumbs"]["readinessProbe"]
    assert pods(built("gpu"))["breadcrumbs-refit"] == pods(built("cluster"))["breadcrumbs-refit"]


@needs_kubectl
def test_the_object_store_overlay_needs_no_volume() -> None:
    """No claim is left, in either Deployment, and the bucket's keys come from a Secret."""
    objects = built("object-store")

    assert not [one for one in objects if one["kind"] == "PersistentVolumeClaim"]
    for pod in pods(objects).values():
        container = pod["containers"][0]
        assert environment(container)["BREADCRUMBS_STORE"].startswith("s3://")
        assert "store" not in {one["name"] for one in (*pod["volumes"], *container["volumeMounts"])}
        assert "secretRef" in container["envFrom"][0]


def test_kserves_runtime_and_service_fit_each_other() -> None:
    """The format, the protocol, the name; the bundle where KServe puts it; ready is that very model."""
    runtime, service = kserve()
    model = service["spec"]["predictor"]["model"]
    (supported,) = runtime["spec"]["supportedModelFormats"]
    probe = model["readinessProbe"]["httpGet"]
    bundle = read_bundle(ROOT / "models/demo").manifest.name

    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] == {"name": supported["name"], "version": supported["version"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert environment(CONTAINERS["kserve"])["BREADCRUMBS_BUNDLE"] == "/mnt/models"
    assert CONTAINERS["kserve"]["name"] == "kserve-container"
    assert probe["path"] == f"/v2/models/{bundle}/ready"
    assert probe["port"] == CONTAINERS["kserve"]["ports"][0]["containerPort"]
