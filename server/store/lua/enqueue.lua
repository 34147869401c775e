#!lua
-- Put a generation in the queue, unless it is there: before the worker `prefer` where that one lives, else before all.
-- A tenant has one turn at most in a stream that nobody has got yet. Another one waits until that is delivered
-- (claim.lua), as "<whose stream>\n<tenant>\n<its time, µs>\n<generation>" in `waiting`, of which the order of letters is
-- the order of turns.
-- KEYS: queue queued intended stream alive waiting
-- ARGV: group gid prefer tenant queued_ttl_ms maxlen
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
local pair = owner .. "\n" .. ARGV[4] .. "\n"
local before = redis.call("ZRANGEBYLEX", KEYS[6], "[" .. pair, "(" .. pair .. "\255", "LIMIT", 0, 1)[1] ~= nil
if not before then
  for _, flat in ipairs(redis.pcall("XINFO", "GROUPS", stream)) do
    local info = {}
    for i = 1, #flat, 2 do
      info[flat[i]] = flat[i + 1]
    end
    if info.name == ARGV[1] then
      for _, entry in ipairs(redis.call("XRANGE", stream, "(" .. info["last-delivered-id"], "+", "COUNT", 1000)) do
        before = before or (entry[2][4] or "") == ARGV[4]
      end
    end
  end
end
local now = redis.call("TIME")
local since = string.format("%d%06d", now[1], now[2])
if before and redis.call("ZCARD", KEYS[6]) < tonumber(ARGV[6]) then
  local member = pair .. since .. "\n" .. ARGV[2]
  redis.call("ZADD", KEYS[6], 0, member)
  redis.call("PEXPIRE", KEYS[6], ARGV[5])
  redis.call("SET", KEYS[2], "\n" .. member, "PX", ARGV[5])
  return "OK"
end
local id = redis.call(
  "XADD", stream, "MAXLEN", "~", ARGV[6], "*", "generation", ARGV[2], "tenant", ARGV[4], "since", since
)
redis.call("SET", KEYS[2], id .. " " .. owner, "PX", ARGV[5])
return "OK"
