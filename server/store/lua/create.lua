#!lua
-- Write an empty session, the first branch of its lineage, once: a repeat finds it and leaves it alone.
-- KEYS: session lineage gone
-- ARGV: tenant model fingerprint state_bytes now session_ttl_ms gone_ttl_ms
local session, lineage, gone = KEYS[1], KEYS[2], KEYS[3]
if redis.call("EXISTS", session) == 1 then
  return "OK"
end
redis.call(
  "HSET", session, "tenant", ARGV[1], "model", ARGV[2], "fingerprint", ARGV[3], "head", "", "length", "0",
  "end", "raw", "created", ARGV[5], "updated", ARGV[5], "running", "", "fence", "0-", "state_bytes", ARGV[4],
  "stored_bytes", "0", "turns", "0", "kept", "0", "stored", "1"
)
redis.call("HSET", lineage, "b:0", "1", "next", "1", "version", "0")
redis.call("PEXPIRE", session, ARGV[6])
redis.call("PEXPIRE", lineage, math.ceil(ARGV[6] * 1.02))
redis.call("SET", gone, ARGV[1], "PX", ARGV[7])
return "OK"
