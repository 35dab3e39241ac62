#!/bin/bash
# Starts the compose stack with Podman, trains in it, swaps a reward, kills containers, and checks that no step was lost.
#
#   deploy/try_compose.sh [WORK_DIR]        (default: /tmp/drtune-compose; everything it makes is in there)
#
# Needs root and podman (4 or newer), runc, netavark, aardvark-dns, curl, python3-venv, and deno. Where no registry of
# container images is reachable, it makes the two base images from Debian packages with mmdebstrap, with the node of this
# machine in the one that has it published. podman-compose comes from PyPI into a throwaway environment.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-/tmp/drtune-compose}
mkdir -p "$work"
work=$(cd "$work" && pwd)
lacking=()
for program in deno podman runc curl python3; do
  command -v "$program" > /dev/null || lacking+=("$program")
done
if [ "${#lacking[@]}" -gt 0 ]; then
  echo "Needed and not found: ${lacking[*]} (deno comes with 'npm install --global deno@2.9.6')" >&2
  exit 1
fi
step() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
drtune() { deno run --allow-all --no-prompt "$root/services/cli/main.ts" "$@"; }

# Storage and limits of its own: nothing of this machine's containers is touched. Where a container may not raise its
# limits, those that Podman sets by default are refused.
cat > "$work/storage.conf" <<END
[storage]
driver = "${DRTUNE_STORAGE_DRIVER:-overlay}"
graphroot = "$work/storage"
runroot = "$work/run"
END
cat > "$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=8192:8192", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
events_logger = "file"
[network]
network_backend = "netavark"
END
export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf

step "podman-compose"
[ -x "$work/venv/bin/podman-compose" ] || {
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet podman-compose==1.6.0
}
compose() { "$work/venv/bin/podman-compose" --in-pod false --file "$root/deploy/compose.yaml" "$@"; }

step "Base images"
for image in $(sed -n 's/^FROM \([^ ]*:[^ ]*\).*/\1/p' "$root/deploy/Containerfile"); do
  podman image exists "$image" && continue
  timeout 60 podman pull --quiet "$image" 2> "$work/pull.log" && continue
  tail -n 1 "$work/pull.log"
  echo "No registry has it here: made from Debian packages"
  [ -f "$work/base.tar" ] ||
    mmdebstrap --variant=minbase --include=ca-certificates,libstdc++6,libatomic1 bookworm "$work/base.tar"
  mkdir -p "$work/node"
  cp --dereference "$(command -v node)" "$work/node/node"
  cp -r "$(dirname "$(readlink -f "$(command -v npm)")")/.." "$work/node/npm"
  # The authorities that this machine trusts, also where it has more of them than Debian.
  cp --dereference /etc/ssl/certs/ca-certificates.crt "$work/node/ca-certificates.crt"
  podman import --quiet "$work/base.tar" localhost/drtune-base
  containerfile="FROM localhost/drtune-base
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt DENO_TLS_CA_STORE=system"
  case $image in node:* | */node:*)
    containerfile="$containerfile
COPY node /usr/local/bin/node
COPY npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm"
    ;;
  esac
  printf '%s\n' "$containerfile" > "$work/Containerfile.base"
  podman build --quiet --network host --ulimit nofile=8192:8192 --ulimit nproc=4096:4096 \
    --file "$work/Containerfile.base" --tag "$image" "$work/node"
done

step "Image"
podman build --network host --ulimit nofile=8192:8192 --ulimit nproc=4096:4096 \
  --file "$root/deploy/Containerfile" --tag localhost/drtune "$root" > "$work/build.log" 2>&1 ||
  { tail -n 30 "$work/build.log"; exit 1; }
podman image inspect --format 'Image of {{.Size}} bytes, user {{.Config.User}}' localhost/drtune

step "Up"
trap 'compose down --volumes > "$work/down.log" 2>&1 || tail -n 20 "$work/down.log"' EXIT
compose up --detach --no-build > "$work/up.log" 2>&1 || { tail -n 30 "$work/up.log"; exit 1; }
services="objectness clip symmetry pickscore trainer gateway"
name() { podman ps --all --filter "label=com.docker.compose.service=$1" --format '{{.Names}}'; }
healthy() { podman exec "$(name "$1")" sh -c "$(podman inspect --format '{{range slice .Config.Healthcheck.Test 1}}{{printf "%q " .}}{{end}}' "$(name "$1")")" > /dev/null 2>&1; }
wait_healthy() {
  for service in "$@"; do
    for _ in $(seq 120); do healthy "$service" && continue 2; sleep 1; done
    echo "$service is not ready:"; podman logs --tail 20 "$(name "$service")"; exit 1
  done
}
# shellcheck disable=SC2086
wait_healthy $services
podman ps --format 'table {{.Names}}\t{{.Status}}\t{{.Ports}}'

gateway=http://127.0.0.1:8080
config() { # ID
  cat <<END
{"runId":"$1","config":{"model":"pipeline","method":{"name":"drtune","k":1,"m":2},"sampler":{"kind":"ddpm","steps":5},
"lora":{"rank":4},"optimizer":{"learningRate":0.001},"batch":{"size":2},"iterations":${ITERATIONS:-16},"checkpointEvery":4,"sampleEvery":8,
"prompts":{"file":"prompts/books.txt"},"rewards":[{"name":"objectness"},{"name":"clip","weight":0.3}]}}
END
}
start() { config "$1" | curl -fsS -H 'content-type: application/json' --data-binary @- "$gateway/v1/runs" > /dev/null; }
field() { curl -fsS "$gateway/v1/runs/$1" | python3 -c "import json,sys; r=json.load(sys.stdin); r=r.get('run',r); print(r.get('$2',0))"; }
wait_lacking=()
for program in deno podman runc curl python3; do
  command -v "$program" > /dev/null || lacking+=("$program")
done
if [ "${#lacking[@]}" -gt 0 ]; then
  echo "Needed and not found: ${lacking[*]} (deno comes with 'npm install --global deno@2.9.6')" >&2
  exit 1
fi
step() { until [ "$(field "$1" step 2> /dev/null || echo 0)" -ge "$2" ]; do sleep 0.3; done; }
wait_end() { until [[ $(field "$1" state 2> /dev/null) =~ FINISHED|FAILED|STOPPED ]]; do sleep 0.5; done; field "$1" state; }
lora() { curl -fsS "$gateway/v1/runs/$1/lora" | sha256sum | cut -c1-16; }
back() { # SERVICE SECONDS_AT_KILL
  wait_healthy "$1"
  echo "$1 is back after $((SECONDS - $2)) s, restarts: $(podman inspect --format '{{.RestartCount}}' "$(name "$1")")"
}

step "A run that nobody disturbs"
start calm && wait_end calm

step "The same run; the trainer dies in it, then a reward's container is killed"
start struck && wait_step struck 3
at=$SECONDS; echo "trainer dies after step $(field struck step)"
# As a crash would: to Podman a "podman kill" is a wish, and no reason to start the container again.
kill -KILL "$(podman inspect --format '{{.State.Pid}}' "$(name trainer)")"
back trainer "$at"
wait_step struck 7
at=$SECONDS; echo "clip is killed after step $(field struck step)"
podman kill --signal KILL "$(name clip)" > /dev/null
sleep 3 && podman start "$(name clip)" > /dev/null 2>&1
back clip "$at"
wait_end struck
podman exec "$(name trainer)" cat /runs/struck/events.jsonl | python3 -c '
import json, sys
steps = [e["step"] for e in map(json.loads, sys.stdin) if e["type"] == "step" and e["step"] > 0]
missing = sorted(set(range(1, max(steps) + 1)) - set(steps))
print(f"{len(set(steps))} steps recorded, missing: {missing or None}")
sys.exit(bool(missing))'
[ "$(lora calm)" = "$(lora struck)" ] && echo "LoRA of both runs: $(lora calm), equal bit for bit"

step "A reward is swapped while a run trains"
start swapped && wait_step swapped 2
drtune swap swapped --set clip --at pickscore:50054 --weight 0.02 --endpoint 127.0.0.1:50060
wait_end swapped
curl -fsS "$gateway/v1/runs/swapped" | python3 -c "import json,sys; r=json.load(sys.stdin); r=r.get('run',r); print([(t['name'], t['endpoint'], t['weight']) for t in r['rewards']])"

step "The same by gRPC"
drtune runs --endpoint 127.0.0.1:50060
podman stats --no-stream --format 'table {{.Name}}\t{{.MemUsage}}' 2> /dev/null || true

step "Down"
