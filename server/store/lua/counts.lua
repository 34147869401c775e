#!lua flags=no-writes
-- How often each of these deliveries has been delivered; 0 for one that is no longer pending.
-- KEYS: queue
-- ARGV: group [id]...
local counts = {}
for i = 2, #ARGV do
  local pending = redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  counts[#counts + 1] = pending[1] and pending[1][4] or 0
end
return counts
