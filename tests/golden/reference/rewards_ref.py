"""Differentiable rewards on images NCHW in [0,1]; each returns a score per image, (B,). See docs/formulas.md."""
import math
import torch
import torch.nn.functional as F
from torchvision.transforms import functional as TF, InterpolationMode

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BIC = InterpolationMode.BICUBIC


def norm(x):
    m, s = (torch.tensor(v, dtype=x.dtype, device=x.device).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (x - m) / s


# ---- preprocessing, tensor path: bicubic with antialias=True (a=-0.5, support scaled by the ratio when shrinking, as PIL);
#      no clamp and no rounding to uint8 after the resize.
def prep_crop(x, n):
    """CLIP / PickScore / aesthetic: shortest edge to n (long side int(n*long/short)), centre crop n, normalise."""
    return norm(TF.center_crop(TF.resize(x, n, BIC, antialias=True), [n, n]))


def prep_pad(x, n):
    """HPS v2.1 (ResizeMaxSize): longest side to n, other side round(dim*n/longest), pad with 0 BEFORE normalising
    (left = pad//2, right = pad - pad//2)."""
    h, w = x.shape[-2:]
    s = n / float(max(h, w))
    if s != 1.0:
        nh, nw = round(h * s), round(w * s)
        x = TF.resize(x, [nh, nw], BIC, antialias=True)
        ph, pw = n - nh, n - nw
        x = F.pad(x, [pw // 2, pw - pw // 2, ph // 2, ph - ph // 2])
    elif h != w:
        raise ValueError("ResizeMaxSize does not pad when scale == 1")
    return norm(x)


def prep_direct(x, n):
    """OWL-ViT: both sides to n, no crop."""
    return norm(TF.resize(x, [n, n], BIC, antialias=True))


# ---- scores
def symmetry(x):
    """eq. 6: mean over C,H,W of |I - hflip(I)| / std(I), std over all of C*H*W of one image (unbiased=False)."""
    d = (x - x.flip(-1)).abs().flatten(1).mean(1)
    return d / x.flatten(1).std(1, unbiased=False)


def _feat(o):
    return o if torch.is_tensor(o) else o.pooler_output


def clip_image_embed(m, px):
    v = m.vision_model(pixel_values=px)
    return m.visual_projection(v.pooler_output)


def clip_text_embed(m, ids):
    return m.text_projection(m.text_model(input_ids=ids).pooler_output)


def clip_cos(m, x, ids, n=None):
    """HF CLIPModel; cosine, no logit_scale (PickScore, CLIPScore)."""
    i = F.normalize(clip_image_embed(m, prep_crop(x, n or m.config.vision_config.image_size)), dim=-1)
    t = F.normalize(clip_text_embed(m, ids), dim=-1)
    return (i * t).sum(-1)


def hps(m, x, tok, n):
    """open_clip CLIP; cosine, no logit_scale."""
    return (m.encode_image(prep_pad(x, n), normalize=True) * m.encode_text(tok, normalize=True)).sum(-1)


class AestheticMLP(torch.nn.Module):
    """improved-aesthetic-predictor: Linear, Dropout, Linear, Dropout, Linear, Dropout, Linear, Linear; no activation."""

    def __init__(self, d, hid=(1024, 128, 64, 16)):
        super().__init__()
        a, b, c, e = hid
        L, D = torch.nn.Linear, torch.nn.Dropout
        self.layers = torch.nn.Sequential(L(d, a), D(.2), L(a, b), D(.2), L(b, c), D(.1), L(c, e), L(e, 1))

    def forward(self, x):
        return self.layers(x)


def aesthetic(clip, mlp, x):
    e = clip_image_embed(clip, prep_crop(x, clip.config.vision_config.image_size))
    return mlp(e / e.norm(dim=-1, keepdim=True)).squeeze(-1)


def owl_logits(m, px, ids, mask):
    """HF OwlViTForObjectDetection.forward without its cast of the logits to float32 and without the box head."""
    B = px.shape[0]
    q, fm, _ = m.image_text_embedder(input_ids=ids.repeat(B, 1), pixel_values=px, attention_mask=mask.repeat(B, 1))
    return m.class_predictor(fm.flatten(1, 2), q.reshape(B, 1, -1), None)[0][..., 0]


def owl(m, x, ids, mask):
    """max over boxes of sigmoid(class logit) for the one query."""
    return owl_logits(m, prep_direct(x, m.config.vision_config.image_size), ids, mask).sigmoid().amax(1)


# ---- differentiable JPEG
QY = torch.tensor([16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87,
                   80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92,
                   95, 98, 112, 100, 103, 99.]).view(8, 8)
QC = torch.full((8, 8), 99.)
QC[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99.]])


def qtable(q, quality):
    s = 5000 // quality if quality < 50 else 200 - 2 * quality         # libjpeg; quality 50 -> the tables themselves
    return ((q * s + 50) / 100).floor().clamp(1, 255)


def dctm(dtype):
    k = torch.arange(8, dtype=dtype)
    m = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * .5
    m[0] = math.sqrt(1 / 8)
    return m                                                            # orthonormal, m @ m.T = I


def rnd(x, mode):
    r = torch.round(x).detach()
    if mode == "ste":
        return x + (r - x.detach())                                     # forward round, derivative 1
    if mode == "cubic":
        return r + (x - r) ** 3                                         # Shin & Song: derivative 3 (x - round x)^2
    raise ValueError(mode)


def jpeg(x, quality=50, mode="ste", subsample=True, info=None):
    """d(c(I)): RGB[0,1] -> *255 -> JFIF YCbCr -> (4:2:0 2x2 mean) -> -128 -> 8x8 DCT -> /Q -> round -> *Q -> IDCT -> +128
    -> (nearest 2x) -> RGB -> /255.  No clamp, no rounding of pixel values.  Sides padded by replication to 8 (16 with 4:2:0)."""
    B, _, H, W = x.shape
    k = 16 if subsample else 8
    p = F.pad(x * 255, [0, -W % k, 0, -H % k], mode="replicate") if (H % k or W % k) else x * 255
    r, g, b = p.unbind(1)
    y = .299 * r + .587 * g + .114 * b
    cb = (b - y) / 1.772 + 128
    cr = (r - y) / 1.402 + 128
    D = dctm(x.dtype)

    def plane(v, q):
        q = qtable(q, quality).to(x.dtype)
        h, w = v.shape[1:]
        t = (v - 128).view(B, h // 8, 8, w // 8, 8).transpose(2, 3)
        c = D @ t @ D.T / q
        if info is not None:
            info.append(((c - c.floor()) - .5).abs().min().item())
        t = D.T @ (rnd(c, mode) * q) @ D
        return t.transpose(2, 3).reshape(B, h, w) + 128

    y = plane(y, QY)
    if subsample:
        cb, cr = (F.avg_pool2d(v[:, None], 2)[:, 0] for v in (cb, cr))
    cb, cr = plane(cb, QC), plane(cr, QC)
    if subsample:
        cb, cr = (v.repeat_interleave(2, 1).repeat_interleave(2, 2) for v in (cb, cr))
    R_ = y + 1.402 * (cr - 128)
    B_ = y + 1.772 * (cb - 128)
    G_ = (y - .299 * R_ - .114 * B_) / .587
    return torch.stack([R_, G_, B_], 1)[:, :, :H, :W] / 255


def jpeg_error(x, quality=50, mode="ste", subsample=True, sg_target=False, info=None):
    """eq. 7 as a mean of squares over C,H,W in [0,1] units; sg_target: gradient through the first I only."""
    j = jpeg(x, quality, mode, subsample, info)
    return (x - (j.detach() if sg_target else j)).pow(2).flatten(1).mean(1)


def shift_crop(x, dx, dy):
    """random shift of sec. 4.3, as we read it: drop dx columns and dy rows (0..ceil(r_out/r_in)) before the resize."""
    return x[:, :, dy:, dx:]
