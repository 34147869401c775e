#!lua flags=allow-oom
-- Reset the idle time of deliveries that are still this worker's. Returns the places (from 1) of those that are not.
-- XCLAIM alone would take back what another worker has taken over.
-- KEYS: [stream]...
-- ARGV: group worker [id]...
local lost = {}
for i = 3, #ARGV do
  local stream = KEYS[i - 2]
  local pending = redis.pcall("XPENDING", stream, ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] and pending[1][2] == ARGV[2] then
    redis.call("XCLAIM", stream, ARGV[1], ARGV[2], 0, ARGV[i], "JUSTID")
  else
    lost[#lost + 1] = i - 2
  end
end
return lost
