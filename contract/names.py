"""The names inside an injected pod: containers, volumes, folders, environment variables."""

SYSTEM_NAMESPACE = "sidetail-system"
CONFIG_MAP = "sidetail-config"
"""In the system namespace; its key `config.yaml` is the operator config."""

EXCLUDED_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE})
"""Their pods are never looked at."""

OURS = "sidetail"
"""How every container and volume that we add begins."""
SIDECAR = "sidetail"
INIT = "sidetail-init"
SEED_PREFIX = "sidetail-seed-"

LOGS_VOLUME = "sidetail-logs"
"""The shared log volume; one sub-path per container and directory."""
STATE_VOLUME = "sidetail-state"
"""Checkpoints; only the sidecar mounts it."""
BIN_VOLUME = "sidetail-bin"
"""The mirror program."""
EMPTY_VOLUME = "sidetail-empty"
"""Laid over the service-account token of our containers."""
BACKEND_VOLUME_PREFIX = "sidetail-backend-"
"""A backend's Secret."""

ROOT = "/sidetail"
"""Everything of ours inside a container lies below; no author's path may."""
LOGS_DIR = "/sidetail/logs"
"""In the sidecar: `<container>/<slug>` below it is one sub-path of the log volume."""
VOLUMES_DIR = "/sidetail/volumes"
"""In the sidecar: one folder for each of the author's own mounts that it follows."""
STATE_DIR = "/sidetail/state"
BACKENDS_DIR = "/sidetail/backends"
"""In the sidecar: `<name>` below it holds a backend's Secret."""
BIN_DIR = "/sidetail/bin"
STDOUT_DIR = "/sidetail/stdout"
"""In an app container: `<container>` below it is where the mirror writes."""
SEED_DIR = "/sidetail/seed"
"""In a seeding container: the new volume, away from the folder that it will hide; `/<number>`
below it where one container seeds several."""

MIRROR = "/sidetail/bin/sidetail-mirror"
"""In an app container, brought by `sidetail-init`."""
IMAGE_MIRROR = "/usr/local/bin/sidetail-mirror"
"""In the sidecar's image."""
STDOUT_FILE = "stdout.log"
STDOUT_SLUG = "stdout"
"""The sub-path of mirrored stdout is `<container>/stdout`."""

TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder, no secret
"""Where Kubernetes mounts a service-account token."""

IMAGE_UID = 65532
"""The numeric user of our image."""

VERSION_ENV = "SIDETAIL_VERSION"
"""Marks a container as ours."""
DEFAULT_CONTAINER_ENV = "SIDETAIL_DEFAULT_CONTAINER"
"""In each of our containers: the container that is meant where none is named, for a second run."""
SEED_OF_ENV = "SIDETAIL_SEED_OF"
"""In a seeding container: the container whose image it runs, for a second run."""

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

KNOWN_SIDECARS = frozenset(
    {
        "istio-proxy",
        "linkerd-proxy",
        "vault-agent",
        "gke-gcsfuse-sidecar",
        "cloud-sql-proxy",
        "consul-dataplane",
        "kuma-sidecar",
        "daprd",
        "otc-container",
        "cloudsql-proxy",
        SIDECAR,
    }
)
"""Containers that other injectors add: never the one an author means without naming it."""
