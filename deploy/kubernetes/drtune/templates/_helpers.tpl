{{- define "drtune.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "drtune.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Nobody is root, nothing is written but what is mounted to be. */ -}}
{{- define "drtune.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "drtune.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "drtune.image" -}}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- /* What the pod of a service has that computes, or only answers. */ -}}
{{- define "drtune.pod" -}}
serviceAccountName: {{ .root.Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "drtune.podSecurity" . | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "drtune.selector" . | nindent 8 }}
{{- end }}

{{- /*
Starts a service with the narrowest permissions of Deno, as services/cli/stack/service_permissions.ts has them; a test
compares the two. Without "net" it may call and listen anywhere.
*/ -}}
{{- define "drtune.command" -}}
- deno
- run
- --no-prompt
- --cached-only
{{- if .net }}
- --allow-net={{ join "," .net }}
{{- else }}
- --allow-net
{{- end }}
- --allow-read={{ join "," (concat (list "/app" "/proc" "/usr/bin/ldd") (without .read "")) }}
- --allow-env=DRTUNE_ENDS_WITH_STDIN,GRPC_*,grpc_proxy,no_grpc_proxy,http_proxy,https_proxy,no_proxy,BUF_BIGINT_DISABLE,LOG_TOKENS,LOG_STREAM,MALLOC_ARENA_MAX,PKG_CONFIG_PATH,SHARP_*,npm_package_config_libvips,CUDA_VISIBLE_DEVICES
- --allow-sys=getPriority,setPriority,systemMemoryInfo,hostname,cpus
{{- if .write }}
- --allow-write={{ join "," .write }}
{{- end }}
{{- if .computes }}
- --allow-run=/usr/local/bin/deno{{ if eq .provider "cuda" }},nvidia-smi{{ end }}
- --allow-ffi=/app/node_modules,/app/.cache/cuda
{{- end }}
{{- end }}

{{- define "drtune.resources" -}}
{{- $resources := deepCopy .resources }}
{{- if .gpus }}
{{- $resources = mustMergeOverwrite $resources (dict "limits" (dict "nvidia.com/gpu" .gpus)) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- define "drtune.env" -}}
- name: OTEL_SERVICE_NAME
  value: {{ printf "drtune-%s" .component }}
{{- with .root.Values.otlpEndpoint }}
- name: OTEL_DENO
  value: "true"
- name: OTEL_DENO_CONSOLE
  value: ignore
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{- /* A reward with what it does not say filled in. */ -}}
{{- define "drtune.reward" -}}
{{- mustMergeOverwrite (deepCopy .root.Values.rewardDefaults) (deepCopy .reward) | toYaml }}
{{- end }}

{{- define "drtune.rewardAddresses" -}}
{{- $scheme := ternary "grpcs+dns" "dns" (ne .Values.tls.secret "") }}
{{- $all := list }}
{{- range $name, $_ := .Values.rewards }}
{{- $all = append $all (printf "%s=%s:///%s-%s:50051" $name $scheme $.Release.Name $name) }}
{{- end }}
{{- join "," $all }}
{{- end }}

{{- define "drtune.natsServers" -}}
{{- if .Values.cluster.servers }}
{{- join "," .Values.cluster.servers }}
{{- else }}
{{- printf "nats://%s-nats:4222" .Release.Name }}
{{- end }}
{{- end }}

{{- define "drtune.natsArgs" -}}
- --nats
- {{ include "drtune.natsServers" . | quote }}
{{- if .Values.cluster.tokenSecret }}
- --nats-token-file
- /secrets/nats/token
{{- end }}
{{- end }}

{{- /* Probes by gRPC where nothing is encrypted; Kubernetes' own have no TLS. */ -}}
{{- define "drtune.probe" -}}
{{- if .root.Values.tls.secret }}
exec:
  command: [drtune, health, {{ printf "grpcs://localhost:%v" .port | quote }}, --service, {{ .service | quote }}, --ca, /secrets/tls/ca.crt, --cert, /secrets/tls/tls.crt, --key, /secrets/tls/tls.key]
{{- else }}
grpc: { port: {{ .port }}, service: {{ .service | quote }} }
{{- end }}
timeoutSeconds: 10
{{- end }}

{{- /* Secrets that a pod reads, of those there are. */ -}}
{{- define "drtune.secretMounts" -}}
{{- $values := .root.Values }}
{{- if $values.tls.secret }}
- { name: tls, mountPath: /secrets/tls, readOnly: true }
{{- end }}
{{- if and .trainer $values.trainer.tokenSecret }}
- { name: trainer-token, mountPath: /secrets/trainer, readOnly: true }
{{- end }}
{{- if and .gateway $values.gateway.tokenSecret }}
- { name: gateway-token, mountPath: /secrets/gateway, readOnly: true }
{{- end }}
{{- if and .nats $values.cluster.enabled $values.cluster.tokenSecret }}
- { name: nats-token, mountPath: /secrets/nats, readOnly: true }
{{- end }}
{{- end }}

{{- define "drtune.secretVolumes" -}}
{{- $values := .root.Values }}
{{- if $values.tls.secret }}
- { name: tls, secret: { secretName: {{ $values.tls.secret | quote }}, defaultMode: 0440 } }
{{- end }}
{{- if and .trainer $values.trainer.tokenSecret }}
- { name: trainer-token, secret: { secretName: {{ $values.trainer.tokenSecret | quote }}, defaultMode: 0440 } }
{{- end }}
{{- if and .gateway $values.gateway.tokenSecret }}
- { name: gateway-token, secret: { secretName: {{ $values.gateway.tokenSecret | quote }}, defaultMode: 0440 } }
{{- end }}
{{- if and .nats $values.cluster.enabled $values.cluster.tokenSecret }}
- { name: nats-token, secret: { secretName: {{ $values.cluster.tokenSecret | quote }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
