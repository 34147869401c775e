#!lua
-- Keep the record of a response, once: a repeat leaves what is there alone. Past `most` of a lineage the oldest go.
-- The field "bytes" of `responses` says how many all others take. Returns the record that is kept.
-- KEYS: responses order
-- ARGV: own record now most session_ttl_ms
local responses, order = KEYS[1], KEYS[2]
if redis.call("HSETNX", responses, ARGV[1], ARGV[2]) == 1 then
  local grown = #ARGV[2]
  redis.call("ZADD", order, ARGV[3], ARGV[1])
  for _, own in ipairs(redis.call("ZRANGE", order, 0, -tonumber(ARGV[4]) - 1)) do
    grown = grown - redis.call("HSTRLEN", responses, own) - redis.call("HSTRLEN", responses, own .. ":end")
    redis.call("HDEL", responses, own, own .. ":end")
    redis.call("ZREM", order, own)
  end
  redis.call("HINCRBY", responses, "bytes", grown)
end
redis.call("PEXPIRE", responses, ARGV[5])
redis.call("PEXPIRE", order, ARGV[5])
return redis.call("HGET", responses, ARGV[1])
