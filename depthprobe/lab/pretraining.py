"""Train a small model of Python code from scratch, in pieces if need be, and say what it reached.

transformers' ``Trainer`` does the training: its checkpoints make a killed run continue with the same
loss curve. The data are the standard library's sources (:mod:`depthprobe.builtin.corpus`).
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from depthprobe.builtin import corpus
from depthprobe.lab.bigram import bigram_loss
from depthprobe.lab.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"


def train_tokenizer(texts: list[str], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of ``recipe.vocab_size`` entries that puts BOS first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=recipe.vocab_size,
            special_tokens=[BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=2 * recipe.context_tokens,
    )


def windows(texts: list[str], tokenizer: PreTrainedTokenizerFast, context_tokens: int) -> np.ndarray:
    """Return training windows, ``[window, context_tokens]`` int32: BOS, then consecutive text.

    Documents are joined with EOS between them; the incomplete last window is dropped.
    """
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    stream = np.concatenate([np.array([*ids, tokenizer.eos_token_id], dtype=np.int32) for ids in encoded])
    inside = context_tokens - 1
    stream = stream[: len(stream) // inside * inside].reshape(-1, inside)
    first = np.full((len(stream), 1), tokenizer.bos_token_id, dtype=np.int32)
    return np.concatenate([first, stream], axis=1)


@torch.inference_mode()
def mean_loss(model: torch.nn.Module, samples: np.ndarray, batch_samples: int = 16) -> float:
    """Return the mean next-token loss in nats over all predicted tokens of ``[sample, token]`` ids."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for start in range(0, len(samples), batch_samples):
        ids = torch.as_tensor(samples[start : start + batch_samples], dtype=torch.long, device=device)
        logits = model(input_ids=ids).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        total += losses.double().sum().item()
        count += losses.numel()
    return total / count


def last_checkpoint(directory: Path) -> str | None:
    """Return the newest whole checkpoint below ``directory``; Trainer writes its state file last."""
    whole = [path.parent for path in directory.glob("checkpoint-*/trainer_state.json")]
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return None if newest is None else str(newest)


def pretrain(
    recipe: Recipe,
    output: Path,
    device: str = "cpu",
    checkpoint_steps: int = 250,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train by the recipe, save the model to ``output``, return what it reached.

    A run that was killed continues from its last checkpoint when called again with the same recipe
    and output. The saved checkpoint is in bf16, with its tokenizer: a plain ``LlamaForCausalLM`` of ``pre``
    and ``lns``, else a model of the lab's own type. ``training.json`` beside it records recipe, data hash,
    versions and losses.

    Args:
        recipe: What to train.
        output: Directory of the finished model; checkpoints go to ``checkpoints/`` in it.
        device: ``cpu``, ``cuda`` or ``mps``.
        checkpoint_steps: Steps between two checkpoints.
        say: Called with each line of news.

    Returns:
        The record that ``training.json`` holds; losses in nats a token.
    """
    import transformers
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from depthprobe.lab.building import build_model, fold_lns

    train_texts = [document.text for document in corpus.documents("train")]
    heldout_texts = [document.text for document in corpus.documents("heldout")]
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(train_texts, recipe)
    train = windows(train_texts, tokenizer, recipe.context_tokens)
    heldout = windows(heldout_texts, tokenizer, recipe.context_tokens)
    say(f"train {train.size:,} tokens, held out {heldout.size:,} tokens, vocabulary {len(tokenizer):,}")
    baseline = bigram_loss(train.flatten(), heldout.flatten(), len(tokenizer))
    say(f"bigram baseline: {baseline:.3f} nats a token held out")

    transformers.set_seed(recipe.seed)
    model = build_model(recipe.model_config(), recipe.norm, recipe.initialisation)
    say(f"model: {sum(parameter.numel() for parameter in model.parameters()):,} parameters")
    probe = heldout[:: max(1, len(heldout) // 64)][:64]

    class Report(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                share = f"step {state.global_step}/{state.max_steps}"
                say(f"{share}  loss {float(logs['loss']):.3f}  lr {float(logs['learning_rate']):.2e}")

        def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            model.eval()
            say(f"step {state.global_step}  held-out loss {mean_loss(model, probe):.3f} (64 windows)")
            model.train()

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(output / "checkpoints"),
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_samples,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": recipe.final_learning_rate_share},
            warmup_steps=recipe.warmup_steps,
            weight_decay=recipe.weight_decay,
            adam_beta2=recipe.adam_beta2,
            max_grad_norm=recipe.clip_norm,
            seed=recipe.seed,
            data_seed=recipe.seed,
            use_cpu=device == "cpu",
            save_steps=checkpoint_steps,
            save_total_limit=2,
            logging_steps=50,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in torch.from_numpy(train).long()],
        callbacks=[Report()],
    )
    # Trainer's own log lines would go to stdout beside ours.
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(output / "checkpoints"))

    model = model.eval()
    if recipe.norm == "lns":
        model = fold_lns(model)
    model = model.to(torch.bfloat16)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    reached = mean_loss(model, heldout)
    record = {
        "recipe": asdict(recipe),
        "train_tokens": int(train.size),
        "heldout_tokens": int(heldout.size),
        "tokens_seen": recipe.steps * recipe.batch_samples * recipe.context_tokens,
        "data_sha256": hashlib.sha256(train.tobytes() + heldout.tobytes()).hexdigest(),
        "bigram_loss_nats": baseline,
        "heldout_loss_nats": reached,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (output / "training.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    say(
        f"held-out loss {reached:.3f} nats a token (perplexity {math.exp(reached):.1f}); "
        f"bigram baseline {baseline:.3f} (perplexity {math.exp(baseline):.1f})"
    )
    return record


def sample(directory: Path, prompt: str = "def parse(", tokens: int = 120, seed: int = 0) -> str:
    """Return ``prompt`` continued by the model in ``directory``, at temperature 0.8 with a fixed seed."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    transformers.set_seed(seed)
    encoded = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**encoded, max_new_tokens=tokens, do_sample=True, temperature=0.8, top_k=0)
    return tokenizer.decode(ids[0], skip_special_tokens=True)
