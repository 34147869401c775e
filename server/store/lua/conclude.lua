#!lua
-- Note how a response ended, where its record is there yet. Returns OK or GONE.
-- KEYS: responses
-- ARGV: own ending
local responses, field = KEYS[1], ARGV[1] .. ":end"
if redis.call("HEXISTS", responses, ARGV[1]) == 0 then
  return "GONE"
end
redis.call("HINCRBY", responses, "bytes", #ARGV[2] - redis.call("HSTRLEN", responses, field))
redis.call("HSET", responses, field, ARGV[2])
return "OK"
