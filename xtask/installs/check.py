#!/usr/bin/env python3
"""The installations in docs/examples/many-hosts by the programs that read them, as far as these run without a cluster.

Kubernetes: kubectl renders them, and the published schemas of the newest and of an older version take each object; what Pod
Security calls restricted, and names that must agree, are compared here, as no API server is asked. NATS: nats-server reads its
configuration. Nomad: the file is HCL, and its tasks name programs and arguments that exist. Compose: docker-compose reads it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hcl2
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs/examples/many-hosts"
KUBERNETES = EXAMPLES / "kubernetes"
# The newest that there are schemas of, and one that is about to go out of support.
VERSIONS = ["1.37", "1.33"]


def fail(text: str) -> None:
    sys.exit(f"installs: {text}")


def output(*command: str, **more) -> str:
    done = subprocess.run(command, text=True, capture_output=True, check=False, **more)
    if done.returncode != 0:
        fail(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def pod_spec(item: dict) -> dict | None:
    return item.get("spec", {}).get("template", {}).get("spec")


def check_restricted(where: str, spec: dict) -> None:
    """The rules of Pod Security, level restricted."""
    whole = spec.get("securityContext", {})
    if not whole.get("runAsNonRoot") or whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        fail(f"{where}: runs as root, or without a seccomp profile")
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        fail(f"{where}: has a namespace of its node")
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= allowed:
            fail(f"{where}: volume {volume['name']} is not restricted")
    for container in spec.get("initContainers", []) + spec["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
            fail(f"{where}: container {container['name']} is not restricted")


def check_names(where: str, spec: dict, items: list, claims: list) -> None:
    """Mounts and volumes, probes and ports, selectors and labels agree."""
    volumes = {volume["name"] for volume in spec.get("volumes", [])} | set(claims)
    ports = {port["name"] for container in spec["containers"] for port in container.get("ports", [])}
    for container in spec.get("initContainers", []) + spec["containers"]:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                fail(f"{where}: {container['name']} mounts {mount['name']}, which is no volume")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and port not in ports:
                fail(f"{where}: {probe} of {container['name']} asks at {port}, which is no port")
    maps = {item["metadata"]["name"] for item in items if item["kind"] == "ConfigMap"}
    for volume in spec.get("volumes", []):
        name = volume.get("configMap", {}).get("name")
        if name is not None and name not in maps:
            fail(f"{where}: there is no config map {name}")


def check_kubernetes() -> None:
    rendered = output("kubectl", "kustomize", str(KUBERNETES))
    job = (KUBERNETES / "submit.yaml").read_text()
    items = [item for text in (rendered, job) for item in yaml.safe_load_all(text)]
    checked = 0
    for item in items:
        where = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] != "Namespace" and item["metadata"].get("namespace") != "hashcluster":
            fail(f"{where}: is in no namespace")
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
                checked += 1
            except kubernetes_validate.SchemaNotFoundError:
                if item["kind"] != "PodMonitor":
                    raise
            except kubernetes_validate.ValidationError as error:
                fail(f"{where}: {error}")
        spec = pod_spec(item)
        if spec is None:
            continue
        claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])]
        check_restricted(where, spec)
        check_names(where, spec, items, claims)
        labels = item["spec"]["template"]["metadata"]["labels"]
        if not item["spec"].get("selector", {}).get("matchLabels", {}).items() <= labels.items():
            fail(f"{where}: does not select its own pods")
    print(f"Kubernetes: {len(items)} objects, {checked} times a schema of {' and '.join(VERSIONS)}; PodMonitor has none there")


def check_nats() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        output("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", "/CN=nats", "-keyout", f"{name}/tls.key", "-out", f"{name}/tls.crt")
        (place / "ca.crt").write_bytes((place / "tls.crt").read_bytes())
        (place / "users").mkdir()
        (place / "users/users.conf").write_bytes((KUBERNETES / "users.conf").read_bytes())
        config = (KUBERNETES / "nats.conf").read_text().replace("/tls/", f"{name}/").replace("/data", f"{name}/data")
        (place / "nats.conf").write_text(config)
        output("nats-server", "-t", "-c", f"{name}/nats.conf", env={**os.environ, "POD_NAME": "nats-0"})
    print("NATS: nats-server takes the configuration")


def options(program: Path, *words: str) -> str:
    return output(str(program), *words, "--help")


def check_nomad(bin_dir: Path) -> None:
    with (EXAMPLES / "hosts.nomad.hcl").open() as file:
        job = hcl2.load(file)
    text = str(job)
    known = options(bin_dir / "hashcluster-bridge", "serve") + options(bin_dir / "hashcluster-vm", "up")
    tasks = 0
    for group in job["job"][0].values():
        for part in group["group"]:
            for tasked in (task for inner in part.values() for task in inner["task"]):
                for task in tasked.values():
                    tasks += 1
                    for config in task["config"]:
                        for word in config["args"]:
                            option = word.strip('"').split("=")[0]
                            if option.startswith("--") and option not in known:
                                fail(f"Nomad: {option} is no option of {config['command']}")
    if tasks != 2 or "raw_exec" not in text:
        fail(f"Nomad: {tasks} tasks")
    print("Nomad: HCL, and the programs have its options")


def check_compose() -> None:
    output("docker-compose", "-f", str(EXAMPLES / "compose.yml"), "config", "--quiet",
           env={**os.environ, "PHOTOS": "/srv", "PROGRAMS": "/usr/bin"})
    print("Compose: docker-compose takes the file")


def main() -> None:
    check_kubernetes()
    check_nats()
    check_nomad(Path(sys.argv[1]))
    check_compose()


main()
