"""A file appears whole or not at all, also when the disk is full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import RequestError, ResourceError
from engine.formats.atomic import atomic_file


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The operating system refuses larger files, as it does when the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match="no room left"),
        files_of_at_most(1000),
        atomic_file(tmp_path / "file") as file,
    ):
        file.write(b"x" * 5000)
    assert not list(tmp_path.iterdir())


def test_a_device_is_written_to_and_not_replaced() -> None:
    with atomic_file(Path("/dev/null")) as file:
        file.write(b"x")
    assert not Path("/dev/null").is_file()
    with pytest.raises(ResourceError, match="no room left"), atomic_file(Path("/dev/full")) as file:
        file.write(b"x")


def test_a_link_goes_on_pointing_to_the_new_file(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with atomic_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(RequestError, match="choose a folder that exists"),
        atomic_file(tmp_path / "no" / "file"),
    ):
        pass
