#!lua flags=allow-oom
-- Drop snapshots, turns and blocks that no branch needs, and the entries of branches that are no more, if nothing
-- changed since the caller looked that could need them: every fork, rewind, deletion and snapshot raises the
-- lineage's version. A commit does not: it needs its parent, which is a head. Blocks whose manifest is yet to come may
-- go; their writer is told so. A session's figures are changed by differences: turns may have been committed since.
-- The items: snapshots, turns and blocks to drop, dead branches, then for each session what its `kept` and its
-- `stored_bytes` change by. Returns OK or CHANGED.
-- KEYS: lineage snaps turns blocks [session]...
-- ARGV: version snaps turns blocks branches [item]...
local lineage = KEYS[1]
if redis.call("HGET", lineage, "version") ~= ARGV[1] then
  return "CHANGED"
end
-- Another who looked at the same version would apply its differences again.
redis.call("HINCRBY", lineage, "version", 1)
local at = 6
for i, key in ipairs({ KEYS[2], KEYS[3], KEYS[4], lineage }) do
  for _ = 1, tonumber(({ ARGV[2], ARGV[3], ARGV[4], ARGV[5] })[i]) do
    redis.call("HDEL", key, ARGV[at])
    at = at + 1
  end
end
for i = 5, #KEYS do
  if redis.call("EXISTS", KEYS[i]) == 1 then
    redis.call("HINCRBY", KEYS[i], "kept", ARGV[at])
    redis.call("HINCRBY", KEYS[i], "stored_bytes", ARGV[at + 1])
  end
  at = at + 2
end
return "OK"
