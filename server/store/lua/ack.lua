#!lua flags=allow-oom
-- Take deliveries off the queue for good; their generations may be queued again.
-- KEYS: [stream queued]...
-- ARGV: group [id owner]...
for i = 2, #ARGV, 2 do
  local k = i - 1
  redis.call("XACK", KEYS[k], ARGV[1], ARGV[i])
  redis.call("XDEL", KEYS[k], ARGV[i])
  -- It may be in the queue anew, given back while this worker was away.
  if redis.call("GET", KEYS[k + 1]) == ARGV[i] .. " " .. ARGV[i + 1] then
    redis.call("DEL", KEYS[k + 1])
  end
end
return "OK"
