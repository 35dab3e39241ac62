"""Writes published/preprocessor/variants.json: cosines of transformers for a picture under image processors of many forms.

Run from the repository: .venv/bin/python rewards/testdata/make_preprocessing_variants.py
"""
import json, shutil, tempfile, os, torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor, AutoImageProcessor, CLIPTokenizer
G='tests/golden/rewards/clip_quick_gelu'
pic=Image.open('rewards/testdata/published/picture.png').convert('RGB')
m=CLIPModel.from_pretrained(G).eval(); tok=CLIPTokenizer.from_pretrained(G)
base=dict(image_processor_type="CLIPImageProcessor",do_resize=True,size={"shortest_edge":32},resample=3,do_center_crop=True,crop_size={"height":32,"width":32},do_rescale=True,rescale_factor=1/255,do_normalize=True,image_mean=[0.48145466,0.4578275,0.40821073],image_std=[0.26862954,0.26130258,0.27577711])
V={
 "bilinear":dict(resample=2),"nearest":dict(resample=0),
 "squash":dict(size={"height":32,"width":32}),"squash_nocrop":dict(size={"height":32,"width":32},do_center_crop=False),
 "int":dict(size=32,crop_size=32),"rect_then_crop":dict(size={"height":40,"width":34}),
 "noresize":dict(do_resize=False),"norescale":dict(do_rescale=False),"rescale127":dict(rescale_factor=1/127.5,image_mean=[1.,1.,1.],image_std=[1.,1.,1.]),
 "smaller":dict(size={"shortest_edge":28}),
 "text_true":dict(do_resize="true",do_normalize="True"),"null_resize":dict(do_resize=None,do_normalize=1),"one_mean":dict(image_mean=[.5],image_std=[.25]),
 "vit":dict(image_processor_type="ViTImageProcessor",size={"height":32,"width":32},resample=2,image_mean=[.5,.5,.5],image_std=[.5,.5,.5]),
 "siglip":dict(image_processor_type="SiglipImageProcessor",size={"height":32,"width":32}),
}
out={}
ids=tok(["a fox, and books"],padding="max_length",max_length=77,truncation=True,return_tensors="pt")
for k,v in V.items():
    d=tempfile.mkdtemp(); c={**base,**v}
    if k in("vit","siglip"): c.pop("do_center_crop");c.pop("crop_size")
    json.dump(c,open(d+'/preprocessor_config.json','w')); shutil.copy(G+'/config.json',d)
    p=AutoImageProcessor.from_pretrained(d)
    x=p(pic,return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        o=m(input_ids=ids.input_ids,attention_mask=ids.attention_mask,pixel_values=x)
    cos=(o.image_embeds@o.text_embeds.T).item()
    out[k]={"file":c,"score":cos}
json.dump(out,open('rewards/testdata/published/preprocessor/variants.json','w'),indent=1)
