-- Health of an Application, for Applications that are synced in waves: Argo CD has none by itself since 1.8.
local health = obj.status and obj.status.health
if health == nil or health.status == nil then
  return {status = "Progressing", message = "not synced yet"}
end
return {status = health.status, message = health.message or ""}
