#!lua flags=allow-oom
-- Take deliveries off the queue for good; their generations may be queued again.
-- KEYS: queue [queued]...
-- ARGV: group [id]...
for i = 2, #ARGV do
  redis.call("XACK", KEYS[1], ARGV[1], ARGV[i])
  redis.call("XDEL", KEYS[1], ARGV[i])
  redis.call("DEL", KEYS[i])
end
return "OK"
