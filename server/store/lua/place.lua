#!lua flags=allow-oom
-- Say where a session's state is now, if it is still this worker that has it and the head is the turn it is of.
-- KEYS: session
-- ARGV: worker turn_id tier
local held = redis.call("HMGET", KEYS[1], "worker", "head")
if held[1] == ARGV[1] and held[2] == ARGV[2] then
  redis.call("HSET", KEYS[1], "tier", ARGV[3])
  if ARGV[3] == "redis" then
    redis.call("HSET", KEYS[1], "worker", "")
  end
end
return "OK"
