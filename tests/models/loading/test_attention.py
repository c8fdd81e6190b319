"""The attention kernel: as asked, or as the checkpoint says if the machine has it; never code of the hub."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from depthprobe.errors import LoadError, OptionError
from depthprobe.models.loading.attention import check_kernel, check_precision, kernel_named
from depthprobe.models.loading.hub_errors import explain_load_error
from depthprobe.models.loading.loading import load_model
from depthprobe.models.loading.options import LoadOptions
from depthprobe.pipeline.request import Request
from depthprobe.texts.options import TextOptions

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
ASKS = "config.json of org/model asks for the attention kernel"
INSTEAD = "transformers' own choice is used instead."


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize(
    "said, kernel, note",
    [
        (None, None, ""),
        ("eager", "eager", ""),
        ({"": "eager", "vision_config": "sdpa"}, "eager", ""),
        ("nope", None, f"{ASKS} 'nope', which there is not: {INSTEAD}"),
        (5, None, f"{ASKS} '5', which there is not: {INSTEAD}"),
        (["eager"], None, f"{ASKS} \"['eager']\", which there is not: {INSTEAD}"),
        (
            "owner/kernel",
            None,
            f"{ASKS} 'owner/kernel', which is code on the hub: it is not fetched, and {INSTEAD}",
        ),
        *[
            (each, None, f"{ASKS} {each!r}, but it needs a CUDA GPU, and the model is on cpu: {INSTEAD}")
            for each in ("flash_attention_2", "flash_attention_3", "flex_attention")
        ],
    ],
)
def test_a_kernel_that_a_checkpoint_names_is_used_where_it_can_be(
    key: str, said: Any, kernel: str | None, note: str
) -> None:
    assert kernel_named("org/model", {key: said}, CPU) == (kernel, note)


def test_a_kernel_that_is_asked_for_and_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_kernel("eager", CPU) == "eager"
    with pytest.raises(LoadError, match="flash_attention_2 cannot be used: it needs a CUDA GPU"):
        check_kernel("flash_attention_2", CPU)
    entry = ("flash-attn", lambda: False)
    monkeypatch.setitem(check_kernel.__globals__["_PACKAGES"], "flash_attention_2", entry)
    with pytest.raises(LoadError, match="the Python package flash-attn is not installed. Use --attn-impl"):
        check_kernel("flash_attention_2", GPU)
    with pytest.raises(
        OptionError, match="flash_attention_2 computes in bfloat16 or float16, not in float32"
    ):
        check_precision("flash_attention_2", torch.float32)
    check_precision("flash_attention_2", torch.bfloat16)
    with pytest.raises(
        OptionError, match="--attn-implementation must be one of eager, .*, got 'owner/kernel'"
    ):
        LoadOptions(attn_implementation="owner/kernel")


def test_the_kernel_that_is_asked_for_computes_is_recorded_and_decides_the_run() -> None:
    eager = load_model("builtin:pre-ln", device="cpu", attn_implementation="eager")
    assert eager.describe()["attention"] == "eager"
    usual = load_model("builtin:pre-ln", device="cpu")
    assert usual.describe()["attention"] == "sdpa"
    ids = torch.arange(20)[None]
    assert torch.allclose(eager.model(ids).logits, usual.model(ids).logits, atol=1e-4)
    requests = [
        Request("angular", "builtin:pre-ln", TextOptions(), load=each.as_options()) for each in (usual, eager)
    ]
    settings = [each.settings(usual.source) for each in requests]
    assert settings[1] == settings[0] | {"attention": "eager"}


def test_nobody_is_advised_to_install_what_fetches_code() -> None:
    error = ImportError("`kernels` is either not installed or too old. Please pip install kernels==0.18.2")
    told = str(explain_load_error(error, "org/model", "model"))
    assert "pip install" not in told
    assert told.startswith("org/model asks for kernels that are code on the hub, which is not fetched.")
