"""Conversations in a data set -> text, as a model's chat template writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from depthprobe.errors import TextError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Who speaks and what: as in OpenAI's API, and as in ShareGPT.
KEYS = (("role", "content"), ("from", "value"))

# ShareGPT's names of those who speak; chat templates know the others.
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "function_response": "tool",
    "observation": "tool",
}


def is_conversation(value: Any) -> bool:
    """Return whether a value is a list of messages, each with who speaks and what is said."""
    return _messages(value) is not None


def _messages(value: Any) -> list[dict[str, Any]] | None:
    """Return the messages with the keys ``role`` and ``content``; None if the value holds none."""
    if isinstance(value, Mapping):  # some versions of datasets give a list of structures so
        columns = {key: part for key, part in value.items() if isinstance(part, Sequence)}
        if not any(isinstance(columns.get(who), list) and what in columns for who, what in KEYS):
            return None
        value = [dict(zip(columns, parts, strict=False)) for parts in zip(*columns.values(), strict=False)]
    if not isinstance(value, list) or not value:
        return None
    for who, what in KEYS:
        if all(
            isinstance(each, Mapping) and isinstance(each.get(who), str) and what in each for each in value
        ):
            return [_message(each, who, what) for each in value]
    return None


def _message(given: Mapping[str, Any], who: str, what: str) -> dict[str, Any]:
    # Tables fill in None for what a message does not have.
    others = {key: part for key, part in given.items() if key not in (who, what) and part is not None}
    role = given[who]
    return others | {"role": _ROLES.get(role, role) if who == "from" else role, "content": given[what]}


class ChatTemplate:
    """Writes conversations as a tokenizer's chat template does; counts those that it refuses.

    The template writes special tokens itself, so that none are to be added to its text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, dataset: str, column: str) -> None:
        """Take a tokenizer.

        Raises:
            TextError: if it has no chat template.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise TextError(
                f"The column {column!r} of {dataset} holds conversations, but the tokenizer has no chat "
                "template to write them with.",
                "Name a column of text with --column, or a model with a chat template.",
            )
        self.tokenizer, self.dataset, self.column = tokenizer, dataset, column
        self.refused = 0
        self.reason = ""

    def texts(self, values: Iterable[Any]) -> Iterator[str | None]:
        """Yield the text of each conversation, None where there is none or the template refuses it."""
        for value in values:
            messages = _messages(value)
            yield None if messages is None else self._written(messages)

    def _written(self, messages: list[dict[str, Any]]) -> str | None:
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # a template is a program of the model's: it may raise anything
            self.refused += 1
            self.reason = self.reason or first_line(error, kind=False)
            return None

    @property
    def sha256(self) -> str:
        """The hash of the template; of several named ones, of all."""
        return hashlib.sha256(json.dumps(self.tokenizer.chat_template, sort_keys=True).encode()).hexdigest()

    def notes(self) -> tuple[str, ...]:
        """Return what is to be said about the conversations that were read."""
        if not self.refused:
            return ()
        count = "1 conversation was" if self.refused == 1 else f"{self.refused} conversations were"
        return (f"{count} skipped, because the chat template refuses what it holds ({self.reason}).",)
