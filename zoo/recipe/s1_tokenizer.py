"""Stage 1: a CLIPTokenizer (vocab.json + merges.txt, BPE with </w>), ~1k entries, model_max_length 32."""
import json, os, time
from collections import Counter
import regex as re
from transformers import CLIPTokenizer
from scenes import ROOT, scene
from concepts import CONCEPTS, BACKGROUNDS

OUT = f"{ROOT}/build/tokenizer"
VOCAB = 1024
# general English of prompts, so that a sentence from outside the grammar is not cut into single letters
EXTRA = """the of in with at to by for from is are near under over beside between photo painting drawing picture
illustration image realistic detailed beautiful high quality best masterpiece vibrant vivid colorful bright dark
simple clean small large big little two three four many some one blurry noisy cropped low bad sharp cute funny
animal animals fruit food vehicle object objects background color white bird horse cow bear monkey mouse elephant
house person man woman city street table bowl water sky sun moon star grass snow fire forest ocean river mountain
red orange yellow green blue purple pink gray grey black brown books book reading library shelf style art digital
oil watercolor cartoon emoji icon studio lighting closeup portrait landscape day night morning old new happy sad""".split()


def bytes_to_unicode():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs = bs[:]; n = 0
    for b in range(256):
        if b not in bs:
            bs.append(b); cs.append(256 + n); n += 1
    return dict(zip(bs, map(chr, cs)))


def main():
    t0 = time.time()
    b2u = bytes_to_unicode()
    pat = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", re.I)
    words = Counter()
    for i in range(6000):
        words.update(pat.findall(scene(i)["caption"].lower()))
    words.update({w: 20 for w in EXTRA})
    words.update({c + "s": 5 for c in CONCEPTS})
    seqs = {w: ([b2u[b] for b in w.encode()]) for w in words}
    seqs = {w: s[:-1] + [s[-1] + "</w>"] for w, s in seqs.items()}
    chars = [b2u[b] for b in range(256)]
    order = sorted(chars, key=lambda c: list(b2u.values()).index(c))
    vocab = order + [c + "</w>" for c in order]
    merges = []
    while len(vocab) < VOCAB - 2:
        pairs = Counter()
        for w, s in seqs.items():
            for p in zip(s, s[1:]):
                pairs[p] += words[w]
        if not pairs:
            break
        p = max(pairs, key=lambda k: (pairs[k], k))
        merges.append(p); vocab.append("".join(p))
        for w, s in seqs.items():
            o = []; i = 0
            while i < len(s):
                if i + 1 < len(s) and (s[i], s[i + 1]) == p:
                    o.append(s[i] + s[i + 1]); i += 2
                else:
                    o.append(s[i]); i += 1
            seqs[w] = o
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(vocab)) == len(vocab)
    os.makedirs(OUT, exist_ok=True)
    json.dump({v: i for i, v in enumerate(vocab)}, open(f"{OUT}/vocab.json", "w"), ensure_ascii=False)
    open(f"{OUT}/merges.txt", "w").write("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    sp = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    json.dump(sp, open(f"{OUT}/special_tokens_map.json", "w"), indent=1)
    json.dump({"tokenizer_class": "CLIPTokenizer", "model_max_length": 32, "do_lower_case": True,
               "add_prefix_space": False, "errors": "replace", **sp}, open(f"{OUT}/tokenizer_config.json", "w"), indent=1)
    tok = CLIPTokenizer.from_pretrained(OUT)
    tot = max(len(tok(scene(i)["caption"])["input_ids"]) for i in range(2000))
    print("vocab", len(tok), "merges", len(merges), "max len", tot, round(time.time() - t0, 1), "s")
    for s in ("a red apple on a blue background", "a fox, and books", "a photo of an astronaut"):
        ids = tok(s)["input_ids"]
        print(s, ids, tok.convert_ids_to_tokens(ids), repr(tok.decode(ids, skip_special_tokens=True)))


if __name__ == "__main__":
    main()
