"""Quantised checkpoints: what their configuration says, and whether this machine can load them.

transformers loads them, each method with packages of its own. Its own checks are run here, before any
weight is fetched, and what they refuse is reported in one sentence.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer

from depthprobe.errors import LoadError, first_line

# quant_method -> the packages to install with pip, as transformers' quantizers name them
PACKAGES = {
    "aqlm": "aqlm[gpu,cpu]",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "fbgemm_fp8": "fbgemm-gpu",
    "fouroversix": "fouroversix",
    "fp_quant": "fp_quant",
    "gptq": "optimum gptqmodel",
    "higgs": "flute-kernel fast_hadamard_transform",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "sinq": "sinq",
    "spqr": "spqr_quant[gpu]",
    "torchao": "torchao",
    "vptq": "vptq",
}

# Methods whose kernels transformers fetches as code from the hub, which is not run here.
CODE_ON_THE_HUB = {"eetq", "metal", "nvfp4"}

# Methods whose weights transformers can unpack into floats where no kernel computes with them packed.
UNPACKABLE = {"fp8", "mxfp8", "mxfp4", "metal"}

BITS = {"fp8": 8, "mxfp8": 8, "fbgemm_fp8": 8, "eetq": 8, "mxfp4": 4, "nvfp4": 4}


@dataclass(frozen=True)
class Quantisation:
    """How a checkpoint's weights are packed.

    ``bits`` is a weight's size where the configuration states it; ``unpacked`` whether loading turns the
    weights into floats, so that the measured model computes with ordinary matrices.
    """

    method: str
    bits: int | None = None
    unpacked: bool = False

    def __str__(self) -> str:
        bits = "" if self.bits is None else f" {self.bits} bit"
        return f"{self.method}{bits}{', unpacked' if self.unpacked else ''}"


def settings_of(config: PretrainedConfig) -> dict[str, Any] | None:
    """Return the quantisation settings of a configuration, None where there are none."""
    found = getattr(config, "quantization_config", None)
    found = found or getattr(config.get_text_config(decoder=True), "quantization_config", None)
    if found is None or isinstance(found, dict):
        return found or None
    return found.to_dict()


def check_quantisation(name: str, config: PretrainedConfig, device: torch.device) -> Quantisation | None:
    """Return how a checkpoint is quantised, None if it is not; check that it can be loaded here.

    Where a device has no kernels for a method whose weights can be unpacked, the configuration is changed
    to unpack them.

    Raises:
        LoadError: If transformers does not know the method, or a package or a GPU is missing.
    """
    settings = settings_of(config)
    if settings is None:
        return None
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method") or ""))
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        method = "bitsandbytes"
    if method not in AUTO_QUANTIZER_MAPPING and method != "bitsandbytes":
        what = (
            f"with {method!r}, a method" if method else "with a method that its config.json does not name and"
        )
        raise LoadError(
            f"{name} is quantised {what} that transformers {transformers.__version__} does not know.",
            "Choose the model it was made from, or another quantisation of it.",
        )
    if method in UNPACKABLE and device.type != "cuda":
        settings = settings | {"dequantize": True}
        for holder in (config, config.get_text_config(decoder=True)):
            if getattr(holder, "quantization_config", None) is not None:
                holder.quantization_config = settings
    if method in CODE_ON_THE_HUB and not settings.get("dequantize"):
        raise LoadError(
            f"{name} is quantised with {method}, whose kernels are code on the hub, which is not fetched.",
            "Choose the model it was made from, or another quantisation of it.",
        )
    quantizer = _ask(name, method, settings, device)
    unpacked = bool(getattr(quantizer.quantization_config, "dequantize", False))
    return Quantisation(method, _bits(method, settings), unpacked)


def _ask(name: str, method: str, settings: dict[str, Any], device: torch.device) -> Any:
    """Return transformers' quantizer for some settings, its requirements met."""
    packages = PACKAGES.get(method)
    verbosity = transformers.logging.get_verbosity()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transformers.logging.set_verbosity(max(verbosity, transformers.logging.ERROR))
            quantizer = AutoHfQuantizer.from_config(copy.deepcopy(settings), pre_quantized=True)
            quantizer.validate_environment(device_map={"": device}, weights_only=True)
            return quantizer
    except ImportError as error:
        if "GPU" in str(error) and not torch.cuda.is_available():
            raise _needs_gpu(name, method, packages) from error
        if packages is None:
            problem = f"{name} is quantised with {method} and needs a package that is missing: "
            raise LoadError(f"{problem}{first_line(error)}.", "Install it and run again.") from error
        raise LoadError(
            f"{name} is quantised with {method}, but a Python package that it needs is missing.",
            f"Install it: pip install {packages}.",
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        if torch.cuda.is_available():
            raise LoadError(
                f"{name} is quantised with {method}, which this machine cannot run: {first_line(error)}.",
                "Choose the model it was made from, or another quantisation of it.",
            ) from error
        raise _needs_gpu(name, method, packages) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LoadError(
            f"{name} is quantised with {method}, which does not load: {first_line(error)}.",
            "Choose the model it was made from, or another quantisation of it.",
        ) from error
    finally:
        transformers.logging.set_verbosity(verbosity)


def _needs_gpu(name: str, method: str, packages: str | None) -> LoadError:
    also = f" with pip install {packages}" if packages else ""
    return LoadError(
        f"{name} is quantised with {method}, which needs a GPU, but there is none here.",
        f"Run it on a machine with a GPU{also}, or choose the model it was made from.",
    )


def _bits(method: str, settings: dict[str, Any]) -> int | None:
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return 4 if settings.get("load_in_4bit") else 8
    found = settings.get("bits") or settings.get("w_bit") or settings.get("nbits") or BITS.get(method)
    groups = settings.get("config_groups") or {}
    for group in groups.values() if isinstance(groups, dict) else ():
        found = found or ((group or {}).get("weights") or {}).get("num_bits")
    return found if isinstance(found, int) else None
