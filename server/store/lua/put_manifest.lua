#!lua
-- Make a snapshot known once all its blocks are there. The first manifest of a turn stays. Whose fence is the
-- session's by now does not matter: a committed turn never changes, nor does the state at it.
-- Returns {"OK"}, {"GONE"} (the session is no more), {"UNKNOWN"} (no such turn is committed) or {"MISSING", hash...}.
-- KEYS: session turns snaps blocks
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
redis.call("HSETNX", KEYS[3], ARGV[2], ARGV[3])
local ttl = tonumber(ARGV[1])
for _, key in ipairs({ KEYS[3], KEYS[4] }) do
  if redis.call("PTTL", key) < ttl then
    redis.call("PEXPIRE", key, math.ceil(ttl * 1.02))
  end
end
return { "OK" }
