"""Tiny models, written once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a tiny model: `model_folder(shape, seed=0, **options of byte_tokenizer)`."""
    import torch

    from tests.engine.tiny_models import byte_tokenizer, write_model

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")

    def folder(shape: str, seed: int = 0, **tokenizer: object) -> Path:
        name = "-".join([shape, str(seed), *(f"{key}={value}" for key, value in sorted(tokenizer.items()))])
        if not (root / name).exists():
            write_model(root / name, shape, byte_tokenizer(**tokenizer), seed)  # type: ignore[arg-type]
        return root / name

    return folder
