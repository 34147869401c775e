#!lua
-- Make a new branch that stands at a turn of another one, which is thereby needed: from here on nothing prunes it.
-- Returns OK, GONE (the source is no more), UNKNOWN (its turn is stored no more) or FULL (too many branches).
-- A repeat answers OK.
-- KEYS: source session lineage turns snaps blocks gone
-- ARGV: source_id branch head length end turns kept stored_bytes stored now life_ms session_ttl_ms gone_ttl_ms most
local source, session, lineage = KEYS[1], KEYS[2], KEYS[3]
if redis.call("EXISTS", session) == 1 then
  return "OK"
end
local same = redis.call("HMGET", source, "tenant", "model", "fingerprint", "state_bytes")
if not same[1] then
  return "GONE"
end
if ARGV[3] ~= "" and redis.call("HEXISTS", KEYS[4], ARGV[3]) == 0 then
  return "UNKNOWN"
end
local branches = 0
for _, field in ipairs(redis.call("HKEYS", lineage)) do
  if string.sub(field, 1, 2) == "b:" then
    branches = branches + 1
  end
end
if branches >= tonumber(ARGV[14]) then
  return "FULL"
end
redis.call(
  "HSET", session, "tenant", same[1], "model", same[2], "fingerprint", same[3], "head", ARGV[3], "length", ARGV[4],
  "end", ARGV[5], "created", ARGV[10], "updated", ARGV[10], "running", "", "fence", "0-", "state_bytes", same[4],
  "stored_bytes", ARGV[8], "turns", ARGV[6], "kept", ARGV[7], "stored", ARGV[9], "origin", ARGV[1],
  "origin_turn", ARGV[3]
)
redis.call("PEXPIRE", session, ARGV[11])
redis.call("HSET", lineage, "b:" .. ARGV[2], "1")
redis.call("HINCRBY", lineage, "version", 1)
local session_ttl = tonumber(ARGV[12])
for _, key in ipairs({ lineage, KEYS[4], KEYS[5], KEYS[6] }) do
  if redis.call("PTTL", key) < session_ttl then
    redis.call("PEXPIRE", key, math.ceil(session_ttl * 1.02))
  end
end
if ARGV[9] == "1" then
  redis.call("SET", KEYS[7], same[1], "PX", ARGV[13])
end
return "OK"
