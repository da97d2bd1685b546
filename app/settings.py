"""Every setting of the product, read once from the environment and passed in; nobody else reads it.

Each field is `REWARDSCOPE_<NAME>` in the environment; `<NAME>_FILE` of a secret names a file that holds it.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class Settings(BaseSettings):
    """What can be set, with a sentence each."""

    model_config = SettingsConfigDict(
        env_prefix="REWARDSCOPE_", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".local" / "share" / "rewardscope")
    """Where the embedded data base, uploads in flight, demo models and the access token lie."""
    runs_dir: Path = Field(default_factory=lambda data: data["data_dir"] / "runs")
    """Where trainings leave checkpoints and models, a folder a run: workers see it under the same path."""
    database_url: str | None = None
    """`postgresql://...` of an external PostgreSQL; without it the embedded one is started in `data_dir`."""
    host: str = "127.0.0.1"
    """Address that the web server binds. Any address but a loopback one needs a token of your own."""
    port: int = Field(8321, ge=0, le=65535)
    """Port of the web server; 0 takes a free one."""
    public_url: str | None = None
    """How browsers reach the server, where a proxy stands before it; printed in the banner."""
    url: str | None = None
    """The server that the command line speaks to; by default the one at `host` and `port` on this machine."""
    token: SecretStr | None = None
    """Access token of the admin. Without it one is made at the first start and kept in `data_dir`."""
    token_file: Path | None = None
    """A file that holds the access token, as container platforms mount secrets."""
    max_upload_mib: int = Field(1024, ge=1)
    """Largest upload of a data set; a larger one is refused with 413."""
    min_free_disk_mib: int = Field(256, ge=0)
    """Uploads and jobs are refused while the data folder's disk has less than this left."""
    score_wait_seconds: float = Field(30.0, gt=0)
    """How long `POST /api/v1/scores` waits for the warm scorer before it answers 202 with a place to look."""
    data_roots: tuple[Path, ...] | None = None
    """Folders from which requests may name data sets and task suites; a JSON list. By default the data
    folder, and any folder where only this machine can reach the server."""
    model_roots: tuple[Path, ...] | None = None
    """The same for models that are named by their folder."""
    trusted_models: tuple[str, ...] = ()
    """Names or folders of models that may bring their own code (`trust_remote_code`); a JSON list."""
    webhook_hosts: tuple[str, ...] = ("*",)
    """Where webhooks may lead; a JSON list of host names (`*.example.org` too), addresses and networks, which
    may be private ones. `*` is any host with a public address."""
    allow_code: bool = False
    """Whether task suites may run what models write as code, in bounded processes that are kept apart."""
    worker_name: str | None = None
    """Name of this worker in the dashboard; by default host and process id."""
    worker_queues: tuple[str, ...] = ("default", "interactive")
    """Queues that this worker serves; a JSON list."""
    device: str = "auto"
    """Where models run on this worker: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    metrics: bool = True
    """Whether `/metrics` (Prometheus) is served."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    log_format: Literal["console", "json"] = "console"
    """How log lines are written."""

    @model_validator(mode="after")
    def _token_comes_from_one_place(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("Set REWARDSCOPE_TOKEN or REWARDSCOPE_TOKEN_FILE, not both.")
        return self

    @property
    def binds_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def has_own_token(self) -> bool:
        """Whether somebody chose the access token, rather than the first start."""
        return self.token is not None or self.token_file is not None
