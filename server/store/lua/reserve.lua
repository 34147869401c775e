#!lua
-- A place among a tenant's generations, for one that is about to be accepted: held for ticket_ms, unless it is turned
-- into the generation before. Returns nothing where there is one, else all who hold places: some may have ended.
-- A repeat finds its place.
-- KEYS: running
-- ARGV: ticket most ticket_ms key_ms
local running, now = KEYS[1], redis.call("TIME")[1]
redis.call("ZREMRANGEBYSCORE", running, "-inf", now)
if not redis.call("ZSCORE", running, ARGV[1]) then
  if redis.call("ZCARD", running) >= tonumber(ARGV[2]) then
    return redis.call("ZRANGE", running, 0, -1)
  end
  redis.call("ZADD", running, now + math.ceil(ARGV[3] / 1000), ARGV[1])
end
redis.call("PEXPIRE", running, ARGV[4])
return {}
