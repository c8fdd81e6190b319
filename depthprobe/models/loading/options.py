"""How a model is to be loaded: everything besides its name that a user may set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from depthprobe.declaring import Option
from depthprobe.errors import OptionError

TOWERS = ("decoder", "encoder")


@dataclass(frozen=True)
class LoadOptions:
    """How a model is to be loaded.

    Args:
        revision: Branch, tag or commit of a hub id.
        dtype: ``auto`` (the checkpoint's own on a GPU, float32 on a CPU) or a name in
            :data:`depthprobe.models.loading.placement.DTYPES`.
        device: ``auto`` (cuda, then mps, then cpu), ``cuda``, ``cuda:N``, ``mps`` or ``cpu``.
        device_map: None puts the model on that one device, and splits it over all GPUs and the main memory
            only where it does not fit on one GPU; ``auto`` splits it in any case.
        trust_remote_code: Whether Python files that come with the model may be run.
        adapter: Hub id or directory of a PEFT adapter, merged into the weights in memory.
        tower: ``decoder`` (what None means) or ``encoder`` of an encoder-decoder model.
        initial_seed: Seed of freshly initialised weights, used instead of the checkpoint's; None loads the
            checkpoint's.

    Raises:
        OptionError: If ``device_map`` or ``tower`` is not a known name, or device and map contradict each
            other.
    """

    revision: Annotated[
        str | None, Option("Branch, tag or commit of a hub model.", default="the main branch")
    ] = None
    dtype: Annotated[
        Any,  # a name, or from Python a torch.dtype
        Option("auto (the checkpoint's own on a GPU, float32 on a CPU), float32, bfloat16 or float16."),
    ] = "auto"
    device: Annotated[Any, Option("auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps.")] = "auto"
    trust_remote_code: Annotated[bool, Option("Run Python code that comes with the checkpoint.")] = False
    adapter: Annotated[
        str | None, Option("PEFT adapter, hub id or directory, merged into the weights in memory.")
    ] = None
    device_map: Annotated[
        str | None,
        Option(
            "auto: split the model over all GPUs and the main memory.",
            default="one device if it holds the weights",
        ),
    ] = None
    tower: Annotated[
        str | None, Option("decoder or encoder of an encoder-decoder model.", default="decoder")
    ] = None
    initial_seed: int | None = None

    def __post_init__(self) -> None:
        if self.device_map not in (None, "auto"):
            raise OptionError(f"--device-map must be auto, got {self.device_map}.", "Or leave it out.")
        if self.device_map == "auto" and str(self.device).lower() not in ("auto", "cuda"):
            raise OptionError(
                f"--device {self.device} and --device-map auto contradict each other.",
                "Leave one of them out.",
            )
        if self.device_map == "auto" and self.initial_seed is not None:
            raise OptionError(
                "--device-map auto and --initial contradict each other: fresh weights cannot be split.",
                "Leave one of them out.",
            )
        if self.adapter is not None and self.initial_seed is not None:
            raise OptionError(
                f"--adapter {self.adapter} and --initial contradict each other: adapters need training.",
                "Leave one of them out.",
            )
        if self.tower not in (None, *TOWERS):
            raise OptionError(f"--tower must be {' or '.join(TOWERS)}, got {self.tower}.")


def split_name(name: str, revision: str | None) -> tuple[str, str | None, str | None]:
    """Return the repository, the GGUF file and the revision that ``REPO[:FILE.gguf][@REVISION]`` names.

    Args:
        name: What the user typed; the revision may also come before the file.
        revision: What ``--revision`` says.

    Raises:
        OptionError: If the name and ``--revision`` say two different revisions.
    """
    rest, file, named = name, None, []
    found = re.fullmatch(r"(.+?):([^:]+?\.gguf)(?:@([^@]+))?", name, flags=re.IGNORECASE)
    if found:
        rest, file = found[1], found[2]
        named.append(found[3])
    found = re.fullmatch(r"(.+?)@([^@]+)", rest)
    if found:
        rest = found[1]
        named.append(found[2])
    wanted = dict.fromkeys(filter(None, [*named, revision]))
    if len(wanted) > 1:
        said = " and ".join(wanted)
        raise OptionError(f"Two revisions of {rest} are named, {said}.", "Name one.")
    return rest, file, next(iter(wanted), None)
