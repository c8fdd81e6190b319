"""What ``report MODEL`` asks for, turned into measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from depthprobe.battery import Battery, measure_all
from depthprobe.commands import options as shared
from depthprobe.commands.measuring import load_asked, text_asked
from depthprobe.commands.prune_sweep import CALIBRATION_SAMPLES, EMBEDDED_TASK
from depthprobe.commands.show import Watch
from depthprobe.evaluation.harness import TaskOptions
from depthprobe.request import Request


def measure_missing(model: str, given: Mapping[str, Any], watch: Watch) -> list[Path]:
    """The directories of the model's runs, measured now as far as they are missing.

    Args:
        model: The model's name.
        given: The options of the command by name.
        watch: Who is told.
    """
    text, load = text_asked(model, given), load_asked(given)
    battery = Battery(
        model=Request(probe="", model=model, text=text, load=load, output=given["output"]),
        tasks=TaskOptions(
            tasks=shared.listed(given["task"] or [EMBEDDED_TASK]),
            num_fewshot=given["num_fewshot"],
            limit=given["limit"],
        ),
        calibration=replace(text, samples=CALIBRATION_SAMPLES),
    )
    return [run.directory for run in measure_all(battery, watch)]
