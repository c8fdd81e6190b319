"""Original checkpoints load as they compute: against a float64 forward pass written from Meta's layout."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import torch

from depthprobe.errors import LoadError
from depthprobe.models.loading import original_llama
from depthprobe.models.loading.loading import context_limit, load_model, open_checkpoint, resolve_model
from depthprobe.models.saving.converting import write_model

WIDTH, HEADS, LAYERS, FEED_FORWARD, EPS = 32, 4, 3, 48, 1e-5
HEAD_DIM = WIDTH // HEADS
TEXT = "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. "


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece

    folder = tmp_path_factory.mktemp("sentencepiece")
    words = [f"{TEXT}{i} {i * 37 % 101} {TEXT[i % 40 :]}" for i in range(300)]
    (folder / "text.txt").write_text("\n".join(words))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        add_dummy_prefix=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return folder / "tokenizer.model"


def make_weights(vocab: int, kv_heads: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int, around: float = 0.0) -> torch.Tensor:
        return around + torch.randn(shape, generator=generator) * 0.3

    weights = {
        "tok_embeddings.weight": draw(vocab, WIDTH),
        "norm.weight": draw(WIDTH, around=1.0),
        "output.weight": draw(vocab, WIDTH),
        "rope.freqs": draw(HEAD_DIM // 2),
    }
    for layer in range(LAYERS):
        weights |= {
            f"layers.{layer}.attention.wq.weight": draw(WIDTH, WIDTH),
            f"layers.{layer}.attention.wk.weight": draw(kv_heads * HEAD_DIM, WIDTH),
            f"layers.{layer}.attention.wv.weight": draw(kv_heads * HEAD_DIM, WIDTH),
            f"layers.{layer}.attention.wo.weight": draw(WIDTH, WIDTH),
            f"layers.{layer}.feed_forward.w1.weight": draw(FEED_FORWARD, WIDTH),
            f"layers.{layer}.feed_forward.w2.weight": draw(WIDTH, FEED_FORWARD),
            f"layers.{layer}.feed_forward.w3.weight": draw(FEED_FORWARD, WIDTH),
            f"layers.{layer}.attention_norm.weight": draw(WIDTH, around=1.0),
            f"layers.{layer}.ffn_norm.weight": draw(WIDTH, around=1.0),
        }
    return weights


def reference_logits(
    weights: dict[str, torch.Tensor], tokens: torch.Tensor, kv_heads: int, theta: float
) -> torch.Tensor:
    """Meta's forward pass in float64: neighbouring rows of a head are one complex number that turns."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    batch, length = tokens.shape

    def norm(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * scale

    frequency = theta ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    turn = torch.polar(torch.ones_like(angle), angle)[None, :, None, :]

    def rotate(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], HEAD_DIM // 2, 2).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)

    x = w["tok_embeddings.weight"][tokens]
    for layer in range(LAYERS):
        own = {name.split(f"layers.{layer}.")[1]: t for name, t in w.items() if f"layers.{layer}." in name}
        h = norm(x, own["attention_norm.weight"])
        q = rotate((h @ own["attention.wq.weight"].T).view(batch, length, HEADS, HEAD_DIM))
        k = rotate((h @ own["attention.wk.weight"].T).view(batch, length, kv_heads, HEAD_DIM))
        v = (h @ own["attention.wv.weight"].T).view(batch, length, kv_heads, HEAD_DIM)
        k, v = (t.repeat_interleave(HEADS // kv_heads, dim=2) for t in (k, v))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / HEAD_DIM**0.5
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        attended = torch.einsum("bhij,bjhd->bihd", scores.masked_fill(future, -torch.inf).softmax(-1), v)
        x = x + attended.reshape(batch, length, WIDTH) @ own["attention.wo.weight"].T
        h = norm(x, own["ffn_norm.weight"])
        gate = h @ own["feed_forward.w1.weight"].T
        gate = gate * torch.sigmoid(gate) * (h @ own["feed_forward.w3.weight"].T)
        x = x + gate @ own["feed_forward.w2.weight"].T
    return norm(x, w["norm.weight"]) @ w["output.weight"].T


def split(name: str, tensor: torch.Tensor, ranks: int, embedding_axis: int) -> list[torch.Tensor]:
    if tensor.dim() == 1:
        return [tensor] * ranks
    if name == "tok_embeddings.weight":
        axis = embedding_axis
    else:
        axis = 1 if ".wo." in name or ".w2." in name else 0
    return [part.clone() for part in tensor.chunk(ranks, dim=axis)]


def write_checkpoint(
    folder: Path,
    weights: dict[str, torch.Tensor],
    tokenizer: Path | None,
    *,
    ranks: int = 1,
    embedding_axis: int = 1,
    **params: object,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        shard = {n: split(n, t, ranks, embedding_axis)[rank] for n, t in weights.items()}
        torch.save(shard, folder / f"consolidated.{rank:02d}.pth")
    settings = {"dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "norm_eps": EPS, "multiple_of": 16}
    (folder / "params.json").write_text(json.dumps(settings | {"vocab_size": -1} | params))
    if tokenizer is not None:
        (folder / "tokenizer.model").write_bytes(tokenizer.read_bytes())
    return folder


TOKENS = torch.tensor([[1, 5, 17, 300, 42, 8, 9, 200], [1, 329, 2, 77, 77, 78, 3, 4]])


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_an_original_checkpoint_gives_the_logits_of_metas_forward_pass(
    tmp_path: Path, sentencepiece_model: Path, ranks: int, kv_heads: int | None
) -> None:
    weights = make_weights(330, kv_heads or HEADS)
    params = {} if kv_heads is None else {"n_kv_heads": kv_heads}
    folder = write_checkpoint(tmp_path / "7B", weights, sentencepiece_model, ranks=ranks, **params)
    loaded = load_model(str(folder), dtype="float32", device="cpu")
    expected = reference_logits(weights, TOKENS, kv_heads or HEADS, 10000.0)
    with torch.no_grad():
        logits = loaded.model(TOKENS).logits.double()
    assert (logits - expected).abs().max() < 1e-4  # float32 against float64
    assert loaded.source.layout == "meta"
    assert not loaded.model.training
    assert loaded.model.config.intermediate_size == FEED_FORWARD


def test_shards_split_along_the_vocabulary_and_a_rotary_base_are_read_from_the_files(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    weights = make_weights(330, 2)
    folder = write_checkpoint(
        tmp_path / "m",
        weights,
        sentencepiece_model,
        ranks=2,
        embedding_axis=0,
        n_kv_heads=2,
        rope_theta=500000.0,
    )
    loaded = load_model(str(folder), dtype="float64", device="cpu")
    with torch.no_grad():
        logits = loaded.model(TOKENS).logits
    # transformers computes the rotary angles and norms in float32 whatever the weights' dtype
    assert (logits - reference_logits(weights, TOKENS, 2, 500000.0)).abs().max() < 1e-4
    assert loaded.model.config.vocab_size == 330
    assert context_limit(loaded.model) == 8192


def test_the_permutation_is_what_makes_the_logits_right(tmp_path: Path, sentencepiece_model: Path) -> None:
    weights = make_weights(330, HEADS)
    folder = write_checkpoint(tmp_path / "7B", weights, sentencepiece_model)
    loaded = load_model(str(folder), device="cpu")
    with torch.no_grad():
        for layer, block in enumerate(loaded.model.model.layers):
            block.self_attn.q_proj.weight.copy_(weights[f"layers.{layer}.attention.wq.weight"])
            block.self_attn.k_proj.weight.copy_(weights[f"layers.{layer}.attention.wk.weight"])
        logits = loaded.model(TOKENS).logits.double()
    assert (logits - reference_logits(weights, TOKENS, HEADS, 10000.0)).abs().max() > 0.1


def test_weights_stored_in_bfloat16_are_loaded_in_the_dtype_asked_for(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    weights = {name: tensor.bfloat16() for name, tensor in make_weights(330, HEADS).items()}
    folder = write_checkpoint(tmp_path / "7B", weights, sentencepiece_model, ranks=2)
    assert load_model(str(folder), device="cpu").describe()["dtype"] == "float32"
    half = load_model(str(folder), device="cpu", dtype="bf16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}


def test_a_sentencepiece_tokenizer_puts_bos_first_and_splits_as_sentencepiece_does(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    import sentencepiece

    tokenizer = original_llama.load_tokenizer(write_checkpoint(tmp_path / "7B", {}, sentencepiece_model))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_model))
    for text in ("The quick brown fox", "jugs 37", "unseen: Zürich\n  two  spaces"):
        assert tokenizer(text)["input_ids"] == [reference.bos_id(), *reference.encode(text)]


def test_a_tokenizer_beside_the_directories_of_all_sizes_is_found(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    folder = write_checkpoint(tmp_path / "all" / "7B", make_weights(330, HEADS), None)
    (tmp_path / "all" / "tokenizer.model").write_bytes(sentencepiece_model.read_bytes())
    loaded = load_model(str(folder), device="cpu")
    assert loaded.tokenizer("fox")["input_ids"][0] == 1


def test_a_tiktoken_tokenizer_puts_bos_after_the_ranks_and_first_in_the_sequence(tmp_path: Path) -> None:
    pytest.importorskip("tiktoken")
    ranks = [bytes([i]) for i in range(256)] + [b"th", b"the", b" the"]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(ranks)]
    path = tmp_path / "tokenizer.model"
    path.write_text("\n".join(lines) + "\n")
    tokenizer = original_llama.load_tokenizer(tmp_path)
    assert tokenizer("the x the")["input_ids"] == [259, 257, 32, 120, 258]
    assert tokenizer.convert_tokens_to_ids("<|begin_of_text|>") == 259
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") == 259 + 9
    assert len(tokenizer) == 259 + 256


@pytest.mark.parametrize(
    ("params", "context"),
    [
        ({"norm_eps": 1e-6}, 2048),
        ({"norm_eps": 1e-5}, 4096),
        ({"rope_theta": 500000.0}, 8192),
        ({"rope_theta": 1e6}, 16384),
        ({"rope_theta": 500000.0, "use_scaled_rope": True}, 131072),
    ],
)
def test_the_context_length_follows_from_the_generation(
    tmp_path: Path, params: dict[str, object], context: int
) -> None:
    weights = make_weights(64, HEADS)
    config = original_llama.read_config(write_checkpoint(tmp_path, weights, None, **params), [weights])
    assert config.max_position_embeddings == context


def test_a_checkpoint_without_an_output_layer_ties_it_to_the_embedding(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    weights = make_weights(330, HEADS)
    del weights["output.weight"]
    loaded = load_model(str(write_checkpoint(tmp_path / "1B", weights, sentencepiece_model)), device="cpu")
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    with torch.no_grad():
        logits = loaded.model(TOKENS).logits.double()
    tied = weights | {"output.weight": weights["tok_embeddings.weight"]}
    assert (logits - reference_logits(tied, TOKENS, HEADS, 10000.0)).abs().max() < 1e-4


def test_the_original_subfolder_of_a_directory_is_looked_into(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    write_checkpoint(tmp_path / "original", make_weights(330, HEADS), sentencepiece_model)
    source = resolve_model(str(tmp_path))
    assert (source.layout, Path(source.location).name) == ("meta", "original")
    assert source.notes == (f"{tmp_path} is in Meta's original layout; converting it in memory.",)


def test_a_truncated_shard_is_named(tmp_path: Path, sentencepiece_model: Path) -> None:
    folder = write_checkpoint(tmp_path / "7B", make_weights(330, HEADS), sentencepiece_model, ranks=2)
    shard = folder / "consolidated.01.pth"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(LoadError) as caught:
        load_model(str(folder), device="cpu")
    assert str(caught.value) == "consolidated.01.pth in 7B is truncated or damaged. Download the file again."


def test_a_missing_shard_shows_as_shapes_that_contradict_the_settings(
    tmp_path: Path, sentencepiece_model: Path
) -> None:
    folder = write_checkpoint(tmp_path / "7B", make_weights(330, HEADS), sentencepiece_model, ranks=2)
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(LoadError, match="has shape .* where params.json asks for .*Check that params.json"):
        load_model(str(folder), device="cpu")


def test_a_missing_tokenizer_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "7B", make_weights(330, HEADS), None)
    with pytest.raises(LoadError) as caught:
        load_model(str(folder), device="cpu")
    assert str(caught.value) == (
        "7B has no tokenizer.model. Put the tokenizer.model that came with the weights beside them."
    )


def test_damaged_settings_are_named(tmp_path: Path, sentencepiece_model: Path) -> None:
    folder = write_checkpoint(tmp_path / "7B", make_weights(330, HEADS), sentencepiece_model)
    (folder / "params.json").write_text('{"dim": 32}')
    with pytest.raises(LoadError, match="params.json in 7B is damaged or lacks a field .'n_heads'."):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize("kind", ["sentencepiece", "tiktoken"])
def test_the_original_layout_is_written_once_as_the_same_model(
    tmp_path: Path, sentencepiece_model: Path, kind: str
) -> None:
    tokenizer = sentencepiece_model
    if kind == "tiktoken":
        pytest.importorskip("tiktoken")
        tokenizer = tmp_path / "ranks"
        ranks = [bytes([i]) for i in range(256)] + [b"th", b"the", b" the"]
        lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(ranks)]
        tokenizer.write_text("\n".join(lines) + "\n")
    half = {name: tensor.bfloat16() for name, tensor in make_weights(600, HEADS).items()}
    folder = write_checkpoint(tmp_path / "7B", half, tokenizer, ranks=2)
    (tmp_path / "out").mkdir()
    written = write_model(open_checkpoint(str(folder)), None, tmp_path / "out")
    assert written.dtype == torch.bfloat16  # which holds every number
    one, other = (load_model(str(place), device="cpu") for place in (folder, tmp_path / "out"))
    assert other.source.layout == "transformers"
    weights = other.model.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in one.model.state_dict().items())
    assert one.tokenizer("the fox")["input_ids"] == other.tokenizer("the fox")["input_ids"]
