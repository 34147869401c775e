#!lua flags=allow-oom
-- Ask for a generation's end. Returns GONE, ENDED (already), ASKED (running: flagged), or OK: it was still queued
-- and is cancelled here and now, so that no worker will begin it.
-- KEYS: gen events session lineage turns snaps blocks
-- ARGV: gid now result data channel events_ttl_ms branch
local gen, events, session = KEYS[1], KEYS[2], KEYS[3]
local status = redis.call("HGET", gen, "status")
if not status then
  return "GONE"
end
if status == "running" then
  redis.call("HSET", gen, "cancel", "1")
  return "ASKED"
end
if status ~= "queued" then
  return "ENDED"
end
local held = redis.call("HMGET", session, "running", "stored")
if held[1] == ARGV[1] then
  if held[2] == "0" then
    -- Made for this request alone.
    redis.call("DEL", session)
    if redis.call("HDEL", KEYS[4], "b:" .. ARGV[7]) == 1 then
      redis.call("HINCRBY", KEYS[4], "version", 1)
      local shared = false
      for _, field in ipairs(redis.call("HKEYS", KEYS[4])) do
        shared = shared or string.sub(field, 1, 2) == "b:"
      end
      if not shared then
        redis.call("DEL", KEYS[4], KEYS[5], KEYS[6], KEYS[7])
      end
    end
  else
    redis.call("HSET", session, "running", "")
  end
end
redis.call("HSET", gen, "status", "cancelled", "cancel", "1", "result", ARGV[3], "updated", ARGV[2], "request", "")
redis.call("XADD", events, "1-0", "type", "done", "data", ARGV[4])
redis.call("PUBLISH", ARGV[5], "1 done " .. ARGV[4])
redis.call("PEXPIRE", gen, ARGV[6])
redis.call("PEXPIRE", events, ARGV[6])
return "OK"
