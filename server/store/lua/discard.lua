#!lua flags=allow-oom
-- Forget the record of a response. A repeat finds nothing to do.
-- KEYS: responses order
-- ARGV: own
local responses, own = KEYS[1], ARGV[1]
local gone = redis.call("HSTRLEN", responses, own) + redis.call("HSTRLEN", responses, own .. ":end")
if gone > 0 then
  redis.call("HDEL", responses, own, own .. ":end")
  redis.call("ZREM", KEYS[2], own)
  redis.call("HINCRBY", responses, "bytes", -gone)
end
return "OK"
