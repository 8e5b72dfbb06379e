-- Health of a DisaggregatedInference in Argo CD, from its conditions (docs/gitops.md).
-- Argo CD gives it Lua's base and table libraries and no others: there is no string.format here.

-- These reasons wait for a person. Any other reason passes by itself, and is progress.
local BROKEN = {
  InvalidSpec = true, SpecRefused = true, ChildRefused = true, NameTaken = true, PortTaken = true,
  LeaderWorkerSetsMissing = true,
  ImagePull = true, ContainerConfig = true, Crashing = true,
  RolloutHeld = true, RolledBack = true, NoSpareGpu = true,
  RouterOutOfSync = true, ApiKeyUnreadable = true,
  NoProfile = true,
}
-- Conditions that tell whether the cluster is as Git says, the most telling first.
-- The others tell how well the load is known and met: they are for alerts.
local JUDGED = {"Ready", "Reconciled", "RolledOut", "WorkersAvailable", "RouterInSync", "ProfileFound"}

local function health(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not acted on this version of the resource yet")
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end

local progress = nil
for _, kind in ipairs(JUDGED) do
  local condition = found[kind]
  if condition ~= nil and condition.status ~= "True" then
    local message = condition.reason .. ": " .. (condition.message or "")
    if BROKEN[condition.reason] then
      return health("Degraded", message)
    end
    progress = progress or message
  end
end
if found.Ready == nil then
  progress = progress or "condition Ready is not told yet"
end
if progress ~= nil then
  return health("Progressing", progress)
end

if found.Ready.reason == "Asleep" then
  return health(status.mode == "Paused" and "Suspended" or "Healthy", "asleep: " .. (found.Ready.message or ""))
end
local serving = "serves with prefill " .. status.prefill.ready .. ", decode " .. status.decode.ready
if status.mode == "Paused" then
  return health("Suspended", "scaling is paused; " .. serving)
end
return health("Healthy", serving)
