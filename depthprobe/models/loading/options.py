"""How a model is to be loaded: everything besides its name that a user may set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from depthprobe.declaring import Option
from depthprobe.errors import OptionError
from depthprobe.machine.here import exists_here

TOWERS = ("decoder", "encoder")
# Those of transformers and torch, and of packages that users install; none that is fetched from the hub.
ATTENTION_KERNELS = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")


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
        attn_implementation: One of :data:`ATTENTION_KERNELS`; None means the one that the checkpoint names if
            this machine has it, else transformers' choice.
        initial_seed: Seed of freshly initialised weights, used instead of the checkpoint's; None loads the
            checkpoint's.

    Raises:
        OptionError: If ``device_map``, ``tower`` or ``attn_implementation`` is not a known name, or device
            and map contradict each other.
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
    attn_implementation: Annotated[
        str | None,
        Option(
            "Kernel that computes attention: eager, sdpa, flex_attention, flash_attention_2 or "
            "flash_attention_3. Moves numbers in their last digits.",
            default="the checkpoint's own, else sdpa where the model has it",
        ),
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
        if self.attn_implementation not in (None, *ATTENTION_KERNELS):
            kernels = ", ".join(ATTENTION_KERNELS)
            problem = f"--attn-implementation must be one of {kernels}, got {self.attn_implementation!r}."
            raise OptionError(
                problem, "Kernels that are repositories on the hub are code, and are not fetched."
            )


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


def split_adapter(name: str, adapter: str | None) -> tuple[str, str | None]:
    """Return the model and the adapter that ``MODEL+ADAPTER`` names; what exists on disk is not split.

    Args:
        name: What the user typed. Names on the hub hold no ``+``.
        adapter: What ``--adapter`` says.

    Raises:
        OptionError: If name and ``--adapter`` say two different adapters, or one of the names is empty.
    """
    if "+" not in name or exists_here(name):
        return name, adapter
    places = [at for at, letter in enumerate(name) if letter == "+"]
    # A directory's own name may hold one.
    at = next((at for at in places if exists_here(name[:at]) and at), places[0])
    model, named = name[:at], name[at + 1 :]
    if not model or not named:
        raise OptionError(f"{name!r} names no {'model' if not model else 'adapter'}.", "Write MODEL+ADAPTER.")
    if adapter not in (None, named):
        raise OptionError(f"Two adapters of {model} are named, {named} and {adapter}.", "Name one.")
    return model, named
