# Makes schemas.txt of Fly's OpenAPI document of the Machines API (https://docs.machines.dev):
#
#     jq -rf schemas.jq DOCUMENT.json > schemas.txt
#
# `call METHOD PATH STATUS TYPE` for each answer that the document has to a call of flylet's, and `field SCHEMA NAME TYPE` for each
# field of the schemas in them. A TYPE is a word of JSON, a schema, a list `[TYPE]`, or `map` of strings.
def kind:
  if .["$ref"] then .["$ref"] | sub(".*/"; "")
  elif .allOf then .allOf[0] | kind
  elif .type == "array" then "[" + (.items | kind) + "]"
  elif .type == "object" and (.additionalProperties | type) == "object" and .additionalProperties.type == "string" then "map"
  else .type // "any" end;
def schemas: [.. | objects | .["$ref"] // empty | sub(".*/"; "")] | unique;
def closed($all): . as $known | ([.[] | $all[.] | schemas[]] + . | unique) as $more
  | if $more == $known then $known else $more | closed($all) end;
.components.schemas as $all
| (["/apps", "/apps/{app_name}", "/apps/{app_name}/machines", "/platform/regions", "/tokens/current"]
  + (["", "/cordon", "/uncordon", "/events", "/lease", "/metadata", "/metadata/{key}", "/restart", "/signal", "/start", "/stop",
     "/suspend", "/versions", "/wait"] | map("/apps/{app_name}/machines/{machine_id}" + .))) as $paths
| [.paths | to_entries[] | select(.key | IN($paths[])) | .key as $path | .value | to_entries[]
   | select(.key != "parameters") | .key as $method | .value.responses | to_entries[]
   | {line: "call \($method | ascii_upcase) \($path) \(.key) \(.value.content["application/json"].schema // {} | kind)",
      schema: .value.content["application/json"].schema}] as $calls
| ([$calls[].line] | sort | .[]),
  ([$calls[].schema | select(.) | schemas[]] | unique | closed($all) | .[] as $name | $all[$name]
   | if .properties then .properties | to_entries[] | "field \($name) \(.key) \(.value | kind)"
     else "field \($name) . \(.type // "any")" end)
