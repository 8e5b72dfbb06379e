{{/* Values are checked in checks/values.yaml, which Helm renders first. */}}
{{- define "dopd.shortName" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{/* Name of what lies in the release's namespace: two releases there have two names. */}}
{{- define "dopd.name" -}}
{{- $short := include "dopd.shortName" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $short .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $short | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* Name of what lies in no namespace: releases of one name in two namespaces do not meet. */}}
{{- define "dopd.clusterName" -}}
{{ include "dopd.name" . }}-{{ .Release.Namespace }}
{{- end -}}

{{- define "dopd.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "dopd.name" .) }}
{{- end -}}

{{- define "dopd.image" -}}
{{- $image := .Values.image -}}
{{- $host := regexMatch "^([^/]*[.:][^/]*|localhost)/" $image.repository -}}
{{- $registry := $host | ternary "" (.Values.global.imageRegistry | default $image.registry) -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "dopd.selector" -}}
app.kubernetes.io/name: {{ include "dopd.shortName" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dopd.labels" -}}
{{ include "dopd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with omit .Values.commonLabels "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of the pod of `dopd counterfactual`: no selector of the operator's takes it for one of the operator's. */}}
{{- define "dopd.counterfactualSelector" -}}
app.kubernetes.io/name: {{ include "dopd.shortName" . }}-counterfactual
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dopd.counterfactualLabels" -}}
{{ include "dopd.labels" . | fromYaml | merge (include "dopd.counterfactualSelector" . | fromYaml) | toYaml }}
{{- end -}}

{{/* It reads these and nothing else, and writes nothing. */}}
{{- define "dopd.counterfactualRules" -}}
- apiGroups: [dopd.dev]
  resources: [disaggregatedinferences, engineprofiles]
  verbs: [get, list]
{{- end -}}

{{/* Ports of Prometheus that a policy lets through: as said, else those of the URLs. */}}
{{- define "dopd.prometheusPorts" -}}
{{- $ports := .Values.networkPolicy.prometheusPorts -}}
{{- if not $ports -}}
{{- range list .Values.prometheusURL .Values.prometheusHistoryURL -}}
{{- if . -}}
{{- $usual := hasPrefix "https:" . | ternary 443 80 -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" | default $usual | int) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | default (list 9090) | uniq | toJson -}}
{{- end -}}

{{- define "dopd.podMonitors" -}}
{{- if kindIs "bool" .Values.podMonitor.enabled -}}
{{- if .Values.podMonitor.enabled }}yes{{ end -}}
{{- else if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
yes
{{- end -}}
{{- end -}}

{{/* What the operator does with each kind; every verb is one that it uses. */}}
{{- define "dopd.rules" -}}
- apiGroups: [dopd.dev]
  resources: [disaggregatedinferences, engineprofiles]
  verbs: [get, list, watch]
- apiGroups: [dopd.dev]
  resources: [disaggregatedinferences/status]
  verbs: [patch]
# How many workers a scaler of the user's own asks for (mode: External). The number is the scaler's.
- apiGroups: [dopd.dev]
  resources: [workerscales]
  verbs: [get, list, watch, create, delete]
- apiGroups: [dopd.dev]
  resources: [workerscales/status]
  verbs: [patch]
# Deployments: the gateways. ControllerRevisions: what workers are made from.
- apiGroups: [apps]
  resources: [deployments, controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
# What earlier versions made: workers are taken over from it.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, delete]
# ConfigMaps: the settings of the order of prompts, one for each resource.
- apiGroups: [""]
  resources: [services, serviceaccounts, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# The workers. get, list and watch are also what the gateway's Role grants: nobody may grant what he may not do.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
# Workers of several nodes. Where no LeaderWorkerSets are installed, this grants nothing.
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [list, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- with .Values.apiKeySecrets }}
# The keys that engines and gateways ask for, and no other Secret.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson . }}
  verbs: [get]
{{- end }}
{{- end -}}
