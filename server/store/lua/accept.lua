#!lua
-- Take a turn in: the session exists (or is made here), is idle, and its head is the expected one.
-- Returns {"OK"}, {"GONE"}, {"BUSY", running generation} or {"MISMATCH"}. A repeat answers OK.
-- `blocker` is the key of the generation the caller saw running: one that has expired does not hold the session.
-- KEYS: session gen blocker turns snaps blocks gone
-- ARGV: gid session_id head blocker_id fresh tenant model fingerprint state_bytes stored request now session_ttl_ms events_ttl_ms gone_ttl_ms
local session, gen, blocker, gone = KEYS[1], KEYS[2], KEYS[3], KEYS[7]
local gid, tenant, now, stored = ARGV[1], ARGV[6], ARGV[12], ARGV[10]
local session_ttl, events_ttl = tonumber(ARGV[13]), tonumber(ARGV[14])

if redis.call("EXISTS", gen) == 1 then
  return { "OK" }
end
local held = redis.call("HMGET", session, "running", "head")
if ARGV[5] == "1" then
  redis.call(
    "HSET", session, "tenant", tenant, "model", ARGV[7], "fingerprint", ARGV[8], "head", "", "length", "0",
    "end", "raw", "created", now, "updated", now, "fence", "0-", "state_bytes", ARGV[9],
    "stored_bytes", "0", "turns", "0", "stored", stored
  )
else
  local running = held[1]
  if not running then
    return { "GONE" }
  end
  if running ~= "" and (running ~= ARGV[4] or redis.call("EXISTS", blocker) == 1) then
    return { "BUSY", running }
  end
  if held[2] ~= ARGV[3] then
    return { "MISMATCH" }
  end
  stored = redis.call("HGET", session, "stored")
end

redis.call(
  "HSET", gen, "session", ARGV[2], "tenant", tenant, "status", "queued", "request", ARGV[11],
  "created", now, "updated", now
)
redis.call("PEXPIRE", gen, events_ttl)
redis.call("HSET", session, "running", gid)
if stored == "1" then
  -- What the session needs must not expire under the running turn, nor before the session does.
  redis.call("PEXPIRE", session, session_ttl)
  for _, key in ipairs({ KEYS[4], KEYS[5], KEYS[6] }) do
    if redis.call("PTTL", key) < session_ttl then
      redis.call("PEXPIRE", key, math.ceil(session_ttl * 1.02))
    end
  end
  redis.call("SET", gone, tenant, "PX", ARGV[15])
else
  redis.call("PEXPIRE", session, events_ttl)
end
return { "OK" }
