#!lua flags=allow-oom
-- Take a worker off the list now. What waits for it, or is in its hands still, is for the others to take.
-- KEYS: alive workers queue stream
-- ARGV: group worker
redis.call("DEL", KEYS[1])
redis.call("ZREM", KEYS[2], ARGV[2])
if redis.call("XLEN", KEYS[4]) == 0 then
  redis.call("DEL", KEYS[4])
  local pending = redis.pcall("XPENDING", KEYS[3], ARGV[1], "-", "+", 1, ARGV[2])
  if not pending.err and #pending == 0 then
    redis.call("XGROUP", "DELCONSUMER", KEYS[3], ARGV[1], ARGV[2])
  end
end
return "OK"
