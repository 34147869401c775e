#!lua flags=allow-oom
-- Drop snapshots and the blocks that only they used, under the fence, if the snapshots are still those the caller
-- saw. The arguments after the counts: turns seen, turns to drop, hashes to drop.
-- Returns OK, FENCED or CHANGED.
-- KEYS: session snaps blocks
-- ARGV: fence seen dropped [item]...
if redis.call("HGET", KEYS[1], "fence") ~= ARGV[1] then
  return "FENCED"
end
local seen, dropped = tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call("HLEN", KEYS[2]) ~= seen then
  return "CHANGED"
end
for i = 4, 3 + seen do
  if redis.call("HEXISTS", KEYS[2], ARGV[i]) == 0 then
    return "CHANGED"
  end
end
for i = 4 + seen, #ARGV do
  redis.call("HDEL", i < 4 + seen + dropped and KEYS[2] or KEYS[3], ARGV[i])
end
return "OK"
