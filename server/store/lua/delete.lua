#!lua flags=allow-oom
-- Delete a session and its lineage's storage. Returns {"OK"} or {"BUSY", running generation}. A repeat answers OK.
-- KEYS: session blocker turns snaps blocks
-- ARGV: blocker_id
local running = redis.call("HGET", KEYS[1], "running")
if running and running ~= "" and (running ~= ARGV[1] or redis.call("EXISTS", KEYS[2]) == 1) then
  return { "BUSY", running }
end
redis.call("DEL", KEYS[1], KEYS[3], KEYS[4], KEYS[5])
return { "OK" }
