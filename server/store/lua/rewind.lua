#!lua
-- Let an idle session stand at an earlier turn of its own. What it leaves is pruned with the next snapshot.
-- Returns {"OK"}, {"GONE"}, {"BUSY", running generation}, {"MISMATCH"} (its head is not the one the caller saw) or
-- {"UNKNOWN"} (the turn is stored no more). A repeat answers OK.
-- KEYS: session blocker turns snaps blocks lineage
-- ARGV: blocker_id seen_head head length end turns kept stored_bytes now session_ttl_ms
local session = KEYS[1]
local held = redis.call("HMGET", session, "running", "head")
local running = held[1]
if not running then
  return { "GONE" }
end
if running ~= "" and (running ~= ARGV[1] or redis.call("EXISTS", KEYS[2]) == 1) then
  return { "BUSY", running }
end
if held[2] == ARGV[3] then
  return { "OK" }
end
if held[2] ~= ARGV[2] then
  return { "MISMATCH" }
end
if ARGV[3] ~= "" and redis.call("HEXISTS", KEYS[3], ARGV[3]) == 0 then
  return { "UNKNOWN" }
end
redis.call(
  "HSET", session, "head", ARGV[3], "length", ARGV[4], "end", ARGV[5], "turns", ARGV[6], "kept", ARGV[7],
  "stored_bytes", ARGV[8], "updated", ARGV[9], "worker", "", "tier", "redis", "running", ""
)
redis.call("HINCRBY", KEYS[6], "version", 1)
local session_ttl = tonumber(ARGV[10])
redis.call("PEXPIRE", session, session_ttl)
for _, key in ipairs({ KEYS[3], KEYS[4], KEYS[5], KEYS[6] }) do
  if redis.call("PTTL", key) < session_ttl then
    redis.call("PEXPIRE", key, math.ceil(session_ttl * 1.02))
  end
end
return { "OK" }
