{{/* Values that are right alone and wrong together; a line for each, with the fix. */}}
{{- define "dopd.checkTogether" -}}
{{- $p := .Values.prometheus -}}
{{- $ways := list -}}
{{- if $p.bearerToken.existingSecret }}{{ $ways = append $ways "bearerToken.existingSecret" }}{{ end -}}
{{- if $p.serviceAccountToken.enabled }}{{ $ways = append $ways "serviceAccountToken.enabled" }}{{ end -}}
{{- if $p.basicAuth.username }}{{ $ways = append $ways "basicAuth.username" }}{{ end -}}
{{- if gt (len $ways) 1 }}
- prometheus: {{ join " and " $ways }} are set. Expected one way to authenticate. Give one of bearerToken.existingSecret, serviceAccountToken.enabled and basicAuth.username.
{{- end -}}
{{- if and $p.ca.existingSecret $p.ca.existingConfigMap }}
- prometheus.ca: existingSecret {{ $p.ca.existingSecret | quote }} and existingConfigMap {{ $p.ca.existingConfigMap | quote }} are set. Expected one source. Give one of existingSecret and existingConfigMap.
{{- end -}}
{{- if and $p.insecureSkipVerify (or $p.ca.existingSecret $p.ca.existingConfigMap) }}
- prometheus.insecureSkipVerify: true beside prometheus.ca. Expected one of them: ca has no effect with insecureSkipVerify. Remove insecureSkipVerify.
{{- end -}}
{{- if and $p.basicAuth.username (not $p.basicAuth.existingSecret) }}
- prometheus.basicAuth.existingSecret: "" beside username {{ $p.basicAuth.username | quote }}. Expected both: username and existingSecret belong together. Name the Secret that holds the password.
{{- else if and $p.basicAuth.existingSecret (not $p.basicAuth.username) }}
- prometheus.basicAuth.username: "" beside existingSecret {{ $p.basicAuth.existingSecret | quote }}. Expected both: username and existingSecret belong together. Name the user.
{{- end -}}
{{- if and .Values.serviceAccount.name .Values.serviceAccount.annotations }}
- serviceAccount.annotations: {{ toJson .Values.serviceAccount.annotations }} beside name {{ .Values.serviceAccount.name | quote }}. Expected one of them: an account that exists is not changed. Annotate it yourself, or remove name.
{{- end -}}
{{- if and .Values.prometheusHistoryURL (not .Values.prometheusURL) }}
- prometheusHistoryURL: {{ .Values.prometheusHistoryURL | quote }} without prometheusURL. Expected prometheusURL, where the load of now is read. Set both, or prometheusURL alone.
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "DOPD_PROMETHEUS_" .name }}
- extraEnv: {{ .name | quote }} is the chart's own. Expected another variable: this one follows from prometheusURL and prometheus. Set it there.
{{- end -}}
{{- end -}}
{{- end -}}
