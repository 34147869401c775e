#!lua
-- Store blocks under the fence. Returns OK or FENCED.
-- KEYS: session blocks
-- ARGV: fence session_ttl_ms [hash data]...
if redis.call("HGET", KEYS[1], "fence") ~= ARGV[1] then
  return "FENCED"
end
for i = 3, #ARGV, 2 do
  redis.call("HSETNX", KEYS[2], ARGV[i], ARGV[i + 1])
end
local ttl = tonumber(ARGV[2])
if redis.call("PTTL", KEYS[2]) < ttl then
  redis.call("PEXPIRE", KEYS[2], math.ceil(ttl * 1.02))
end
return "OK"
