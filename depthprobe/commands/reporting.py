"""What ``report MODEL`` asks for, turned into measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from depthprobe.battery import Battery, measure_all
from depthprobe.commands.prune_sweep import CALIBRATION_SAMPLES, EMBEDDED_TASK
from depthprobe.commands.show import Watch
from depthprobe.evaluation.harness import TaskOptions
from depthprobe.models.options import LoadOptions
from depthprobe.pipeline import Request
from depthprobe.texts import default_options


def measure_missing(model: str, given: Mapping[str, Any], watch: Watch) -> list[Path]:
    """The directories of the model's runs, measured now as far as they are missing.

    Args:
        model: The model's name.
        given: The options of the command by name.
        watch: Who is told.
    """
    names = [part.strip() for text in given["task"] or [EMBEDDED_TASK] for part in text.split(",")]
    text = default_options(
        embedded=model.startswith("builtin:"),
        dataset=given["dataset"],
        config=given["dataset_config"],
        split=given["split"],
        column=given["column"],
        samples=given["samples"],
        seq_len=given["seq_len"],
        seed=given["seed"],
    )
    load = LoadOptions(
        revision=given["revision"],
        dtype=given["dtype"],
        device=given["device"],
        device_map=given["device_map"],
        trust_remote_code=given["trust_remote_code"],
        adapter=given["adapter"],
    )
    battery = Battery(
        model=Request(probe="", model=model, text=text, load=load, output=given["output"]),
        tasks=TaskOptions(
            tasks=tuple(dict.fromkeys(filter(None, names))),
            num_fewshot=given["num_fewshot"],
            limit=given["limit"],
        ),
        calibration=replace(text, samples=CALIBRATION_SAMPLES),
    )
    return [run.directory for run in measure_all(battery, watch)]
