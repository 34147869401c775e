#!lua flags=allow-oom
-- Drop snapshots and blocks that none of the others names, if the manifests are still those the caller saw: a block
-- of one that came meanwhile is kept. A writer whose manifest is yet to come is told which of its blocks are missing.
-- The arguments after the counts: turns seen and the SHA-1 of each one's manifest, turns to drop, hashes to drop.
-- Returns OK or CHANGED.
-- KEYS: snaps blocks
-- ARGV: seen dropped [item]...
local seen, dropped = tonumber(ARGV[1]), tonumber(ARGV[2])
if redis.call("HLEN", KEYS[1]) ~= seen then
  return "CHANGED"
end
for i = 3, 2 + 2 * seen, 2 do
  local manifest = redis.call("HGET", KEYS[1], ARGV[i])
  if not manifest or redis.sha1hex(manifest) ~= ARGV[i + 1] then
    return "CHANGED"
  end
end
for i = 3 + 2 * seen, #ARGV do
  redis.call("HDEL", i < 3 + 2 * seen + dropped and KEYS[1] or KEYS[2], ARGV[i])
end
return "OK"
