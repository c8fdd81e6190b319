"""Code that a model takes from another repository of the hub, which may change under it."""

from __future__ import annotations

import re

from depthprobe.models.loading import hub
from depthprobe.models.loading.sources import IN_MEMORY, ModelSource, fetch_small_files

# As in "auto_map": REPO--MODULE.CLASS
_NAMED = re.compile(r'"([\w.-]+/[\w.-]+--\w+)\.\w+"')


def code_elsewhere(source: ModelSource) -> dict[str, str]:
    """Return the repositories of the hub that a model takes its code from, with their newest commits.

    Raises:
        LoadError: If one of them may not be read.
        MachineError: If the hub cannot be reached and the cache does not help.
    """
    if source.layout != "transformers" or source.location == IN_MEMORY:
        return {}
    folder = fetch_small_files(source, with_code=True)
    named: set[str] = set()
    for config in ("config.json", "tokenizer_config.json"):
        if (folder / config).is_file():
            text = (folder / config).read_text(encoding="utf-8", errors="replace")
            named.update(_NAMED.findall(text))
    found = {}
    for repo, _, module in (each.rpartition("--") for each in sorted(named)):
        file = hub.fetch_file(repo, f"{module}.py", None)
        if file is not None:
            found[repo] = file.parent.name
    return found
