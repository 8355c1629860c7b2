"""The settings of the service: one sentence each, from the environment (`MODELRY_…`) or `modelry up`'s options.

Nothing is read at import time. An unknown or malformed value refuses the start with `InvalidSetting`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from modelry.core.errors import InvalidSetting
from modelry.core.home import Home

#: Read by the clients, not by the service.
CLIENT_VARIABLES = frozenset({"MODELRY_URL", "MODELRY_KEY", "MODELRY_PROJECT"})

PathList = Annotated[tuple[Path, ...], NoDecode]
NameList = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Frozen after reading; every field can be set as `MODELRY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="MODELRY_", frozen=True, extra="forbid")

    home: Path = Field(
        default_factory=lambda: Path("~/.modelry").expanduser(),
        description="The folder that holds everything: database, blobs, run files and keys.",
    )
    database_url: str = Field(
        default="",
        description="The database; empty means SQLite in the home. `postgresql://…` for a team.",
    )
    artifacts: str = Field(
        default="",
        description="Where content lives: empty means `blobs/` in the home; else an fsspec address.",
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8642, ge=0, le=65535, description="The port; 0 picks a free one.")
    grpc: bool = Field(
        default=True, description="Answer the Open Inference Protocol over gRPC too."
    )
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The port for gRPC; 0: a free one. Not given: the one after `port` (with port 0: a free one).",
    )
    web: int = Field(default=1, ge=1, le=64, description="Web processes.")
    tls_cert: Path | None = Field(default=None, description="Certificate chain (PEM) for TLS.")
    tls_key: Path | None = Field(default=None, description="Private key (PEM) for TLS.")
    insecure_http: bool = Field(
        default=False, description="Allow plain HTTP beyond loopback (said at each start)."
    )
    allowed_hosts: NameList = Field(
        default=(),
        description="Host names, beside loopback and `host`, that the service answers to.",
    )
    import_roots: PathList = Field(
        default=(), description="Server folders that imports may read; none by default."
    )
    job_slots: int = Field(default=2, ge=1, le=1024, description="Jobs that run at once.")
    job_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=1024,
        description="Compute threads of a job that does not say.",
    )
    start_method: Literal["auto", "fork", "exec"] = Field(
        default="auto",
        description="How replicas start: forked from a warm parent, or as fresh processes.",
    )
    lease_s: float = Field(
        default=3.0, ge=0.2, le=600, description="How long a controller leads without renewing."
    )
    bell: bool = Field(
        default=True, description="Wake processes at once on a change instead of at the next poll."
    )
    poll_s: float = Field(
        default=1.0, ge=0.05, le=60, description="The longest a loop sleeps without a bell."
    )
    checkpoint_s: float = Field(
        default=10.0, ge=0.1, description="Seconds between a training job's checkpoints."
    )
    deadline_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="How long a prediction may take if it does not say.",
    )
    max_body_bytes: int = Field(
        default=64 << 20, ge=1024, description="Largest body of a prediction or a management call."
    )
    max_upload_bytes: int = Field(
        default=100 << 30, ge=1024, description="Largest single file of an upload."
    )
    fast: bool = Field(
        default=True,
        description="Take predictions off the socket before the web framework; False is slower and answers alike.",
    )
    keep_alive_s: float = Field(
        default=75.0, ge=1, le=86400, description="How long an idle connection is kept."
    )
    head_timeout_s: float = Field(
        default=20.0, ge=1, le=3600, description="How long a request's headers may take to arrive."
    )
    stall_timeout_s: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="A client that sends under 1 KiB of a body, or reads nothing of an answer, for so long is left.",
    )
    gc_grace_s: float = Field(
        default=3600.0, ge=0, description="Unreferenced content younger than this is kept."
    )
    wrong_keys_per_s: float = Field(
        default=2.0,
        gt=0,
        le=1e9,
        description="Wrong keys a second from one address; ten times that at once. More are refused unread.",
    )
    metrics_open: bool = Field(
        default=False,
        description="Answer `/metrics` without a key, for a scraper inside a trusted network.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people (`text`) or for programs (`json`)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much the service's processes log."
    )

    @field_validator("import_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @property
    def places(self) -> Home:
        """The paths under the home."""
        return Home(self.home)

    @property
    def database_address(self) -> str:
        """SQLAlchemy's address of the database."""
        if not self.database_url:
            return f"sqlite:///{self.places.database}"
        scheme, _, rest = self.database_url.partition("://")
        if scheme in ("postgres", "postgresql"):
            return f"postgresql+psycopg://{rest}"
        return self.database_url

    @property
    def artifacts_address(self) -> str:
        """A folder or an fsspec address."""
        return self.artifacts or str(self.places.blobs)

    @property
    def scheme(self) -> str:
        return "https" if self.tls_cert else "http"

    @property
    def grpc_address(self) -> tuple[str, int]:
        """Where to listen for gRPC; port 0 picks a free one."""
        if self.grpc_port is not None:
            return self.host, self.grpc_port
        return self.host, self.port + 1 if 0 < self.port < 65535 else 0

    def environment(self) -> dict[str, str]:
        """The settings as variables, for the service's own processes."""
        found: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            if name == "import_roots":
                value = os.pathsep.join(str(path) for path in value)
            elif name == "allowed_hosts":
                value = ",".join(value)
            found[f"MODELRY_{name.upper()}"] = str(value)
        return found


def load_settings(**overrides: Any) -> Settings:
    """Environment and overrides (None means: not given) as checked settings; raises `InvalidSetting`."""
    known = {f"MODELRY_{name.upper()}" for name in Settings.model_fields} | CLIENT_VARIABLES
    for variable in sorted(os.environ):
        if variable.startswith("MODELRY_") and variable not in known:
            raise InvalidSetting(
                name=variable, value=os.environ[variable], reason="no such setting is known"
            )
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"MODELRY_{str(first['loc'][0]).upper()}" if first["loc"] else "settings"
        raise InvalidSetting(
            name=name, value=first.get("input"), reason=first["msg"].lower()
        ) from None
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise InvalidSetting(
            name="MODELRY_TLS_CERT",
            value=str(settings.tls_cert),
            reason="certificate and key belong together; give both or none",
        )
    return settings.model_copy(update={"home": settings.home.expanduser().absolute()})
