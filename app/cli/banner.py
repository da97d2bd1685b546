"""What the start of a server says: where it is, who may come in, and what works behind it."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import make_url

from app.services.roots import KINDS, roots_of
from app.settings import Settings


def address(settings: Settings, port: int) -> str:
    """The server's own address, as a browser on this machine writes it."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def banner(settings: Settings, *, port: int, token: str, database_url: str, worker: str) -> str:
    """A line each: URL, auth, data base, workers, device, telemetry."""
    url = make_url(database_url)
    database = (
        f"external PostgreSQL, {url.host}/{url.database}"
        if settings.database_url
        else f"embedded PostgreSQL in {settings.data_dir / 'postgres'}"
    )
    auth = "token of your own" if settings.has_own_token else f"token kept in {settings.data_dir / 'token'}"
    shown = "<your token>" if settings.has_own_token else token
    lines = [
        f"RewardScope {importlib.metadata.version('rewardscope')}",
        "",
        f"  Open        {address(settings, port)}/?token={shown}",
        f"  Auth        {auth}",
        f"  Data base   {database}",
        f"  Workers     {worker}",
        f"  Device      {describe_device()}",
        f"  Files       {_readable(settings)}",
        "  Telemetry   none, ever",
        "",
        "  Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def _readable(settings: Settings) -> str:
    """Which folders of the server's disk requests may name."""
    data, models = (roots_of(settings, kind) for kind in KINDS)
    if data is None and models is None:
        return "requests may name any folder; REWARDSCOPE_DATA_ROOTS and REWARDSCOPE_MODEL_ROOTS limit that"
    shown = (f"{kind} from {_listed(roots)}" for kind, roots in zip(KINDS, (data, models), strict=True))
    return "requests may name " + ", ".join(shown)


def _listed(roots: tuple[Path, ...] | None) -> str:
    return "any folder" if roots is None else " and ".join(map(str, roots))


def describe_device() -> str:
    """The GPUs that the driver names, else `CPU`. Asks no torch, which this process does not have."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "CPU"
    try:
        found = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return "CPU"
    names = [line.strip() for line in found.stdout.splitlines() if line.strip()]
    return ", ".join(names) if found.returncode == 0 and names else "CPU"
