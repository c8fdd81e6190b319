"""``depthprobe convert``: any model that loads, written once as a directory that loads fast."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.show import Watch, guarded, importing, result_console
from depthprobe.errors import MachineError, OptionError
from depthprobe.results.aside import clear_leftovers, folder_aside
from depthprobe.results.files import flush_directory

EXAMPLE = "depthprobe convert model.gguf converted"


@guarded
def command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Hugging Face id, local directory, GGUF file or builtin:NAME.",
            show_default=False,
        ),
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="New or empty directory.", show_default=False)
    ],
    revision: shared.Revision = None,
    dtype: Annotated[
        str,
        typer.Option(
            help="auto (exact: the checkpoint's own if it holds every number, else float32), float32, "
            "bfloat16 or float16, which may round.",
            rich_help_panel=shared.MODEL,
        ),
    ] = "auto",
    trust_remote_code: shared.TrustRemoteCode = False,
    adapter: shared.Adapter = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Write a model once as an ordinary transformers directory, which every command then loads fast.

    For GGUF files, which are otherwise unpacked every time, Meta's original layout, and adapters to be
    merged. The weights are those that would be measured, bit for bit; what was written is read back and
    compared.
    """
    watch = Watch(quiet, verbose)
    with interruption.told("Interrupted: nothing was written."), _written_aside(directory) as folder:
        with importing():
            from depthprobe.models.loading.gguf import conversion_note
            from depthprobe.models.loading.loading import LoadOptions, open_checkpoint, resolve_model
            from depthprobe.models.loading.placement import choose_device, dtype_name, parse_dtype
            from depthprobe.models.saving.converting import write_model
            from depthprobe.models.sizing.footprint import gib

        wanted = parse_dtype(dtype, choose_device("cpu"))
        source = resolve_model(model, revision, adapter)
        for note in source.notes:
            if note != conversion_note(source.name):
                watch.say(note)
        load = LoadOptions(trust_remote_code=trust_remote_code)
        checkpoint = open_checkpoint(source, load, stage=watch.stage)
        written = write_model(checkpoint, wanted, folder, watch.stage)
    for note in written.notes:
        watch.say(note)
    console = result_console()
    what = f"{written.parameters:,} parameters in {dtype_name(written.dtype)}, {gib(written.size)}"
    console.print(f"{what}: read back, and all are equal.", soft_wrap=True)
    for path in sorted(directory.rglob("*")):
        console.print(str(path), soft_wrap=True, markup=False)


@contextmanager
def _written_aside(directory: Path) -> Iterator[Path]:
    """Yield an empty directory to write into; all that it then holds goes to ``directory``, or nothing does.

    Raises:
        OptionError: If ``directory`` is a file, or not empty.
        MachineError: If it cannot be written.
    """
    target = directory.absolute()
    missing = [path for path in target.parents if not path.exists()]
    with contextlib.ExitStack() as opened:
        # Parents of a directory that was not made in the end.
        opened.callback(_remove_empty, missing)
        with _told(directory):
            if directory.is_dir():
                clear_leftovers(target, "model")
            # An empty directory may be the current one or a mount point: it stays, and takes the files.
            there = _is_empty(directory)
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
            temporary = opened.enter_context(folder_aside(target / "model" if there else target))
        yield temporary
        with _told(directory):
            _settle(temporary, directory, there)


def _remove_empty(directories: Sequence[Path]) -> None:
    for path in directories:
        with contextlib.suppress(OSError):
            path.rmdir()


def _is_empty(directory: Path) -> bool:
    """Return whether this is an empty directory; False if nothing is there."""
    if directory.is_dir():
        if any(directory.iterdir()):
            raise OptionError(f"{directory} is not empty.", "Name a new directory.")
        return True
    if directory.exists() or directory.is_symlink():
        raise OptionError(f"{directory} is a file.", "Name a new directory.")
    return False


def _settle(temporary: Path, directory: Path, there: bool) -> None:
    flush_directory(temporary)
    if not there:
        temporary.rename(directory)
        return
    # config.json last: a directory without it is not taken for a model.
    moved: list[Path] = []
    try:
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
            moved.append(path.rename(directory / path.name))
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "Free some space, or choose a DIR on another disk." if full else "Choose another DIR."
        raise MachineError(f"Cannot write {directory}: {reason}.", hint) from error
