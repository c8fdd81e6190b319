"""``depthprobe prune-sweep``: the measured drop of every layer, through lm-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.choice import choose_model
from depthprobe.commands.measuring import show, shown_again
from depthprobe.commands.show import Watch, guarded, importing
from depthprobe.errors import OptionError

SWEEP = "Sweep"

EMBEDDED_TASK = "stdlib_mc"

# 4,096 tokens: enough to rank layers, and on real models, whose heads are large, less than the tasks cost.
# SLEB chooses by about 9,000.
CALIBRATION_SAMPLES = 16


@guarded
def command(
    model: shared.Model = None,
    model_option: shared.ModelOption = None,
    revision: shared.Revision = None,
    dtype: shared.Dtype = "auto",
    device: shared.Device = "auto",
    trust_remote_code: shared.TrustRemoteCode = False,
    adapter: shared.Adapter = None,
    device_map: shared.DeviceMap = None,
    tower: shared.TowerOption = None,
    task: Annotated[
        Optional[list[str]],
        typer.Option(
            "--task",
            "--tasks",
            help="Tasks, groups or tags of lm-eval, comma separated or repeated; stdlib_mc is embedded.",
            rich_help_panel=shared.TASKS,
            show_default=EMBEDDED_TASK,
        ),
    ] = None,
    num_fewshot: shared.NumFewshot = None,
    limit: shared.Limit = None,
    samples: Annotated[
        Optional[str],
        typer.Option(
            help='Documents by number, JSON or a file of it: {"TASK": [0, 3, 6]}.',
            rich_help_panel=shared.TASKS,
        ),
    ] = None,
    batch_size: Annotated[
        str,
        typer.Option(
            help="Prompts generated at once; scoring fits its own batches. auto is 8.",
            rich_help_panel=shared.TASKS,
        ),
    ] = "auto",
    max_length: Annotated[
        Optional[int],
        typer.Option(
            help="Tokens the model takes.", rich_help_panel=shared.TASKS, show_default="the model's positions"
        ),
    ] = None,
    apply_chat_template: Annotated[
        bool,
        typer.Option("--apply-chat-template", help="Use the chat template.", rich_help_panel=shared.TASKS),
    ] = False,
    chat_template: Annotated[
        Optional[str],
        typer.Option(
            help="Name of the chat template, where there are several.", rich_help_panel=shared.TASKS
        ),
    ] = None,
    system_instruction: Annotated[
        Optional[str], typer.Option(help="System instruction of the prompts.", rich_help_panel=shared.TASKS)
    ] = None,
    fewshot_as_multiturn: Annotated[
        Optional[bool],
        typer.Option(
            "--fewshot-as-multiturn/--no-fewshot-as-multiturn",
            help="Give the examples as turns of a conversation.",
            rich_help_panel=shared.TASKS,
            show_default="where a chat template is applied",
        ),
    ] = None,
    gen_kwargs: Annotated[
        Optional[str],
        typer.Option(
            help="Generation settings: temperature=0,top_p=1 or JSON.", rich_help_panel=shared.TASKS
        ),
    ] = None,
    include_path: Annotated[
        Optional[list[Path]],
        typer.Option(help="Directory with task YAML files of your own.", rich_help_panel=shared.TASKS),
    ] = None,
    log_samples: Annotated[
        bool,
        typer.Option(
            "--log-samples",
            help="Write lm-eval's sample rows of every variant.",
            rich_help_panel=shared.TASKS,
        ),
    ] = False,
    confirm_run_unsafe_code: Annotated[
        bool,
        typer.Option(
            "--confirm-run-unsafe-code", help="Run tasks that execute code.", rich_help_panel=shared.TASKS
        ),
    ] = False,
    seed: Annotated[
        str,
        typer.Option(
            help="Seeds of random, numpy, torch and the few-shot sampler.", rich_help_panel=shared.TASKS
        ),
    ] = "0,1234,1234,1234",
    layers: Annotated[
        Optional[str],
        typer.Option(help="Layers to remove, such as 0,5,20-31.", rich_help_panel=SWEEP, show_default="all"),
    ] = None,
    block: Annotated[
        int, typer.Option(help="Consecutive layers removed at once: l .. l+BLOCK-1.", rich_help_panel=SWEEP)
    ] = 1,
    dataset: shared.Dataset = None,
    dataset_config: shared.DatasetConfig = None,
    split: shared.Split = None,
    column: shared.Column = None,
    calibration_samples: Annotated[
        Optional[int],
        typer.Option(
            min=0,
            help="Samples of calibration text.",
            rich_help_panel=shared.TEXT,
            show_default=str(CALIBRATION_SAMPLES),
        ),
    ] = None,
    no_calibration: Annotated[
        bool,
        typer.Option(
            "--no-calibration",
            help="Measure the tasks alone, without the loss on calibration text.",
            rich_help_panel=shared.TEXT,
        ),
    ] = False,
    seq_len: shared.SeqLen = None,
    output: shared.Output = Path("reports"),
    name: shared.Name = None,
    format: shared.Format = "png,pdf",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Remove every layer in turn, run lm-eval's tasks, report the drop with paired significance.

    One model, one list of requests: what the variants share is computed once, so a sweep of all layers
    costs a few evaluations instead of one each. Numbers are lm-eval's own on a model whose layer is
    deleted. A sweep that was interrupted continues when the same command is started again. Beside the
    tasks, the loss on calibration text is measured for every variant.
    """
    formats = shared.formats_of(format)
    from depthprobe.evaluation.options import parse_layers

    removed = None if layers is None else parse_layers(layers)
    chosen, why = choose_model(model, model_option)
    watch = Watch(quiet, verbose)
    watch.say(f"Model: {chosen} ({why}).")

    from depthprobe.again import Again
    from depthprobe.batches import parse_batch_size
    from depthprobe.evaluation.options import TaskOptions, parse_documents, parse_seeds
    from depthprobe.models.options import LoadOptions
    from depthprobe.request import Request, SweepRequest, before_measuring
    from depthprobe.texts import default_options

    seeds = parse_seeds(seed)
    options = TaskOptions(
        tasks=shared.listed(task or [EMBEDDED_TASK]),
        num_fewshot=num_fewshot,
        limit=limit,
        samples=None if samples is None else parse_documents(samples),
        apply_chat_template=chat_template or apply_chat_template,
        system_instruction=system_instruction,
        fewshot_as_multiturn=fewshot_as_multiturn,
        gen_kwargs=gen_kwargs,
        include_path=tuple(include_path or ()),
        max_length=max_length,
        confirm_run_unsafe_code=confirm_run_unsafe_code,
        seeds=seeds,
    )
    load = LoadOptions(
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
        adapter=adapter,
        tower=tower,
    )
    asked_text = {
        "dataset": dataset,
        "config": dataset_config,
        "split": split,
        "column": column,
        "seq_len": seq_len,
    }
    text = None
    if no_calibration or calibration_samples == 0:
        _refuse_text(calibration_samples, asked_text)
    else:
        text = default_options(
            embedded=chosen.startswith("builtin:"),
            samples=CALIBRATION_SAMPLES if calibration_samples is None else calibration_samples,
            seed=seeds[0] or 0,
            **asked_text,
        )
    request = SweepRequest(
        model=Request(
            probe="prune-sweep",
            model=chosen,
            load=load,
            text=text,
            batch_size=parse_batch_size(batch_size),
            output=output,
            name=name,
        ),
        tasks=options,
        layers=removed,
        block=block,
        log_samples=log_samples,
    )
    again = Again.of(request, formats)
    if shown_again(again, watch):
        return
    with interruption.told(lambda: before_measuring(request)), importing():
        from depthprobe.sweep import run_sweep
    finished = run_sweep(request, watch)
    if finished is None:
        return

    from depthprobe.render.terminal.listing import lines_of

    show(finished, lines_of(finished), formats, again)


def _refuse_text(samples: int | None, text: dict[str, Any]) -> None:
    """Raise an OptionError where a text is described that is not wanted."""
    given = ("calibration_samples", samples), *text.items()
    for name, value in given:
        if value:
            option = "--dataset-config" if name == "config" else f"--{name.replace('_', '-')}"
            raise OptionError(
                f"{option} {value} describes the calibration text, which --no-calibration leaves out.",
                "Leave out one of them.",
            )
