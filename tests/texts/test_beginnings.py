"""Only the beginning of a long row is encoded, and gives the tokens of the whole."""

import json
import random

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from depthprobe.texts.options import TextOptions
from depthprobe.texts.samples import read_samples
from support import tiny

SIZE = 60_000


def trained(model, trainer, splitting=None, normaliser=None, after="<s> $A </s>"):
    core = Tokenizer(model)
    if normaliser is not None:
        core.normalizer = normaliser
    if splitting is not None:
        core.pre_tokenizer = splitting
    core.train_from_iterator(tiny.sentences(200), trainer)
    special = [(name, core.token_to_id(name)) for name in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single=after, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<u>")


SPECIAL = {"special_tokens": ["<s>", "</s>", "<u>"], "show_progress": False, "vocab_size": 300}


def tokenizers():
    yield "bytes", tiny.tokenizer()
    space = normalizers.Replace(" ", "\u2581")
    bare = trainers.BpeTrainer(**SPECIAL)
    yield "unsplit", trained(models.BPE(unk_token="<u>"), bare, normaliser=space)
    unigram = trainers.UnigramTrainer(**SPECIAL, unk_token="<u>")
    yield "unigram", trained(models.Unigram(), unigram, pre_tokenizers.Metaspace())
    pieces = trainers.WordPieceTrainer(**SPECIAL)
    yield "pieces", trained(models.WordPiece(unk_token="<u>"), pieces, pre_tokenizers.BertPreTokenizer())


def long_texts():
    random.seed(0)
    yield " ".join(random.choices(tiny.WORDS, k=SIZE // 5))
    yield "".join(random.choices("adelmors", k=SIZE))
    yield "e" * SIZE
    yield " " * SIZE + "the stream of a model"
    yield "the\n" * (SIZE // 4)
    yield "모델의 층 𝄞é " * (SIZE // 10)


@pytest.mark.parametrize("tokenizer", [pytest.param(each, id=name) for name, each in tokenizers()])
def test_the_tokens_of_a_long_row_are_those_of_the_whole(tmp_path, tokenizer):
    texts = list(long_texts())
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    whole = tokenizer(texts, truncation=True, max_length=32)["input_ids"]
    found = read_samples(TextOptions(str(path), seq_len=32), tokenizer).tokens
    wanted = [ids for ids in whole if len(ids) > 1]
    assert sorted(map(tuple, found)) == sorted(map(tuple, wanted))


def test_no_more_than_a_beginning_is_encoded(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": next(long_texts())}))
    most = 0

    class Counting(PreTrainedTokenizerFast):
        def __call__(self, text, **options):
            nonlocal most
            most = max(most, *(len(each) for each in ([text] if isinstance(text, str) else text)))
            return super().__call__(text, **options)

    plain = tiny.tokenizer()
    counting = Counting(tokenizer_object=plain.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    read_samples(TextOptions(str(path), seq_len=32), counting)
    assert 0 < most < SIZE / 10
