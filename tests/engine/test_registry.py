"""Named things register themselves: files of the package, then those of others."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import RequestError
from engine.registry import PLUGINS, Registry


@dataclass(frozen=True)
class Thing:
    name: str


THINGS: Registry[Thing] = Registry("things")
"""What the modules that the tests write register with."""

MODULE = """
from tests.engine.test_registry import THINGS, Thing
THINGS.register(Thing({name!r}))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, whose modules are forgotten after the test; THINGS is empty before it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "tests.engine.test_registry", sys.modules[__name__])
    THINGS._items.clear()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_package(folder: Path, *names: str) -> None:
    (folder / "things_package").mkdir()
    (folder / "things_package" / "__init__.py").touch()
    for name in names:
        (folder / "things_package" / f"{name}.py").write_text(MODULE.format(name=name))


def test_every_module_of_the_package_registers_and_named_ones_come_first(folder: Path) -> None:
    write_package(folder, "apple", "pear", "quince")

    THINGS.fill("things_package", order=("quince",))

    assert list(THINGS) == ["quince", "apple", "pear"]
    assert THINGS["pear"] == Thing("pear")


def test_a_module_that_the_environment_names_joins_its_kind_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(folder, "apple")
    (folder / "fig_of_others.py").write_text(MODULE.format(name="fig"))
    (folder / "other_kind.py").write_text("raise AssertionError('of another kind')")
    monkeypatch.setenv(PLUGINS, "things=fig_of_others stones=other_kind")

    THINGS.fill("things_package")

    assert list(THINGS) == ["apple", "fig"]


def test_a_module_of_an_installed_package_joins_by_its_entry_point(folder: Path) -> None:
    write_package(folder, "apple")
    (folder / "fig_of_others.py").write_text(MODULE.format(name="fig"))
    info = folder / "figs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: figs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rewardscope.things]\nfig = fig_of_others\n")

    THINGS.fill("things_package")

    assert list(THINGS) == ["apple", "fig"]


def test_a_name_is_taken_once() -> None:
    registry: Registry[Thing] = Registry("things")
    registry.register(Thing("apple"))

    with pytest.raises(ValueError, match="`apple`"):
        registry.register(Thing("apple"))


def test_a_name_that_is_not_there_is_told_with_what_to_do() -> None:
    registry: Registry[Thing] = Registry("things")

    assert registry.get("apple") is None
    assert "apple" not in registry
    with pytest.raises(RequestError, match="None of the things that this process knows is named `apple`"):
        registry["apple"]


def test_a_word_without_a_kind_is_refused_with_an_example(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(folder, "apple")
    monkeypatch.setenv(PLUGINS, "fig_of_others")

    with pytest.raises(ValueError, match="kind=module"):
        THINGS.fill("things_package")
