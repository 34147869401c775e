#!lua
-- Note how a response ended, where its record is there yet. Returns OK or GONE.
-- KEYS: responses
-- ARGV: own ending
if redis.call("HEXISTS", KEYS[1], ARGV[1]) == 0 then
  return "GONE"
end
redis.call("HSET", KEYS[1], ARGV[1] .. ":end", ARGV[2])
return "OK"
