{{- define "mynetwork.tag" -}}{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}
{{- define "mynetwork.image" -}}{{ .Values.image.repository }}:{{ include "mynetwork.tag" . }}{{- end }}
{{- define "mynetwork.holderImage" -}}
{{ .Values.holderImage.repository | default .Values.image.repository }}:{{ .Values.holderImage.tag | default (include "mynetwork.tag" .) }}
{{- end }}

{{- /* labels of an object of a component: list of context and component */ -}}
{{- define "mynetwork.labels" -}}
{{- $root := index . 0 -}}
{{ include "mynetwork.selector" . }}
app.kubernetes.io/part-of: mynetwork
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{- end }}

{{- /* labels that select a component's pods, and never change */ -}}
{{- define "mynetwork.selector" -}}
app.kubernetes.io/name: mynetwork
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- /* what unprivileged containers have in common */ -}}
{{- define "mynetwork.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "mynetwork.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 64646
runAsGroup: 64646
fsGroup: 64646
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* leave a node that died within seconds: another replica goes on */ -}}
{{- define "mynetwork.quickTolerations" -}}
- {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
- {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
{{- end }}

{{- /* replicas on different nodes: list of context and component */ -}}
{{- define "mynetwork.apart" -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
  - topologyKey: kubernetes.io/hostname
    labelSelector:
      matchLabels:
        {{- include "mynetwork.selector" . | nindent 8 }}
{{- end }}
