#!lua
-- Put a generation in the queue, unless it is there: before the worker `prefer` where that one lives, else before all.
-- KEYS: queue queued intended stream alive
-- ARGV: group gid prefer queued_ttl_ms maxlen
redis.call("ZREM", KEYS[3], ARGV[2])
if redis.call("EXISTS", KEYS[2]) == 1 then
  return "OK"
end
local stream, owner = KEYS[1], ""
if ARGV[3] ~= "" and redis.call("EXISTS", KEYS[5]) == 1 then
  -- The others find its stream by its name among the readers.
  if type(redis.pcall("XGROUP", "CREATECONSUMER", KEYS[1], ARGV[1], ARGV[3])) == "number" then
    redis.pcall("XGROUP", "CREATE", KEYS[4], ARGV[1], "0", "MKSTREAM")
    stream, owner = KEYS[4], ARGV[3]
  end
end
local id = redis.call("XADD", stream, "MAXLEN", "~", ARGV[5], "*", "generation", ARGV[2])
redis.call("SET", KEYS[2], id .. " " .. owner, "PX", ARGV[4])
return "OK"
