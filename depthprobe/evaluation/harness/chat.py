"""A chat template as lm-eval applies it, and what it made of the messages that it was given."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import configure_pad_token

from depthprobe.evaluation.harness.foreign import FOREIGN, reason
from depthprobe.evaluation.harness.options import TaskOptions

Messages = Sequence[dict[str, str]]

_PROBE = "What does this layer do?"


class TemplateFailure(Exception):
    """A chat template that raised; the cause says what."""


def chat_templates(tokenizer: Any) -> str | dict[str, str] | None:
    """Return the chat template of a tokenizer, or several by name."""
    return getattr(tokenizer, "chat_template", None)


def chat_arguments(options: TaskOptions, tokenizer: Any) -> dict[str, Any]:
    """Return what lm-eval is to hand to the template besides the messages."""
    given = options.model_args or {}
    found = dict(given.get("chat_template_args") or {})
    if isinstance(options.apply_chat_template, str) and isinstance(chat_templates(tokenizer), dict):
        # lm-eval itself checks the name of a template and then takes the default one anyway
        found["chat_template"] = options.apply_chat_template
    if given.get("enable_thinking") is not None:
        found["enable_thinking"] = given["enable_thinking"]
    return found


class ChatTemplate:
    """A model's chat template.

    Args:
        tokenizer: The model's tokenizer.
        config: The model's configuration, None if it has none.
        arguments: See :func:`chat_arguments`.

    ``task`` is the task whose messages are being rendered. For each task, ``asked`` counts the prompts with a
    system message and ``dropped`` those of them that came out as if it were not there; ``refusal`` is what
    the template raised at the first of these, empty if it left the message out in silence.
    """

    def __init__(self, tokenizer: Any, config: Any, arguments: dict[str, Any]) -> None:
        # under the names that lm-eval's own method reads; a template may use the pad token that it sets
        self.tokenizer = configure_pad_token(copy.deepcopy(tokenizer), model_config=config)
        self.chat_template_args = arguments
        self.task = ""
        self.asked: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.refusal = ""

    def __call__(self, chat_history: Messages, add_generation_prompt: bool = True) -> str:
        """Return the messages as text, as lm-eval renders them.

        Raises:
            TemplateFailure: if the template raises, also without the system message.
        """
        apply: Any = HFLM.apply_chat_template
        try:
            text: str = apply(self, list(chat_history), add_generation_prompt)
        except FOREIGN as error:
            raise TemplateFailure from error
        system = "".join(each["content"] for each in chat_history if each["role"] == "system").strip()
        if system:
            self.asked[self.task] += 1
            if system not in text and self._is_dropped(chat_history, add_generation_prompt, text):
                self.dropped[self.task] += 1
        return text

    def _is_dropped(self, messages: Messages, add_generation_prompt: bool, text: str) -> bool:
        """Whether a text is what it would be without its system message, which may only be escaped in it."""
        try:
            rest = [each for each in messages if each["role"] != "system"]
            if self._render(rest, add_generation_prompt) != text:
                return False
        except FOREIGN:
            return False
        if not self.dropped:
            try:
                self._render(messages, add_generation_prompt)
            except FOREIGN as error:
                self.refusal = reason(error)
        return True

    def _render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self.chat_template_args,
        )
        return text

    def oddity(self) -> str:
        """Return what is odd about the template whatever it is given, as the end of a sentence."""
        try:
            text = self._render([{"role": "user", "content": _PROBE}])
        except FOREIGN:
            return ""  # told where it fails on a prompt
        if _PROBE not in text:
            return "leaves out what the user says: every prompt lacks its question"
        if text.rstrip().endswith(_PROBE):
            return "does not begin the answer's turn: every prompt ends with the question itself"
        return ""
