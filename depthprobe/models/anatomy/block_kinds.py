"""What the blocks of a model mix tokens with, and what their feed-forward part is: judged by names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Kinds:
    """How a block mixes tokens, and its feed-forward part, such as ``8 experts, 2 active``, or ``none``."""

    mixer: str
    feedforward: str


# In this order: the first that matches a module's class or name is its kind.
WORDS = [
    ("experts", re.compile(r"moe(?!a)|expert|mixtureof|sparsemlp", re.I)),
    ("cross attention", re.compile(r"cross_?attn|cross_?attention|encoder_attn|EncDecAttention", re.I)),
    ("linear attention", re.compile(r"delta|linear_?att|lightning|retention|kda", re.I)),
    ("state space", re.compile(r"mamba|ssm|ssd", re.I)),
    ("recurrent", re.compile(r"lstm|rglru|rg_lru|recurrent|rwkv|time_?mix", re.I)),
    ("convolution", re.compile(r"conv(?!1d$)", re.I)),
    ("attention", re.compile(r"attn|attention|MoA$", re.I)),
    ("feed-forward", re.compile(
        r"mlp|ffn|^ff\b|^ff_|feed_?forward|channel_?mix|intermediate|^fc\d|^w[123]$|dense|^output$", re.I
    )),
]  # fmt: skip
CONTAINER = re.compile(r"(Layer|Block)$")
EXPERTS = "num_local_experts num_experts n_routed_experts moe_num_experts".split()
ACTIVE = "num_experts_per_tok num_experts_per_token moe_topk moe_k top_k_experts moe_top_k".split()
SHARED = "n_shared_experts num_shared_experts moe_num_shared_experts".split()


def prefix_of(model: nn.Module) -> str:
    """Return the common prefix of a model's class names: ``Qwen3Moe`` says nothing of Qwen3MoeAttention."""
    return re.split(r"For[A-Z]|LMHead|Model|PreTrained", type(model).__name__)[0]


def kinds_of(block: nn.Module, config: Any, layer: int, layers: int, prefix: str) -> Kinds:
    """Return what a block is made of.

    Args:
        block: The block.
        config: The model's configuration; ``layer_types`` distinguishes sliding attention from full.
        layer: The block's layer.
        layers: Number of layers.
        prefix: The common prefix of the model's class names, see :func:`prefix_of`.
    """
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    found: dict[str, nn.Module] = {}
    _look(block, prefix, found, 0)
    mixers = []
    for kind, module in found.items():
        if kind == "attention":
            kind = _reach(block, module, text, layer, layers)
        if kind not in ("feed-forward", "experts"):
            mixers.append(kind)
    if "experts" in found:
        feedforward = _experts(found["experts"], text)
    else:
        feedforward = "feed-forward" if "feed-forward" in found else "none"
    return Kinds(" + ".join(sorted(mixers, key=lambda kind: "cross" in kind)) or "none", feedforward)


def _look(module: nn.Module, prefix: str, found: dict[str, nn.Module], depth: int) -> None:
    for name, child in module.named_children():
        cls = type(child).__name__.removeprefix(prefix)
        has_insides = next(child.children(), None) is not None
        if not has_insides and re.search("norm|dropout", cls, re.I):
            continue
        kind = kind_of(name, cls, child)
        if has_insides and depth < 2 and (kind is None or CONTAINER.search(cls)):
            before = len(found)
            _look(child, prefix, found, depth + 1)
            if len(found) > before or kind is None:
                continue
        if kind is not None:
            found.setdefault(kind, child)
            if kind == "feed-forward" and any(_is_experts(n, m) for n, m in child.named_modules()):
                found.setdefault("experts", child)


def kind_of(name: str, cls: str, module: nn.Module) -> str | None:
    """Return which of :data:`WORDS` a module is, by its class, its name and its own parameters."""
    own = {path.rpartition(".")[2] for path, _ in module.named_parameters()}
    says = next((kind for kind, words in WORDS if words.search(cls)), None)
    if says is None or cls in ("Linear", "Conv1D", "Conv1d"):
        says = next((kind for kind, words in WORDS if words.search(name)), None)
    if says in ("experts", "feed-forward", "linear attention", "cross attention") or CONTAINER.search(cls):
        return says
    if own & {"time_decay", "time_maa_k"}:
        return "recurrent"
    if "A_log" in own:
        return "linear attention" if "delta" in name.lower() or "linear" in name.lower() else "state space"
    return says


def _is_experts(name: str, module: nn.Module) -> bool:
    return name.rpartition(".")[2] == "experts" or type(module).__name__.endswith("Experts")


def _reach(block: nn.Module, attention: nn.Module, text: Any, layer: int, layers: int) -> str:
    """Return ``full attention``, ``sliding attention`` or whatever the configuration calls it."""
    types = getattr(text, "layer_types", None)
    own = [getattr(m, "attention_type", None) for m in (block, *attention.modules())]
    said = next((value for value in own if isinstance(value, str)), None)
    if isinstance(types, (list, tuple)) and len(types) == layers:
        said = str(types[layer])
    if said is not None:
        if said in ("local", "sliding") or "sliding" in said:
            return "sliding attention"
        return said.replace("_", " ") if said.endswith("_attention") else "full attention"
    flags = [getattr(m, "is_sliding", None) for m in (block, *attention.modules())]
    flag = next((value for value in flags if isinstance(value, bool)), None)
    if flag is None:
        window = getattr(text, "sliding_window", None)
        flag = (
            isinstance(window, int) and window > 0 and getattr(text, "use_sliding_window", True) is not False
        )
    return "sliding attention" if flag else "full attention"


def _experts(module: nn.Module, text: Any) -> str:
    """Return ``8 experts, 2 active``, counted in the module, else as the configuration says."""
    count = None
    for name, inner in module.named_modules():
        if _is_experts(name, inner):
            if isinstance(inner, nn.ModuleList):
                count = len(inner)
            else:
                count = next((p.shape[0] for p in inner.parameters() if p.dim() == 3), None)
        if count is not None:
            break
    holders = [text, getattr(text, "ffn_config", None)]
    count = count or _number(holders, EXPERTS)
    tops = (getattr(inner, "top_k", None) for inner in module.modules())
    active = next((top for top in tops if isinstance(top, int)), None) or _number(holders, ACTIVE)
    shared = _number(holders, SHARED) if any("shared" in name for name, _ in module.named_modules()) else None
    words = f"{count or 'several'} experts" + (f", {active} active" if active else "")
    return words + (f" + {shared} shared" if shared else "")


def _number(holders: list[Any], names: list[str]) -> int | None:
    values = (getattr(holder, name, None) for holder in holders if holder is not None for name in names)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)
