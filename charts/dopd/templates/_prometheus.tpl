{{/* How the operator reaches Prometheus: what is mounted, and the environment that names it. */}}
{{- define "dopd.prometheusFolder" -}}/etc/dopd/prometheus{{- end -}}

{{/* Sources of a projected volume; empty if nothing is to be mounted. A projected file changes with its Secret. */}}
{{- define "dopd.prometheusSources" -}}
{{- $p := .Values.prometheus -}}
{{- with $p.bearerToken }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret | quote }}, items: [{key: {{ .key | quote }}, path: token}]}
{{- end }}{{ end }}
{{- with $p.serviceAccountToken }}{{ if .enabled }}
- serviceAccountToken: {path: token{{ with .audience }}, audience: {{ . | quote }}{{ end }}}
{{- end }}{{ end }}
{{- with $p.basicAuth }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret | quote }}, items: [{key: {{ .key | quote }}, path: password}]}
{{- end }}{{ end }}
{{- with $p.ca }}{{ if or .existingSecret .existingConfigMap }}
- {{ ternary "secret" "configMap" (not (empty .existingSecret)) }}:
    name: {{ .existingSecret | default .existingConfigMap | quote }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}{{ end }}
{{- with $p.clientCertificate.existingSecret }}
- secret: {name: {{ . | quote }}, items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]}
{{- end }}
{{- range $name, $secret := $p.headerSecrets }}
- secret: {name: {{ $secret.existingSecret | quote }}, items: [{key: {{ $secret.key | quote }}, path: headers/{{ $name }}}]}
{{- end }}
{{- end -}}

{{/* Environment of `dopd run`, which `dopd doctor` in the same container finds too. */}}
{{- define "dopd.prometheusEnvironment" -}}
{{- $p := .Values.prometheus -}}
{{- $folder := include "dopd.prometheusFolder" . -}}
- {name: DOPD_PROMETHEUS_URL, value: {{ .Values.prometheusURL | quote }}}
{{- with .Values.prometheusHistoryURL }}
- {name: DOPD_PROMETHEUS_HISTORY_URL, value: {{ . | quote }}}
{{- end }}
- {name: DOPD_PROMETHEUS_TIMEOUT, value: {{ $p.timeoutSeconds | quote }}}
- {name: DOPD_PROMETHEUS_MAX_ANSWER_MIB, value: {{ $p.maxAnswerMiB | quote }}}
{{- if or $p.bearerToken.existingSecret $p.serviceAccountToken.enabled }}
- {name: DOPD_PROMETHEUS_BEARER_TOKEN_FILE, value: {{ $folder }}/token}
{{- end }}
{{- with $p.basicAuth.username }}
- {name: DOPD_PROMETHEUS_USERNAME, value: {{ . | quote }}}
- {name: DOPD_PROMETHEUS_PASSWORD_FILE, value: {{ $folder }}/password}
{{- end }}
{{- if or $p.ca.existingSecret $p.ca.existingConfigMap }}
- {name: DOPD_PROMETHEUS_CA_FILE, value: {{ $folder }}/ca.crt}
{{- end }}
{{- if $p.clientCertificate.existingSecret }}
- {name: DOPD_PROMETHEUS_CLIENT_CERTIFICATE_FILE, value: {{ $folder }}/tls.crt}
- {name: DOPD_PROMETHEUS_CLIENT_KEY_FILE, value: {{ $folder }}/tls.key}
{{- end }}
{{- if $p.insecureSkipVerify }}
- {name: DOPD_PROMETHEUS_INSECURE_SKIP_VERIFY, value: "true"}
{{- end }}
{{- $lines := dict "HEADER" list "HEADER_FILE" list "QUERY" list "SERIES_LABEL" list }}
{{- range $name, $value := $p.headers }}
{{- $_ := set $lines "HEADER" (append $lines.HEADER (printf "%s=%s" $name $value)) }}
{{- end }}
{{- range $name, $_ := $p.headerSecrets }}
{{- $_ := set $lines "HEADER_FILE" (append $lines.HEADER_FILE (printf "%s=%s/headers/%s" $name $folder $name)) }}
{{- end }}
{{- range $name, $value := $p.queryParameters }}
{{- $_ := set $lines "QUERY" (append $lines.QUERY (printf "%s=%s" $name $value)) }}
{{- end }}
{{- range $name, $value := $p.seriesLabels }}
{{- $_ := set $lines "SERIES_LABEL" (append $lines.SERIES_LABEL (printf "%s=%s" $name $value)) }}
{{- end }}
{{- range $variable, $values := $lines }}
{{- with $values }}
- {name: DOPD_PROMETHEUS_{{ $variable }}, value: {{ join "\n" . | quote }}}
{{- end }}
{{- end }}
{{- end -}}
