#!lua flags=allow-oom
-- Delete a session and what its generations left; with the last branch of a lineage also all that the lineage stored.
-- Returns {"OK"}, {"SHARED"} (other branches are listed: what only this one needed is the caller's to prune) or
-- {"BUSY", running generation}. A repeat answers the same.
-- KEYS: session blocker lineage turns snaps blocks responses response_order [trace]...
-- ARGV: blocker_id branch
local lineage = KEYS[3]
local running = redis.call("HGET", KEYS[1], "running")
if running and running ~= "" and (running ~= ARGV[1] or redis.call("EXISTS", KEYS[2]) == 1) then
  return { "BUSY", running }
end
redis.call("DEL", KEYS[1])
for i = 9, #KEYS do
  redis.call("DEL", KEYS[i])
end
redis.call("HDEL", lineage, "b:" .. ARGV[2])
for _, field in ipairs(redis.call("HKEYS", lineage)) do
  if string.sub(field, 1, 2) == "b:" then
    redis.call("HINCRBY", lineage, "version", 1)
    return { "SHARED" }
  end
end
redis.call("DEL", lineage, KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])
return { "OK" }
