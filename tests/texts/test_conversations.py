"""Conversations are measured as the model's chat template writes them, or not at all."""

import copy
import json

import pytest

from depthprobe.errors import TextError
from depthprobe.texts.options import TextOptions
from depthprobe.texts.samples import read_samples
from support import tiny

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}\n{% endfor %}"
)


@pytest.fixture
def talker():
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def talks(path, who, what, roles, before=()):
    rows = [
        {"id": f"{n:08x}", "messages": [*before, *({who: role, what: text} for role in roles)]}
        for n, text in enumerate(tiny.sentences(6))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("who", "what", "roles"),
    [("role", "content", ("user", "assistant")), ("from", "value", ("human", "gpt"))],
)
def test_both_ways_to_write_them_give_the_tokens_of_the_template(tmp_path, talker, who, what, roles):
    path = talks(tmp_path / "a.jsonl", who, what, roles)
    samples = read_samples(TextOptions(path, column="messages", seq_len=20), talker)
    texts = [f"<s><user>{text}\n<assistant>{text}\n" for text in tiny.sentences(6)]
    wanted = sorted(ids[:20] for ids in talker(texts, add_special_tokens=False)["input_ids"])
    assert sorted(sample.tolist() for sample in samples.tokens) == wanted
    assert all(list(sample[:2]).count(0) == 1 for sample in samples.tokens)  # BOS once
    assert samples.facts["column"] == "messages" and len(samples.facts["chat_template_sha256"]) == 64


def test_what_the_template_refuses_is_skipped_counted_and_said(tmp_path, talker):
    good = talks(tmp_path / "a.jsonl", "role", "content", ("user", "assistant"))
    system = {"role": "system", "content": "be brief"}
    bad = talks(tmp_path / "b.jsonl", "role", "content", ("user",), before=[system])
    both = tmp_path / "c.jsonl"
    both.write_text((tmp_path / "a.jsonl").read_text() + (tmp_path / "b.jsonl").read_text())
    samples = read_samples(TextOptions(str(both), column="messages"), talker)
    assert samples.facts["samples"] == samples.facts["samples_skipped"] == 6
    assert samples.notes == (
        "6 conversations were skipped, because the chat template refuses what it holds (System role not "
        "supported).",
    )
    assert read_samples(TextOptions(good, column="messages"), talker).notes == ()
    with pytest.raises(TextError, match="no usable text: no row of 6.*System role not supported"):
        read_samples(TextOptions(bad, column="messages"), talker)


def test_a_tokenizer_without_a_template_is_told_in_one_sentence(tmp_path):
    path = talks(tmp_path / "a.jsonl", "role", "content", ("user", "assistant"))
    with pytest.raises(TextError, match="holds conversations, but the tokenizer has no chat template"):
        read_samples(TextOptions(path, column="messages"), tiny.tokenizer())
