#!lua flags=allow-oom
-- One request of a tenant's bucket, which holds a minute's worth and fills evenly. Returns how long to wait, in ms: 0
-- where it was taken, else nothing was. The time is the store's own, so that every api means the same by it.
-- Kept is when the bucket will be full again: one number, whatever the limit.
-- KEYS: rate
-- ARGV: per_minute
local time = redis.call("TIME")
local now = time[1] * 1000 + time[2] / 1000
local full = math.max(tonumber(redis.call("GET", KEYS[1]) or 0), now) + 60000 / ARGV[1]
local wait = full - now - 60000
if wait > 0.5 then
  return math.ceil(wait)
end
redis.call("SET", KEYS[1], string.format("%.3f", full), "PX", math.ceil(full - now))
return 0
