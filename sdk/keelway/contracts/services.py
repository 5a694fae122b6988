"""Services, their revisions and replicas."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from keelway.contracts.base import Answer, Description, Request, ServiceName, Sha256, Tags
from keelway.contracts.files import FileEntry
from keelway.contracts.images import BaseSpec, ExtraSteps, ImageResult

ModelRef = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}:(\d+|latest)$")]
EnvironmentRef = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}:(\d+|latest)$")]


class ServiceState(StrEnum):
    """What a service is, seen from outside."""

    TRANSITIONING = "transitioning"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    FAILED = "failed"
    UNSCHEDULABLE = "unschedulable"
    DELETING = "deleting"


class ReplicaState(StrEnum):
    """starting -> ready -> stopped; `crashed` waits for its restart, `failed` will not be restarted."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    CRASHED = "crashed"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class InferenceConfig(Request):
    """How a model is served: an entry script in a snapshot, and an environment."""

    entry_script: Annotated[str, StringConstraints(min_length=4, max_length=1024, pattern=r"\.py$")]
    snapshot: Sha256
    environment: EnvironmentRef
    description: Description = ""
    extra_docker_file_steps: ExtraSteps | None = Field(
        default=None, description="RUN, ENV, ARG and LABEL instructions for the Dockerfile of an image"
    )


class ContainerResources(Request):
    """What the container of a replica gets: a share that it is promised, and the most that it can have."""

    cpu: Annotated[float, Field(gt=0, le=1024)] = Field(default=0.1, description="cores, as a share beside others")
    memory_gb: Annotated[float, Field(ge=0.1, le=65536)] = Field(default=0.5, description="GiB")
    cpu_limit: Annotated[float, Field(gt=0, le=1024)] | None = Field(
        default=None, description="cores; without it 1, or as many as `cpu`"
    )
    memory_gb_limit: Annotated[float, Field(ge=0.1, le=65536)] | None = Field(
        default=None, description="GiB; without it as many as `memory_gb`"
    )

    @property
    def most_cpu(self) -> float:
        """Cores that it never gets more of."""
        return self.cpu_limit or max(1.0, self.cpu)

    @property
    def most_memory_bytes(self) -> int:
        """Memory at which it is ended."""
        return int((self.memory_gb_limit or self.memory_gb) * 1024**3)

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        for name in ("cpu", "memory_gb"):
            wanted, limit = getattr(self, name), getattr(self, f"{name}_limit")
            if limit is not None and limit < wanted:
                raise ValueError(f"{name}_limit {limit:g} is less than {name} {wanted:g}")
        return self


class DeploymentConfig(Request):
    """Where replicas run, how many, and what each gets."""

    compute_type: Literal["process", "docker"] = "process"
    num_replicas: Annotated[int, Field(ge=1, le=32)] = 1
    collect_model_data: bool = Field(default=False, description="keep what the script hands to ModelDataCollector")
    container_resources: ContainerResources | None = Field(default=None, description="with compute_type `docker`")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.compute_type != "docker" and self.container_resources is not None:
            raise ValueError(f"container_resources go with compute_type 'docker', not {self.compute_type!r}")
        if self.compute_type == "docker" and self.collect_model_data:
            raise ValueError(
                "collect_model_data works with compute_type 'process' alone: a container writes nothing out"
            )
        return self

    @property
    def resources(self) -> ContainerResources | None:
        """What a container gets; None where there is none."""
        return (self.container_resources or ContainerResources()) if self.compute_type == "docker" else None


class ServiceCreate(Request):
    """A new service: its models, how they are scored, where it runs."""

    name: ServiceName
    models: Annotated[list[ModelRef], Field(max_length=1000)]
    inference_config: InferenceConfig
    deployment_config: DeploymentConfig = Field(default_factory=DeploymentConfig)
    description: Description = ""
    tags: Tags = Field(default_factory=dict)
    properties: Tags = Field(default_factory=dict)


class ServiceUpdate(Request):
    """What should change of a service; what is left out stays. Models, configs and their like make a new revision."""

    models: Annotated[list[ModelRef], Field(max_length=1000)] | None = None
    inference_config: InferenceConfig | None = None
    deployment_config: DeploymentConfig | None = None
    description: Description | None = None
    tags: Tags | None = Field(default=None, description="all of them, in place of those before")
    properties: Tags | None = Field(default=None, description="more of them: one that is there stays as it is")

    @property
    def changes_what_runs(self) -> bool:
        """Whether it needs a new revision."""
        return not (self.models is None and self.inference_config is None and self.deployment_config is None)


class Rollback(Request):
    """Which revision to run once more."""

    revision: Annotated[str, StringConstraints(pattern=r"^r[1-9]\d{0,8}$")] | None = Field(
        default=None, description="as `revisions` names it; without it the one that served before"
    )


class Replica(Answer):
    """One running server of a revision, as its node last saw it."""

    name: str
    revision: str
    node: str
    state: ReplicaState
    reason: str = ""
    url: str | None = None
    restarts: int = 0
    exit_code: int | None = None
    log_tail: list[str] = Field(default_factory=list)
    started_at: datetime | None = None


class Revision(Answer):
    """One immutable configuration of a service."""

    name: str
    models: list[str]
    environment: str
    image: str | None = Field(default=None, description="identity of the built environment it runs in")
    inference_config: InferenceConfig
    deployment_config: DeploymentConfig
    traffic: int = Field(description="percent of requests")
    served_at: datetime | None = Field(default=None, description="when it last began to take traffic")
    created_at: datetime
    created_by: str


class ServiceAuth(Answer):
    """Which ways of authentication callers of the scoring address need."""

    keys: bool = False
    token: bool = False


class Service(Answer):
    """A named web service with a stable address."""

    name: str
    workspace: str
    state: ServiceState
    reason: str = ""
    target: str
    scoring_uri: str
    swagger_uri: str
    generation: int
    observed_generation: int
    revisions: list[Revision] = Field(default_factory=list)
    replicas: list[Replica] = Field(default_factory=list)
    auth: ServiceAuth = Field(default_factory=ServiceAuth)
    deployment_config: DeploymentConfig
    inference_config: InferenceConfig
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    operation: str | None = Field(default=None, description="the operation that works on it, or worked on it last")
    created_at: datetime
    created_by: str
    etag: str


# What workers and nodes exchange with the API ---------------------------------------------------------------


class ModelFiles(Answer):
    """A model version as a node materialises it: azureml-models/<name>/<version>/<files>."""

    name: str
    version: int
    digest: str
    files: list[FileEntry]


class EnvironmentSpec(Answer):
    """What a node needs to build an environment. The node adds its runtime wheel and platform to its identity."""

    name: str
    version: int
    python_version: str
    platform: str | None = None
    lock: str
    conda_lock: str | None = None
    lock_digest: str
    wheels: list[FileEntry] = Field(default_factory=list)
    environment_variables: dict[str, str] = Field(default_factory=dict)


class ContainerImage(Answer):
    """The image that a container runs: what an engine calls it, and its files, for engines that lost it."""

    identity: str
    name: str
    image_id: str
    files: list[FileEntry]


class ReplicaSpec(Answer):
    """All a node needs to run a replica, also while the API is away. `name` is unique and stable.

    `image` and `resources` are there for targets that run containers, once the image is.
    """

    name: str
    workspace: str
    service: str
    revision: str
    target: str
    entry_script: str
    snapshot_digest: str
    snapshot_files: list[FileEntry]
    models: list[ModelFiles]
    environment: EnvironmentSpec
    generation: int
    collects_data: bool = False
    image: ContainerImage | None = None
    resources: ContainerResources | None = None


class BuildSpec(Answer):
    """Spec of a `build` operation: with a `base` of an image, else of an environment on the node itself."""

    workspace: str = ""
    environment: EnvironmentSpec
    base: BaseSpec | None = None


class DeploySpec(Answer):
    """Spec of a `deploy` operation: the replica to run, without a name and node yet, and how often.

    `base`: what its image starts from, for targets that run containers.
    """

    replica: ReplicaSpec
    base: BaseSpec | None = None
    num_replicas: int
    scoring_uri: str
    health_uri: str = Field(description="GET through the gateway; 200 of this revision means that the route is live")
    warm_up: list[Any] = Field(default_factory=list, description="bodies that each replica must answer first")


class DeleteSpec(Answer):
    """Spec of a `delete` operation: wait until these replicas are gone."""

    workspace: str
    service: str
    replicas: list[str]


class PlaceReplicas(Request):
    """A deploying worker asks that this operation's revision runs on its node (or on others)."""

    epoch: int
    node: str
    image: Annotated[str, Field(max_length=200)] = Field(description="identity of the environment that was built")
    built: ImageResult | None = Field(default=None, description="the image, for targets that run containers")


class Activate(Request):
    """Send traffic to this operation's revision."""

    epoch: int


class ReplicaList(Answer):
    """An operation's replicas; `seen` goes back as `?seen=` to wait for a change."""

    items: list[Replica]
    seen: str


class NodeRegister(Request):
    """A node says what it is and has; repeated at every start."""

    pythons: list[str] = Field(description="full versions, its own interpreter first, e.g. ['3.11.7', '3.12.1']")
    targets: list[str]
    capacity: dict[str, Any] = Field(default_factory=dict, description="cpu cores, memory_bytes")
    labels: dict[str, str] = Field(default_factory=dict)
    keelway_version: str = ""


class Node(Answer):
    """A worker host."""

    name: str
    state: Literal["ready", "away"]
    pythons: list[str]
    targets: list[str]
    capacity: dict[str, Any]
    labels: dict[str, str]
    keelway_version: str
    heartbeat_at: datetime


class NodeDesired(Answer):
    """Everything that should run on a node. `generation` goes back as `?seen=` to wait for a change."""

    generation: int
    replicas: list[ReplicaSpec]


class ObservedReplica(Request):
    """A replica as its node sees it now."""

    name: str
    state: ReplicaState
    reason: str = ""
    url: str | None = None
    pid: int | None = None
    restarts: int = 0
    exit_code: int | None = None
    log_tail: list[str] = Field(default_factory=list, max_length=200)
    started_at: datetime | None = None


class NodeObserved(Request):
    """All replicas of a node: the heartbeat of the node as well. One that is not listed does not exist."""

    generation: int = Field(description="the desired generation this node has acted on")
    replicas: list[ObservedReplica]


class ReplicaLog(Request):
    """New bytes of a replica's log, from `offset` (in bytes since its first start) on."""

    replica: str
    offset: Annotated[int, Field(ge=0)]
    text: Annotated[str, Field(max_length=1_048_576)]


class ReplicaLogs(Request):
    """What a node's replicas wrote since the last time."""

    logs: Annotated[list[ReplicaLog], Field(max_length=1000)]
