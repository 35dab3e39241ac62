"""Writes tokens.json: ids of hard text by transformers' CLIPTokenizer and by open_clip's SimpleTokenizer, for the small
vocabularies of this repository. Needs transformers and open_clip.

    python make_tokens.py
"""

import gzip
import json
import random
import tempfile
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

HERE = Path(__file__).parent
FOLDERS = (
    "clip_tokenizer_json",
    "clip_tokenizer_vocab",
    "../../zoo/pipeline/tokenizer",
    "../../zoo/rewards/owlvit",
    "../../zoo/rewards/hpsv2",
)
MAX_LENGTH = 24

TEXTS = [
    "",
    " ",
    "a",
    "a red cat, and books.",
    "a fox, and books on a blue background",
    "The quick brown fox jumps over the lazy dog.",
    "it's they're I've I'm we'll he'd don't 's 'S 'LL ''s ''''t o'clock",
    "IT’S A “CURLY” ‘QUOTE’ ʼn‛",
    "123 4567 3.14 1,000,000 ٣٤ Ⅷ ½ ²",
    "  many   spaces\t\ttabs\n\nlines\r\nreturns\u00a0hard\u2003em\u2028line\u0085next\u3000wide  ",
    "Crème brûlée, naïve façade, Ångström, Zürich, señor",
    "e\u0301 vs é, o\u0308 vs ö, \u212b vs Å, \u1e9b\u0323",
    "İstanbul ISTANBUL ıstanbul ẞ ß ǅ ǆ ΟΔΟΣ ΣΑΣ. σς ſ long\u017f 'ſ",
    "漢字かな交じり文 한국어 조합 \u1112\u1161\u11ab ไทย हिन्दी عربى עברית",
    "emoji 🙂👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ ☃ ☃️ 1️⃣",
    "ﬁ ﬂ ﬀ ﬃ ﬄ ﬅ ﬆ Ĳ ĳ ŉ Ǆ ǌ",
    "ＦＵＬＬＷＩＤＴＨ １２３ ！？ ｶﾅ ￦ ￮",
    "control\x00\x01\x07\x1b[31mred\x1b[0m\x7f\x0b\x1cfs\x1dgs\u200bzw\u200dj\ufeffbom\ufffc\u206a\u0345",
    "c1 \x80 \x85 \x92 \x99",
    "&amp; &lt;b&gt; &quot;q&quot; &#39;n&#39; &#x2019; &hellip; &eacute; &EACUTE; &amp;amp;amp;lt; &nbsp;|",
    "&notit; &copy &COPY &AMP &ampx &unknown; &; & &# &#; &#x; &#0; &#128; &#55296; &#1114112; &#7; &alpha;&Alpha;&ALPHA;",
    "<b>tag</b> &rsquo;stays&rsquo; &Auml;\n&rsquo;still&rsquo;",
    "first &rsquo; line\n<i> &rsquo; second",
    "<|startoftext|>hello<|endoftext|> <|STARTOFTEXT|> <|EndOfText|> <|endoftext|>!! **<|ENDOFTEXT|>**",
    "<start_of_text>hello<END_OF_TEXT> <end_of_text",
    "! !! !!! a!b!c hello! Hello!world",
    "...,,,;;;:::---___***###@@@$$$%%%^^^((()))[[[]]]{{{}}}\\\\///|||~~~```",
    "http://www.example.com/a?b=c&d=e#f user@example.org C++ C# .NET",
    "x^2 + y² = ∑ √∞ ≠ ≤ ∫ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙 Å",
    "\ud7ff\ue000\uffff\U0010ffff \U0001f600",
    "a" * 60,
    "ab" * 40,
    "word " * 40,
    "photograph of photographs of photographers photographing",
    "!" * 30,
    "漢" * 30,
]
random.seed(0)
ALPHABET = list("aeist 'S1!.,-&;<é’ﬁ漢🙂\n") + ["&amp;", "&#8217;", "\u0301", "the ", "book", "<|endoftext|>"]
TEXTS += ["".join(random.choice(ALPHABET) for _ in range(random.randint(1, 30))) for _ in range(60)]


def open_clip_tokenizer(folder, vocab):
    merges = (folder / "merges.txt").read_text("utf-8").rstrip("\n")
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        file.write(gzip.compress(merges.encode()))
        file.flush()
        tokenizer = SimpleTokenizer(file.name)
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    assert {names.get(k, k): v for k, v in tokenizer.encoder.items()} == vocab
    return tokenizer


def without_padding(ids, pad):
    """The ids as they are up to the padding, which is checked to be `pad` alone."""
    ids = [int(i) for i in ids]
    assert len(ids) == MAX_LENGTH
    while ids and ids[-1] == pad:
        ids.pop()
    return ids


result = {"texts": TEXTS, "maxLength": MAX_LENGTH, "folders": {}}
for name in FOLDERS:
    folder = HERE / name
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    encoded = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=MAX_LENGTH)
    entry = {
        "padId": tokenizer.pad_token_id,
        "modelMaxLength": tokenizer.model_max_length,
        "hf": [ids[: sum(mask)] for ids, mask in zip(encoded["input_ids"], encoded["attention_mask"])],
    }
    for ids, mask in zip(encoded["input_ids"], encoded["attention_mask"]):
        assert mask == [1] * sum(mask) + [0] * (MAX_LENGTH - sum(mask))
        assert set(ids[sum(mask) :]) <= {entry["padId"]} and ids[sum(mask) - 1] == tokenizer.eos_token_id
    if (folder / "merges.txt").exists():
        ids = open_clip_tokenizer(folder, tokenizer.get_vocab())(TEXTS, context_length=MAX_LENGTH)
        entry["openClip"] = [without_padding(row, 0) for row in ids]
    result["folders"][name] = entry

with open(HERE / "tokens.json", "w", encoding="utf-8") as file:
    # ASCII only, so that no editor and no normalisation of the repository can change the texts.
    json.dump(result, file, separators=(",", ":"))
    file.write("\n")
