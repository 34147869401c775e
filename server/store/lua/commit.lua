#!lua
-- End a generation with its turn, under the fence: the turn, the session's head, its status, its last event, TTLs.
-- Returns OK, FENCED, HOLE (an event before the last is missing) or MISMATCH (the head is not the turn's parent).
-- A repeat whose result is the one stored answers OK. Without a turn: finish.lua.
-- worker: who keeps the state warm, empty where nobody does.
-- KEYS: gen events session turns snaps blocks lineage gone
-- ARGV: gid fence now status result sequence type data channel turn_id turn parent length end session_ttl_ms events_ttl_ms gone_ttl_ms worker
local gen, events, session, turns = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held = redis.call("HMGET", gen, "fence", "status", "result")
if held[1] ~= ARGV[2] then
  return "FENCED"
end
if held[2] ~= "running" then
  return held[3] == ARGV[5] and "OK" or "FENCED"
end
local owner = redis.call("HMGET", session, "running", "fence", "head", "tenant", "stored_bytes", "turns", "kept", "end", "worker", "tier")
if owner[1] ~= ARGV[1] or owner[2] ~= ARGV[2] then
  return "FENCED"
end
local top = redis.call("XREVRANGE", events, "+", "-", "COUNT", 1)
local last = top[1] and tonumber(string.match(top[1][1], "^%d+")) or 0
if tonumber(ARGV[6]) ~= last + 1 then
  return "HOLE"
end

if owner[3] ~= ARGV[12] then
  return "MISMATCH"
end

local session_ttl, events_ttl = tonumber(ARGV[15]), tonumber(ARGV[16])
redis.call("HSET", turns, ARGV[10], ARGV[11])
redis.call(
  "HSET", session, "head", ARGV[10], "length", ARGV[13], "updated", ARGV[3], "running", "",
  "stored_bytes", string.format("%.0f", owner[5] + #ARGV[11]), "turns", string.format("%.0f", owner[6] + 1),
  "kept", string.format("%.0f", owner[7] + 1)
)
-- What seldom changes is seldom written.
local tier = ARGV[18] ~= "" and "slot" or "redis"
for i, pair in ipairs({ { "end", ARGV[14] }, { "worker", ARGV[18] }, { "tier", tier } }) do
  if owner[7 + i] ~= pair[2] then
    redis.call("HSET", session, pair[1], pair[2])
  end
end
-- A session's life is counted from its last use, to two in a hundred; the others live a little longer than they must.
if redis.call("PTTL", session) < session_ttl * 0.98 then
  redis.call("PEXPIRE", session, session_ttl)
end
for _, key in ipairs({ turns, KEYS[5], KEYS[6], KEYS[7] }) do
  if redis.call("PTTL", key) < session_ttl then
    redis.call("PEXPIRE", key, math.ceil(session_ttl * 1.02))
  end
end
if redis.call("PTTL", KEYS[8]) < session_ttl then
  redis.call("SET", KEYS[8], owner[4], "PX", ARGV[17])
end

redis.call("HSET", gen, "status", ARGV[4], "result", ARGV[5], "updated", ARGV[3], "request", "")
redis.call("XADD", events, ARGV[6] .. "-0", "type", ARGV[7], "data", ARGV[8])
redis.call("PUBLISH", ARGV[9], ARGV[6] .. " " .. ARGV[7] .. " " .. ARGV[8])
for _, key in ipairs({ gen, events }) do
  if redis.call("PTTL", key) < events_ttl * 0.9 then
    redis.call("PEXPIRE", key, events_ttl)
  end
end
return "OK"
