"""Registries: named things of one kind, each declared in a file of its own, that everybody else asks for.

A registry imports every module of its package, and each module registers what it declares. Modules of others
join by an entry point of the group `rewardscope.<kind>`, or by the environment, for a file that belongs to no
package:

    REWARDSCOPE_PLUGINS="sources=my_package.contrast segmenters=my_package.cuts"

The kinds of files are two: `formats` are file types, as JSONL is one, and `rows` say what columns mean.

Registries fill while their package is imported, for types and forms are made of what is registered: a module
that joins may import what stands below its kind, and its kind's own registry.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

from engine.errors import RequestError

PLUGINS = "REWARDSCOPE_PLUGINS"


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str: ...


class NotRegistered(RequestError, KeyError):
    """A name that nothing is registered by in this process, such as that of a module which left."""

    __str__ = Exception.__str__


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T]):
    """What is registered of one kind, by name, in the order in which it is shown."""

    def __init__(self, kind: str) -> None:
        """`kind` is a plural, as in `sources`: the word of entry points and of REWARDSCOPE_PLUGINS."""
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, item: T) -> T:
        """Adds an item and gives it back. Raises ValueError where its name is taken."""
        if item.name in self._items:
            raise ValueError(f"Two {self.kind} are named `{item.name}`; name one of them differently.")
        self._items[item.name] = item
        return item

    def fill(self, package: str, order: tuple[str, ...] = (), *, nested: bool = False) -> None:
        """Imports every module of `package`, those of `order` first, then the modules of others.

        `nested` also imports the modules of the packages in it: of all rooms of a layer.
        """
        found = _modules_of(package, nested=nested)
        first = [f"{package}.{name}" for name in order]
        for name in (*first, *(name for name in found if name not in first)):
            importlib.import_module(name)
        for point in entry_points(group=f"rewardscope.{self.kind}"):
            point.load()
        for module in _from_environment(self.kind):
            importlib.import_module(module)

    def __getitem__(self, name: str) -> T:
        """The item of that name. Raises NotRegistered."""
        if name not in self._items:
            raise NotRegistered(
                f"None of the {self.kind} that this process knows is named `{name}`; if a module of yours "
                f"registers it, name that in {PLUGINS}, or install its package."
            )
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def _modules_of(package: str, *, nested: bool) -> list[str]:
    """The modules of a package by their dotted names, in alphabetical order."""
    names: list[str] = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if not module.ispkg:
            names.append(module.name)
        elif nested:
            names += _modules_of(module.name, nested=True)
    return sorted(names)


def _from_environment(kind: str) -> list[str]:
    """The modules that the environment names for a kind. Raises ValueError where it names something else."""
    modules = []
    for word in os.environ.get(PLUGINS, "").split():
        of, equals, module = word.partition("=")
        if not equals or not module:
            raise ValueError(f"{PLUGINS} has `{word}`; write kind=module, as in sources=my_package.contrast.")
        if of == kind:
            modules.append(module)
    return modules
