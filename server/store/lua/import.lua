#!lua
-- Make what was staged a session, the first branch of its lineage, if all of it is there.
-- Returns OK or LOST (something has expired meanwhile, or was never written). A repeat answers OK.
-- KEYS: session lineage turns snaps blocks gone
-- ARGV: turns_staged snaps_staged blocks_staged tenant model fingerprint state_bytes head length end now turns stored_bytes session_ttl_ms gone_ttl_ms
local session = KEYS[1]
if redis.call("EXISTS", session) == 1 then
  return "OK"
end
-- Nobody else writes to a lineage that has no session yet, so as many as were staged are the ones that were.
local staged = { { KEYS[3], ARGV[1] }, { KEYS[4], ARGV[2] }, { KEYS[5], ARGV[3] } }
for _, part in ipairs(staged) do
  if redis.call("HLEN", part[1]) ~= tonumber(part[2]) then
    return "LOST"
  end
end
redis.call(
  "HSET", session, "tenant", ARGV[4], "model", ARGV[5], "fingerprint", ARGV[6], "head", ARGV[8], "length", ARGV[9],
  "end", ARGV[10], "created", ARGV[11], "updated", ARGV[11], "running", "", "fence", "0-", "state_bytes", ARGV[7],
  "stored_bytes", ARGV[13], "turns", ARGV[12], "kept", ARGV[1], "stored", "1"
)
redis.call("HSET", KEYS[2], "b:0", "1", "next", "1", "version", "0")
redis.call("PEXPIRE", session, ARGV[14])
for _, key in ipairs({ KEYS[2], KEYS[3], KEYS[4], KEYS[5] }) do
  redis.call("PEXPIRE", key, math.ceil(ARGV[14] * 1.02))
end
redis.call("SET", KEYS[6], ARGV[4], "PX", ARGV[15])
return "OK"
