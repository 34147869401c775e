#!lua
-- Store blocks of a snapshot at a committed turn. Whose fence is the session's by now does not matter: a committed
-- turn never changes, nor does the state at it, and a block is named by what it holds.
-- Returns OK, GONE (the session is no more) or UNKNOWN (there is no such turn, or no more).
-- KEYS: session turns blocks
-- ARGV: session_ttl_ms turn_id [hash data]...
if redis.call("EXISTS", KEYS[1]) == 0 then
  return "GONE"
end
if redis.call("HEXISTS", KEYS[2], ARGV[2]) == 0 then
  return "UNKNOWN"
end
for i = 3, #ARGV, 2 do
  redis.call("HSETNX", KEYS[3], ARGV[i], ARGV[i + 1])
end
local ttl = tonumber(ARGV[1])
if redis.call("PTTL", KEYS[3]) < ttl then
  redis.call("PEXPIRE", KEYS[3], math.ceil(ttl * 1.02))
end
return "OK"
