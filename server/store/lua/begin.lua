#!lua flags=allow-oom
-- Make a generation its caller's: the session's fence goes up and the generation carries it.
-- Returns {"OK", fence} or {"ENDED"}: done, cancelled, failed, expired, or no longer the session's.
-- KEYS: gen session
-- ARGV: gid nonce now events_ttl_ms
local gen, session = KEYS[1], KEYS[2]
local status = redis.call("HGET", gen, "status")
if status ~= "queued" and status ~= "running" then
  return { "ENDED" }
end
local held = redis.call("HMGET", session, "running", "fence", "stored")
if held[1] ~= ARGV[1] then
  return { "ENDED" }
end
local fence = (tonumber(string.match(held[2], "^%d+")) + 1) .. "-" .. ARGV[2]
redis.call("HSET", session, "fence", fence)
redis.call("HSET", gen, "status", "running", "fence", fence, "updated", ARGV[3])
redis.call("PEXPIRE", gen, ARGV[4])
if held[3] == "0" then
  redis.call("PEXPIRE", session, ARGV[4])
end
return { "OK", fence }
