#!lua flags=allow-oom
-- Delete a session, its lineage's storage, and what its generations left. Returns {"OK"} or {"BUSY", running
-- generation}. A repeat answers OK.
-- KEYS: session blocker turns snaps blocks [trace]...
-- ARGV: blocker_id
local running = redis.call("HGET", KEYS[1], "running")
if running and running ~= "" and (running ~= ARGV[1] or redis.call("EXISTS", KEYS[2]) == 1) then
  return { "BUSY", running }
end
redis.call("DEL", KEYS[1])
for i = 3, #KEYS do
  redis.call("DEL", KEYS[i])
end
return { "OK" }
