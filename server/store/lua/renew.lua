#!lua flags=allow-oom
-- Reset the idle time of deliveries that are still this worker's. Returns the ids of those that are not.
-- XCLAIM alone would take back what another worker has taken over.
-- KEYS: queue
-- ARGV: group worker [id]...
local lost = {}
for i = 3, #ARGV do
  local pending = redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] and pending[1][2] == ARGV[2] then
    redis.call("XCLAIM", KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], "JUSTID")
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
