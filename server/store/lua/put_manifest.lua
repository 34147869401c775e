#!lua
-- Make a snapshot known once all its blocks are there. The first manifest of a turn stays. Whose fence is the
-- session's by now does not matter: a committed turn never changes, nor does the state at it.
-- Returns {"OK"}, {"GONE"} (the session is no more), {"UNKNOWN"} (there is no such turn, or no more) or {"MISSING", hash...}.
-- KEYS: session turns snaps blocks lineage
-- ARGV: session_ttl_ms turn_id manifest [hash]...
if redis.call("EXISTS", KEYS[1]) == 0 then
  return { "GONE" }
end
if redis.call("HEXISTS", KEYS[2], ARGV[2]) == 0 then
  return { "UNKNOWN" }
end
local answer = { "MISSING" }
for i = 4, #ARGV do
  if redis.call("HEXISTS", KEYS[4], ARGV[i]) == 0 then
    answer[#answer + 1] = ARGV[i]
  end
end
if answer[2] then
  return answer
end
if redis.call("HSETNX", KEYS[3], ARGV[2], ARGV[3]) == 1 then
  redis.call("HINCRBY", KEYS[5], "version", 1)
end
local ttl = tonumber(ARGV[1])
for _, key in ipairs({ KEYS[3], KEYS[4], KEYS[5] }) do
  if redis.call("PTTL", key) < ttl then
    redis.call("PEXPIRE", key, math.ceil(ttl * 1.02))
  end
end
return { "OK" }
