"""Writes flow_sweep.json: noise levels of random FlowMatchEulerDiscreteScheduler configurations, mu by the pipelines'
own functions, and trajectories of DPMSolverMultistepScheduler with use_flow_sigmas, by diffusers 0.42.1.
python make_flow_sweep.py   (in this folder)"""
import json, math, random
import numpy as np, torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

random.seed(1); out=[]


def mu_of(family, n, T, c):
    if family == "flux2":
        return compute_empirical_mu(n, T)
    g = FlowMatchEulerDiscreteScheduler(**c).config
    return calculate_shift(n, g.base_image_seq_len, g.max_image_seq_len, g.base_shift, g.max_shift)


for q in range(48):
    fam=random.choice(["sd3","flux","flux2","zimage"]); T=random.choice([1,2,3,5,9,17,28,50]); n=random.choice([64,256,1000,4096,4301,9216])
    c=dict(shift=random.choice([1.,1.7,3.,6.,.8]))
    if random.random()<.5: c.update(use_dynamic_shifting=True, time_shift_type=random.choice(["exponential","linear"]))
    if random.random()<.3: c.update(base_shift=.6,max_shift=1.3,base_image_seq_len=200,max_image_seq_len=5000)
    if random.random()<.3 and T>1: c["shift_terminal"]=random.choice([.02,.1])
    r=random.random()
    if r<.2 and T>1: c["use_karras_sigmas"]=True
    elif r<.4 and T>1: c["use_exponential_sigmas"]=True
    kind=random.choice(["scheduler","linspace"])
    mu=mu_of(fam,n,T,c) if c.get("use_dynamic_shifting") else None
    s=FlowMatchEulerDiscreteScheduler(**c)
    if kind=="scheduler": s.set_timesteps(T,mu=mu)
    else: s.set_timesteps(sigmas=np.linspace(1,1/T,T),mu=mu)
    out.append(dict(kind="flow-euler",family=fam,tokens=n,T=T,config=c,range=kind,sigma=s.sigmas.double().tolist(),timesteps=s.timesteps.double().tolist()))
for q in range(10):
    T=random.choice([2,5,9,14,15,20,28]); sh=random.choice([1.,3.,5.])
    s=DPMSolverMultistepScheduler(prediction_type="flow_prediction",use_flow_sigmas=True,flow_shift=sh); s.set_timesteps(T)
    x=torch.tensor([math.sin(.5),math.sin(3.5)],dtype=torch.float64); xs=[]
    for i,t in enumerate(s.timesteps):
        o=torch.tensor([math.sin(1+2*i+3*j) for j in range(2)],dtype=torch.float64)
        x=s.step(o,t,x).prev_sample; xs+=x.double().tolist()
    out.append(dict(kind="dpmsolver++",family="sd3",tokens=256,T=T,config=dict(shift=sh),range=None,sigma=s.sigmas.double().tolist(),timesteps=s.timesteps.double().tolist(),x=xs))
open('flow_sweep.json','w').write('[\n'+',\n'.join(json.dumps(o,separators=(',',':')) for o in out)+'\n]\n')
