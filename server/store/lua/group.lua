#!lua flags=allow-oom
-- Make the queue and its consumer group, where there are none; also in a full store, that it may be emptied.
-- KEYS: queue
-- ARGV: group
local answer = redis.pcall("XGROUP", "CREATE", KEYS[1], ARGV[1], "0", "MKSTREAM")
if answer.err and not string.find(answer.err, "BUSYGROUP", 1, true) then
  return answer
end
return "OK"
