#!lua
-- Put a generation in the queue, unless it is there.
-- KEYS: queue queued
-- ARGV: gid queued_ttl_ms maxlen
if redis.call("EXISTS", KEYS[2]) == 1 then
  return "OK"
end
local id = redis.call("XADD", KEYS[1], "MAXLEN", "~", ARGV[3], "*", "generation", ARGV[1])
redis.call("SET", KEYS[2], id, "PX", ARGV[2])
return "OK"
