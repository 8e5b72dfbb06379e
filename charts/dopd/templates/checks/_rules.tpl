{{/*
What is wrong with a value by its rule, a line for each fault; empty if nothing is.
Takes path, value and rule, and as holder the same of what it is in. A value that is not there is null.
*/}}
{{- define "dopd.check" -}}
{{- $value := .value -}}
{{- $rule := .rule -}}
{{- $types := kindIs "slice" $rule.type | ternary $rule.type (list $rule.type) -}}
{{- $type := include "dopd.typeOf" $value -}}
{{- $fits := or (has $type $types) (and (eq $type "integer") (has "number" $types)) -}}
{{- $fault := "" -}}
{{- if not $fits -}}
{{- $fault = printf "is %s" (include "dopd.typeInWords" $type) -}}
{{- else if and $rule.enum (ne $type "null") -}}
{{- if not (has $value $rule.enum) }}{{ $fault = "can not be used" }}{{ end -}}
{{- else if eq $type "string" -}}
{{- if and $rule.pattern (not (regexMatch $rule.pattern $value)) -}}
{{- $fault = "can not be used" -}}
{{- else if and $rule.maxLength (gt (len $value) (int $rule.maxLength)) -}}
{{- $fault = printf "has %d characters" (len $value) -}}
{{- else if has $value ($rule.refused | default list) -}}
{{- $fault = "can not be used: the chart sets it" -}}
{{- end -}}
{{- else if has $type (list "integer" "number") -}}
{{- if and (hasKey $rule "minimum") (lt (float64 $value) (float64 $rule.minimum)) -}}
{{- $fault = "is too small" -}}
{{- else if and (hasKey $rule "maximum") (gt (float64 $value) (float64 $rule.maximum)) -}}
{{- $fault = "is too large" -}}
{{- end -}}
{{- else if eq $type "array" -}}
{{- if lt (len $value) (int ($rule.minItems | default 0)) -}}
{{- $fault = "is empty" -}}
{{- else if and $rule.uniqueItems (ne (len $value) (len (uniq $value))) -}}
{{- $fault = "says something twice" -}}
{{- end -}}
{{- end -}}
{{- if $fault }}
- {{ .path }}: {{ include "dopd.shown" $value }} {{ $fault }}. Expected {{ include "dopd.expected" $rule }}. {{ include "dopd.fix" . }}
{{- else if eq $type "array" -}}
{{- range $index, $item := $value -}}
{{- include "dopd.check" (dict "path" (printf "%s[%d]" $.path $index) "value" $item "rule" $rule.items "holder" $) -}}
{{- end -}}
{{- else if eq $type "object" -}}
{{- include "dopd.checkObject" . -}}
{{- end -}}
{{- end -}}

{{- define "dopd.checkObject" -}}
{{- $rule := .rule -}}
{{- $known := $rule.properties | default dict -}}
{{- $others := $rule.additionalProperties -}}
{{- $named := kindIs "invalid" $others | ternary false true -}}
{{- range $name, $value := .value -}}
{{- $path := empty $.path | ternary $name (printf "%s.%s" $.path $name) -}}
{{- if hasKey $known $name -}}
{{- include "dopd.check" (dict "path" $path "value" $value "rule" (get $known $name) "holder" $) -}}
{{- else if kindIs "map" $others -}}
{{- with $rule.propertyNames -}}
{{- if or (not (regexMatch .pattern $name)) (has $name (.refused | default list)) }}
- {{ $.path }}: {{ include "dopd.shown" $name }} is not taken as a name. Expected {{ .expected }}. {{ include "dopd.fix" $ }}
{{- end -}}
{{- end -}}
{{- include "dopd.check" (dict "path" $path "value" $value "rule" $others "holder" $) -}}
{{- else if not (and $named (eq (toString $others) "true")) }}
- {{ $path }}: {{ include "dopd.shown" $value }} is set, and there is no such value. Expected {{ empty $.path | ternary "" (printf "in %s " $.path) }}one of {{ keys $known | sortAlpha | join ", " }}. Correct the name, or remove it.
{{- end -}}
{{- end -}}
{{- $needed := hasKey $rule "required" | ternary $rule.required (keys $known | sortAlpha) -}}
{{- $holder := .value -}}
{{- range $name := $needed -}}
{{- $child := get $known $name -}}
{{- if and (not (hasKey $holder $name)) (not (has "null" (kindIs "slice" $child.type | ternary $child.type (list $child.type)))) -}}
{{- include "dopd.check" (dict "path" (empty $.path | ternary $name (printf "%s.%s" $.path $name)) "value" nil "rule" $child "holder" $) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* JSON Schema's name of a value's type. Numbers of a file are json.Number or float64, those of --set int64. */}}
{{- define "dopd.typeOf" -}}
{{- if kindIs "invalid" . -}}null
{{- else if kindIs "bool" . -}}boolean
{{- else if kindIs "map" . -}}object
{{- else if kindIs "slice" . -}}array
{{- else if and (kindIs "string" .) (not (contains "Number" (typeOf .))) -}}string
{{- else if eq (floor (float64 .)) (float64 .) -}}integer
{{- else -}}number
{{- end -}}
{{- end -}}

{{- define "dopd.typeInWords" -}}
{{- get (dict "null" "no value" "boolean" "true or false" "object" "a map" "array" "a list" "string" "a text" "integer" "a number" "number" "a number with a fraction") . -}}
{{- end -}}

{{/* A value in a message: one line, not too long. */}}
{{- define "dopd.shown" -}}
{{- trunc 200 (toJson .) -}}
{{- end -}}

{{- define "dopd.expected" -}}
{{- $types := kindIs "slice" .type | ternary .type (list .type) -}}
{{- if .enum -}}one of {{ join ", " .enum }}
{{- else if .expected -}}{{ .expected }}{{ if .maxLength }} ({{ int .maxLength }} at most){{ end }}
{{- else if has "boolean" $types -}}true{{ if has "null" $types }}, false or null{{ else }} or false{{ end }}
{{- else if has "integer" $types -}}a whole number{{ include "dopd.range" . }}
{{- else if has "number" $types -}}a number{{ include "dopd.range" . }}
{{- else if has "string" $types -}}a text
{{- else if has "array" $types -}}a list{{ if .minItems }} of one or more{{ end }}{{ if .uniqueItems }}, each once{{ end }}
{{- else -}}a map{{ with .properties }} with {{ keys . | sortAlpha | join ", " }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "dopd.range" -}}
{{- if and (hasKey . "minimum") (hasKey . "maximum") }} from {{ .minimum }} to {{ .maximum }}
{{- else if hasKey . "minimum" }} of {{ .minimum }} or more
{{- end -}}
{{- end -}}

{{/* What to do: the value's own example, or that of what holds it. */}}
{{- define "dopd.fix" -}}
{{- if hasKey .rule "example" -}}Write for example `{{ .path }}: {{ toJson .rule.example }}`.
{{- else if and .holder (hasKey .holder "rule") -}}{{ include "dopd.fix" .holder }}
{{- else -}}Remove the line that takes it away.
{{- end -}}
{{- end -}}
