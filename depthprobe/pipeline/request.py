"""What a user asks for with one command: the probe with its options, the model, the text, the place.

Imports nothing heavy, so that a run that is already there is recognised quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Options, Probe
from depthprobe.errors import OptionError
from depthprobe.interruption import NOTHING
from depthprobe.machine.provenance import coarser_arithmetic
from depthprobe.models.loading.options import LoadOptions, split_adapter
from depthprobe.results.naming import run_directory_name, usual_run_name
from depthprobe.texts.options import TextOptions, default_options

if TYPE_CHECKING:
    from depthprobe.models.loading.sources import ModelSource


@dataclass(frozen=True)
class Request:
    """Everything a user asks for with one command.

    Args:
        probe: Name of the probe.
        model: Name of the model, perhaps followed by ``+`` and that of an adapter.
        text: What it is measured on; None only if the probe can do without.
        options: The probe's options; None for its defaults.
        load: How the model is loaded.
        batch_size: Samples in a batch; None fits the device. Does not change the numbers.
        output: The directory of the runs.
        name: The name of the run's directory, if the user chose one.

    Raises:
        OptionError: if there is no such probe, or the options are another probe's.
    """

    probe: str
    model: str
    text: TextOptions | None
    options: Options | None = None
    load: LoadOptions = LoadOptions()
    batch_size: int | None = None
    output: Path = Path("reports")
    name: str | None = None

    def __post_init__(self) -> None:
        if self.probe not in PROBES:
            raise OptionError(f"There is no probe {self.probe!r}.", f"The probes are {', '.join(PROBES)}.")
        if self.options is None:
            object.__setattr__(self, "options", self.kind.options())
        elif not isinstance(self.options, self.kind.options):
            raise OptionError(f"{self.probe} does not take {type(self.options).__name__}.")
        name, adapter = split_adapter(self.model, self.load.adapter)
        if name != self.model:  # MODEL+ADAPTER is MODEL with that adapter, in the same directory of runs
            object.__setattr__(self, "model", name)
            object.__setattr__(self, "load", replace(self.load, adapter=adapter))
        if self.text is None and not (self.kind.text is None or self.kind.text.optional):
            raise OptionError(f"{self.probe} needs a text.", "Name one with --dataset.")

    @property
    def kind(self) -> Probe:
        """The probe as the catalogue declares it."""
        return PROBES[self.probe]

    @property
    def asked(self) -> Options:
        """The options of the probe, never None."""
        assert self.options is not None, "set when it was made"
        return self.options

    @property
    def usual_name(self) -> str:
        """The default name of the run's directory: the probe and, for a sweep, the tasks."""
        return usual_run_name(self.probe, self.asked.ending())

    def known_settings(self) -> dict[str, Any]:
        """Return what decides the numbers besides the model, as far as known before anything is read."""
        return {
            "text": None if self.text is None else self.text.settings(),
            **self.asked.settings(),
            "probe_version": self.kind.version,
        }

    def settings(self, source: ModelSource) -> dict[str, Any]:
        """Return what decides the numbers: two runs with equal settings are the same run."""
        from depthprobe.models.loading.code_elsewhere import code_elsewhere
        from depthprobe.models.loading.placement import choose_device, dtype_name, parse_dtype

        device = choose_device(self.load.device)
        coarser = coarser_arithmetic(device.type)
        dtype = parse_dtype(self.load.dtype, device)
        return {
            "model": source.identity,
            "commit": source.revision,
            "fingerprint": source.fingerprint,
            "dtype": "auto" if dtype is None else dtype_name(dtype),
            "device": device.type,
            # Only where they are used, so that earlier runs without them keep their settings.
            **({"adapter": source.adapter.identity} if source.adapter else {}),
            **({"tower": "encoder"} if self.load.tower == "encoder" else {}),
            **({"attention": self.load.attn_implementation} if self.load.attn_implementation else {}),
            **({"remote_code": code_elsewhere(source) or True} if self.load.trust_remote_code else {}),
            **({} if self.load.initial_seed is None else {"initial_seed": self.load.initial_seed}),
            **({"environment": coarser} if coarser else {}),
            **({"tokenizer": source.tokenizer} if source.tokenizer else {}),
            **self.known_settings(),
        }

    @property
    def unfinished(self) -> Path:
        """Where unfinished work of this request is kept, unless other work is in the way."""
        folder = self.output / run_directory_name(self.model)
        return folder / f".{self.name or self.usual_name}.unfinished"


def text_for(
    probe: Probe, options: Options, *, embedded: bool, count: int | None = None, **given: Any
) -> TextOptions | None:
    """Return the text that a probe is measured on; None if it needs none or is asked to do without.

    Args:
        probe: The probe.
        options: Its options, which may decide the seed.
        embedded: Whether the model is an embedded one.
        count: Number of samples; None for the probe's default, 0 for no text where that is possible.
        given: Fields of :class:`TextOptions` that were named.
    """
    if probe.text is None or (count == 0 and probe.text.optional):
        return None
    seed = options.text_seed()
    given |= {} if seed is None else {"seed": seed}
    return default_options(embedded, samples=probe.text.samples if count is None else count, **given)


def before_measuring(request: Request) -> str:
    """Return the sentence for an interrupt before anything was measured: what an earlier start has left."""
    folder = request.unfinished
    if any(log.stat().st_size for log in folder.glob("journal/pieces*.log")):
        return (
            f"Interrupted before anything new was measured; the work of an earlier start stays in {folder}."
        )
    return NOTHING
