#!lua flags=allow-oom
-- Take a generation that was cancelled before it began out of the queue, also where a worker has just been given it.
-- A repeat finds nothing and leaves it so.
-- KEYS: queue queued
-- ARGV: group
local id = redis.call("GET", KEYS[2])
if id then
  redis.call("XACK", KEYS[1], ARGV[1], id)
  redis.call("XDEL", KEYS[1], id)
  redis.call("DEL", KEYS[2])
end
return "OK"
