{{- define "twinlens.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "twinlens.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "twinlens.labels" -}}
{{ include "twinlens.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "twinlens.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s%s" .Chart.AppVersion (ternary "-gpu" "" .Values.gpu.enabled)) }}
{{- end }}

{{/* Both drains, and five seconds: a server that still answers is not killed. */}}
{{- define "twinlens.grace" -}}
{{- $watch := dig "serve" "watch" dict .Values.config -}}
{{ add (ceil (float64 (dig "drain_notice" 1.0 $watch))) (ceil (float64 (dig "drain_seconds" 20.0 $watch))) 5 }}
{{- end }}
