"""Make transformers' Auto classes know the lab's models, without importing transformers.

Where transformers' table of configurations is imported already, the lab's is registered at once; else by a
finder on ``sys.meta_path`` that waits for that table, and takes itself away once it was filled. The model
classes follow when a configuration is made (see :class:`depthprobe.lab.configuration.DepthprobeConfig`): the
table is imported from the midst of half of transformers, where nothing that needs Llama could be.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

TABLE = "transformers.models.auto.configuration_auto"


def register_with_transformers() -> None:
    """Register the lab's configuration now, or as soon as transformers can take it; again is harmless."""
    if not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())
    if TABLE in sys.modules:  # asked second: another thread may have imported it meanwhile
        importlib.import_module(TABLE)  # waits for that thread
        _register()


def _register() -> None:
    # A new list: another thread may be going through the old one, and would miss the next finder.
    sys.meta_path = [finder for finder in sys.meta_path if not isinstance(finder, _Waiting)]
    # It registers itself. One that is being imported is not waited for: that may be what asked for the table.
    if "depthprobe.lab.configuration" not in sys.modules:
        import depthprobe.lab.configuration  # noqa: F401


class _Waiting(MetaPathFinder):
    """Finds one module as the other finders do, and has the lab registered once it ran."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TABLE:
            return None
        others = (finder for finder in list(sys.meta_path) if not isinstance(finder, _Waiting))
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        loader = None if spec is None else spec.loader
        if loader is None:
            return spec
        run = loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            del loader.exec_module  # the loader is what it was, for a reload too
            run(module)
            _register()

        # On this loader alone; one of our own around it would hide source and resources from others.
        loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
