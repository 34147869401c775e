#!lua
-- Take a turn in: the session exists (or is made here), is idle, and its head is the expected one.
-- Returns {"OK"}, {"GONE"}, {"TAKEN"} (to be made here, but the lineage exists), {"BUSY", running generation}, {"MISMATCH"}
-- or, for an idempotency key that was seen, {"SEEN", what accept stored for it}. A repeat answers OK.
-- `blocker` is the key of the generation the caller saw running: one that has expired does not hold the session.
-- seen: what to store under the key `idem`, empty where the request has no idempotency key.
-- KEYS: session gen blocker turns snaps blocks lineage gone idem gens
-- ARGV: gid session_id head blocker_id fresh tenant model fingerprint state_bytes stored request now session_ttl_ms events_ttl_ms gone_ttl_ms seen
local session, gen, blocker, lineage, gone = KEYS[1], KEYS[2], KEYS[3], KEYS[7], KEYS[8]
local gid, tenant, now, stored = ARGV[1], ARGV[6], ARGV[12], ARGV[10]
local session_ttl, events_ttl = tonumber(ARGV[13]), tonumber(ARGV[14])

if redis.call("EXISTS", gen) == 1 then
  return { "OK" }
end
if ARGV[16] ~= "" then
  local seen = redis.call("GET", KEYS[9])
  if seen then
    return { "SEEN", seen }
  end
end
local held = redis.call("HMGET", session, "running", "head")
if ARGV[5] == "1" then
  -- A lineage outlives its first branch where that was forked: its branches are numbered already.
  if held[1] or redis.call("EXISTS", lineage) == 1 then
    return { "TAKEN" }
  end
  redis.call(
    "HSET", session, "tenant", tenant, "model", ARGV[7], "fingerprint", ARGV[8], "head", "", "length", "0",
    "end", "raw", "created", now, "updated", now, "fence", "0-", "state_bytes", ARGV[9],
    "stored_bytes", "0", "turns", "0", "kept", "0", "stored", stored
  )
  if stored == "1" then
    redis.call("HSET", lineage, "b:0", "1", "next", "1", "version", "0")
  end
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
if ARGV[16] ~= "" then
  -- Longer than the generation lasts that it names, however long that runs.
  redis.call("SET", KEYS[9], ARGV[16], "PX", math.max(events_ttl * 2, 86400000))
end
redis.call("HSET", session, "running", gid)
if stored == "1" then
  -- So that deleting the session finds what its generations left.
  redis.call("ZREMRANGEBYSCORE", KEYS[10], "-inf", now - events_ttl / 500)
  redis.call("ZADD", KEYS[10], now, gid)
  redis.call("PEXPIRE", KEYS[10], 2 * events_ttl)
  -- What the session needs must not expire under the running turn, nor before the session does.
  redis.call("PEXPIRE", session, session_ttl)
  for _, key in ipairs({ KEYS[4], KEYS[5], KEYS[6], lineage }) do
    if redis.call("PTTL", key) < session_ttl then
      redis.call("PEXPIRE", key, math.ceil(session_ttl * 1.02))
    end
  end
  redis.call("SET", gone, tenant, "PX", ARGV[15])
else
  redis.call("PEXPIRE", session, events_ttl)
end
return { "OK" }
