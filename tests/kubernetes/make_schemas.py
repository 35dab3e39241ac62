"""Writes schemas/ from the JSON schemas of Kubernetes' API that the package kubernetes-validate (Apache 2.0) carries.

    pip install kubernetes-validate==1.37.0 && python tests/kubernetes/make_schemas.py

One file for each kind that the chart makes, with the definitions it needs and without descriptions, for the oldest version
that the chart is for and for the newest there is. Fields that a kind does not have are refused.
"""

import json
from importlib.resources import files
from pathlib import Path

VERSIONS = ["1.27.0", "1.37.0"]
KINDS = [
    "configmap-v1",
    "deployment-apps-v1",
    "ingress-networking-v1",
    "networkpolicy-networking-v1",
    "persistentvolumeclaim-v1",
    "poddisruptionbudget-policy-v1",
    "service-v1",
    "serviceaccount-v1",
    "statefulset-apps-v1",
]
OUT = Path(__file__).parent / "schemas"


def pruned(value, names):
    """A schema without words for people; the definitions it refers to are added to `names`."""
    if isinstance(value, list):
        return [pruned(v, names) for v in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, v in value.items():
        is_words = key == "description" and isinstance(v, str)
        if is_words or key in ("$schema", "$id") or key.startswith("x-kubernetes-"):
            continue
        if key == "$ref":
            name = v.split("/$defs/")[-1]
            names.append(name)
            kept[key] = f"#/$defs/{name}"
        else:
            kept[key] = pruned(v, names)
    return kept


for version in VERSIONS:
    source = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}-local-strict"
    definitions = json.loads((source / "_definitions.json").read_text())["$defs"]
    (OUT / f"v{version}").mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        names, found = [], {}
        schema = pruned(json.loads((source / f"{kind}.json").read_text()), names)
        while names:
            name = names.pop()
            if name not in found:
                found[name] = None
                found[name] = pruned(definitions[name], names)
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        schema["$defs"] = {name: found[name] for name in sorted(found)}
        path = OUT / f"v{version}" / f"{kind}.json"
        path.write_text(json.dumps(schema, separators=(",", ":")) + "\n")
