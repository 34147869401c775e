#!lua
-- Make a snapshot known, under the fence, once all its blocks are there. The first manifest of a turn stays.
-- Returns {"OK"}, {"FENCED"}, {"UNKNOWN"} (no such turn is committed) or {"MISSING", hash...}.
-- KEYS: session turns snaps blocks
-- ARGV: fence session_ttl_ms turn_id manifest [hash]...
if redis.call("HGET", KEYS[1], "fence") ~= ARGV[1] then
  return { "FENCED" }
end
if redis.call("HEXISTS", KEYS[2], ARGV[3]) == 0 then
  return { "UNKNOWN" }
end
local answer = { "MISSING" }
for i = 5, #ARGV do
  if redis.call("HEXISTS", KEYS[4], ARGV[i]) == 0 then
    answer[#answer + 1] = ARGV[i]
  end
end
if answer[2] then
  return answer
end
redis.call("HSETNX", KEYS[3], ARGV[3], ARGV[4])
local ttl = tonumber(ARGV[2])
for _, key in ipairs({ KEYS[3], KEYS[4] }) do
  if redis.call("PTTL", key) < ttl then
    redis.call("PEXPIRE", key, math.ceil(ttl * 1.02))
  end
end
return { "OK" }
