#!lua flags=allow-oom
-- Take a generation that was cancelled before it began out of the queue, also where a worker has just been given it.
-- `place` is where it was seen: "<id> <whose stream>", or a line's end and what stands for it in `waiting`, or empty.
-- Returns OK, or where it is instead.
-- KEYS: stream queued intended waiting
-- ARGV: group gid place
redis.call("ZREM", KEYS[3], ARGV[2])
local place = redis.call("GET", KEYS[2]) or ""
if place ~= ARGV[3] then
  return place
end
if string.sub(place, 1, 1) == "\n" then
  redis.call("ZREM", KEYS[4], string.sub(place, 2))
  redis.call("DEL", KEYS[2])
elseif place ~= "" then
  local id = string.match(place, "^%S+")
  redis.call("XACK", KEYS[1], ARGV[1], id)
  redis.call("XDEL", KEYS[1], id)
  redis.call("DEL", KEYS[2])
end
return "OK"
