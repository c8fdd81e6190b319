"""lm-eval's requests as token sequences: what a model has to score, in lm-eval's own tokenisation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from depthprobe.errors import LoadError, OptionError, TextError
from depthprobe.evaluation.harness.chat import chat_arguments, chat_templates
from depthprobe.evaluation.harness.foreign import shown
from depthprobe.evaluation.harness.isolation import quiet
from depthprobe.evaluation.harness.options import TaskOptions
from depthprobe.evaluation.harness.prompts import Prompts, limit_of
from depthprobe.evaluation.harness.tasks import Tasks
from depthprobe.evaluation.scores import ScoreRequest
from depthprobe.models.loading.checkpoint import choose_class
from depthprobe.models.loading.loading import Checkpoint, LoadedModel, context_limit

# Requests whose texts are encoded together: enough for every core, few enough to keep in memory.
ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class Requests:
    """All that a set of tasks asks of a model.

    Args:
        score: The distinct sequences to score.
        score_index: For every lm-eval request that is scored, which of ``score`` its answer is made of: one,
            or several windows of a document whose log-probabilities add up.
        generation: Requests for generated text, each as often as it is to be repeated.
        truncated: Number of requests that lose their beginning because the model has too few positions.
    """

    score: list[ScoreRequest]
    score_index: list[tuple[Instance, tuple[int, ...]]]
    generation: list[Instance]
    truncated: int


class TokenizingLM(HFLM):
    """lm-eval's Hugging Face model, which hands out the token pairs it would score instead of scoring them.

    So BOS and prefix tokens, the border between context and continuation, and the windows of long
    documents are lm-eval's own. Generation is left as it is.
    """

    def __init__(self, model: LoadedModel, options: TaskOptions, batch_size: int) -> None:
        args = dict(options.model_args or {})
        args["chat_template_args"] = chat_arguments(options, model.tokenizer)
        # a copy: lm-eval gives it a pad token where it has none
        tokenizer = copy.deepcopy(model.tokenizer)
        if args.get("add_bos_token") is not None:
            # lm-eval says so when it loads the tokenizer; this one is loaded already.
            tokenizer.add_bos_token = args["add_bos_token"]
            if hasattr(tokenizer, "update_post_processor"):
                tokenizer.update_post_processor()
        super().__init__(
            pretrained=model.model,
            tokenizer=tokenizer,
            max_length=options.max_length,
            batch_size=batch_size,
            **args,
        )
        self._pairs: list[tuple[list[int], list[int]]] = []
        self._encoded: dict[str, list[int]] = {}

    def encode_ahead(self, instances: Sequence[Instance]) -> None:
        """Encode the texts that these requests will ask for, on all cores at once.

        lm-eval encodes them one by one, the context anew for each of its continuations; with a few thousand
        long prompts that takes minutes. A text that is missed here is encoded when it is asked for.
        """
        pairs = [i.args[:2] for i in instances if i.request_type == "loglikelihood" and i.args[0]]
        texts = {text for context, rest in pairs for text in (context.rstrip(), context + rest)}
        first = self.tokenizer.decode(self.prefix_token_id)  # not added to a text that begins with it
        wanted = [text for text in texts if text and not text.startswith(first)]
        special = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        encoded = self.tokenizer(wanted, **special)["input_ids"] if wanted else []
        self._encoded = dict(zip(wanted, encoded, strict=True))

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **settings: Any,
    ) -> list[int]:
        """Return the tokens of a text as lm-eval encodes it."""
        if add_special_tokens is None and not left_truncate_len and string in self._encoded:
            return self._encoded[string]
        return super().tok_encode(string, add_special_tokens, left_truncate_len, **settings)

    def token_pairs(self, instance: Instance) -> list[tuple[list[int], list[int]]]:
        """Return ``(context, continuation)`` of one request; several where a long document is windowed."""
        self._pairs = []
        getattr(self, instance.request_type)([instance], disable_tqdm=True)
        return self._pairs

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        self._pairs += [(context, continuation) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)


def check_checkpoint(options: TaskOptions, checkpoint: Checkpoint) -> None:
    """Raise an error if lm-eval cannot score a model, before its weights are read.

    Raises:
        LoadError: if the model does not predict the next token, or its tokenizer has neither BOS nor EOS.
        OptionError: if a chat template is asked for that the tokenizer does not have.
    """
    name = checkpoint.source.name
    if checkpoint.config is not None and choose_class(checkpoint.config).__name__ in (
        "AutoModelForMaskedLM",
        "AutoModel",
    ):
        _refuse_not_causal(name)
    _check_tokenizer(options, name, checkpoint.tokenizer)


def open_lm(options: TaskOptions, model: LoadedModel, batch_size: int) -> TokenizingLM:
    """Return lm-eval's view of a loaded model.

    Raises:
        LoadError: as :func:`check_checkpoint`.
        OptionError: as :func:`check_checkpoint`, or if ``max_length`` exceeds the model's positions.
    """
    if not model.model.can_generate():
        _refuse_not_causal(model.source.name)
    _check_tokenizer(options, model.source.name, model.tokenizer)
    limit = context_limit(model.model)
    if options.max_length is not None and limit is not None and options.max_length > limit:
        raise OptionError(
            f"--max-length must be at most the model's {limit} positions, got {options.max_length}."
        )
    with quiet():
        return TokenizingLM(model, options, batch_size)


def build_requests(tasks: Tasks, lm: TokenizingLM, prompts: Prompts, vocabulary: int) -> Requests:
    """Return what the tasks ask, tokenised.

    Args:
        tasks: Their instances are built.
        lm: lm-eval's view of the model.
        prompts: What building them told.
        vocabulary: Rows of the model's embedding.

    Raises:
        OptionError: if a task's generation leaves no room for its prompt.
        TextError: if a document has nothing to score, more than the model can read, or a token that it does
            not have.
    """
    assert lm.chat_template_args == prompts.arguments or not tasks.options.apply_chat_template
    instances = [instance for task in tasks.tasks.values() for instance in task.instances]
    with quiet():
        return _tokenise(instances, tasks.options, lm, vocabulary)


def count_documents(tasks: Tasks) -> int:
    """Return how many documents the tasks ask about."""
    total = 0
    for name, task in tasks.tasks.items():
        chosen, limit, count = (
            tasks.options.documents_of(name),
            limit_of(task, tasks.options),
            len(task.eval_docs),
        )
        total += len(chosen) if chosen is not None else count if limit is None else min(limit, count)
    return total


def _tokenise(
    instances: Sequence[Instance], options: TaskOptions, lm: TokenizingLM, vocabulary: int
) -> Requests:
    """Return the requests as tokens, identical ones once."""
    requests = Requests([], [], [], 0)
    seen: dict[ScoreRequest, int] = {}
    shared: dict[int, int] = {}  # one object for each id: MMLU's prompts hold tens of millions of ids
    truncated = 0
    for number, instance in enumerate(instances):
        if number % ENCODED_AT_ONCE == 0:
            lm.encode_ahead(instances[number : number + ENCODED_AT_ONCE])
        if instance.request_type == "generate_until":
            requests.generation.extend([instance] * (instance.repeats or 1))
            context = lm.tok_encode(instance.args[0])
            _check_vocabulary(context, vocabulary, _where(instance, options), lm)
            truncated += len(context) > _room(instance, lm)
            continue
        indices = []
        for context, continuation in _pairs(instance, _where(instance, options), lm):
            tokens = context + continuation
            _check_vocabulary(tokens, vocabulary, _where(instance, options), lm)
            # the model reads all but the last token, so there may be one more token than positions
            kept = tokens[-(lm.max_length + 1) :]
            truncated += len(kept) < len(tokens)
            request = ScoreRequest(tuple(shared.setdefault(t, t) for t in kept), len(continuation))
            index = seen.setdefault(request, len(requests.score))
            if index == len(requests.score):
                requests.score.append(request)
            indices.append(index)
        requests.score_index.append((instance, tuple(indices)))
    lm.encode_ahead([])  # frees the last texts
    return Requests(requests.score, requests.score_index, requests.generation, truncated)


def _where(instance: Instance, options: TaskOptions) -> str:
    numbers = options.documents_of(str(instance.task_name))
    number = instance.doc_id if numbers is None else numbers[instance.doc_id]
    return f"Document {number} of {instance.task_name}"


def _check_vocabulary(tokens: Sequence[int], vocabulary: int, where: str, lm: TokenizingLM) -> None:
    """Raise a TextError if the model has no embedding for a token: on a GPU that would abort the process."""
    largest = max(tokens, default=0)
    if largest >= vocabulary:
        token = shown(lm.tok_decode(largest, skip_special_tokens=False))
        raise TextError(
            f"{where} holds the token {token} with the id {largest}, but the model's embedding has only "
            f"{vocabulary} rows.",
            "The tokenizer or its chat template does not belong to these weights.",
        )


def _pairs(instance: Instance, where: str, lm: TokenizingLM) -> list[tuple[list[int], list[int]]]:
    """Return the token pairs of a request, each of which can be scored."""
    try:
        pairs = lm.token_pairs(instance)
    except (AssertionError, IndexError) as error:  # a context of spaces alone, an empty continuation
        raise TextError(f"{where} has no token to score.", "Leave it out with --documents.") from error
    for context, continuation in pairs:
        if not context or not continuation:
            raise TextError(f"{where} has no token to score.", "Leave it out with --documents.")
        if len(continuation) > lm.max_length:
            raise TextError(
                f"{where} has {len(continuation)} tokens to score, but the model reads only {lm.max_length}.",
                "Leave it out with --documents.",
            )
    return pairs


def _room(instance: Instance, lm: TokenizingLM) -> int:
    """Return how many tokens the answer to a request for text leaves for its prompt.

    Raises:
        OptionError: if the answer leaves no room.
    """
    wanted = normalize_gen_kwargs(instance.args[1], lm.max_gen_toks)["max_gen_toks"]
    room = lm.max_length - wanted
    if room < 1:
        raise OptionError(
            f"The task {instance.task_name} generates {lm.max_length - room} tokens, "
            f"which leaves no room for its prompts in the model's {lm.max_length}.",
            f"Ask for fewer, for example --gen-kwargs max_gen_toks={lm.max_length // 2}.",
        )
    return room


def _check_tokenizer(options: TaskOptions, name: str, tokenizer: Any) -> None:
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise LoadError(
            f"The tokenizer of {name} has neither a BOS nor an EOS token, but lm-eval needs one of them.",
            "Set bos_token or eos_token in its tokenizer_config.json.",
        )
    if not options.apply_chat_template:
        return
    templates = chat_templates(tokenizer)
    wanted = options.apply_chat_template if isinstance(options.apply_chat_template, str) else "default"
    if not templates:
        raise OptionError(
            f"{name} has no chat template, which --apply-chat-template asks for.",
            "Leave the option out, or choose a model tuned for chat.",
        )
    if isinstance(templates, dict) and wanted not in templates:
        raise OptionError(
            f"{name} has no chat template named {wanted}.", f"Its templates: {', '.join(sorted(templates))}."
        )


def _refuse_not_causal(name: str) -> None:
    raise LoadError(
        f"{name} does not predict the next token (it may be a masked model): lm-eval cannot score it.",
        "Choose a causal language model.",
    )
