#!lua flags=allow-oom
-- End a generation that keeps nothing, under the fence: the session is idle again (or gone, where it was made for
-- this request alone), the status, the last event, TTLs. A full store must not keep a session busy.
-- Returns OK, FENCED or HOLE (an event before the last is missing). A repeat whose result is the one stored answers OK.
-- KEYS: gen events session lineage turns snaps blocks gone
-- ARGV: gid fence now status result sequence type data channel events_ttl_ms branch
local gen, events, session = KEYS[1], KEYS[2], KEYS[3]
local held = redis.call("HMGET", gen, "fence", "status", "result")
if held[1] ~= ARGV[2] then
  return "FENCED"
end
if held[2] ~= "running" then
  return held[3] == ARGV[5] and "OK" or "FENCED"
end
local owner = redis.call("HMGET", session, "running", "fence", "stored")
-- A session that has expired under its turn is nobody's: its client is still told the end.
if (owner[1] or owner[2]) and (owner[1] ~= ARGV[1] or owner[2] ~= ARGV[2]) then
  return "FENCED"
end
local top = redis.call("XREVRANGE", events, "+", "-", "COUNT", 1)
local last = top[1] and tonumber(string.match(top[1][1], "^%d+")) or 0
if tonumber(ARGV[6]) ~= last + 1 then
  return "HOLE"
end

if owner[3] == "0" then
  redis.call("DEL", session, KEYS[8])
  -- A fork that was made for this request; the branch it was forked from has the rest, if it is still there.
  if redis.call("HDEL", KEYS[4], "b:" .. ARGV[11]) == 1 then
    redis.call("HINCRBY", KEYS[4], "version", 1)
    local shared = false
    for _, field in ipairs(redis.call("HKEYS", KEYS[4])) do
      shared = shared or string.sub(field, 1, 2) == "b:"
    end
    if not shared then
      redis.call("DEL", KEYS[4], KEYS[5], KEYS[6], KEYS[7])
    end
  end
elseif owner[3] then
  redis.call("HSET", session, "updated", ARGV[3], "running", "")
end
local events_ttl = tonumber(ARGV[10])
redis.call("HSET", gen, "status", ARGV[4], "result", ARGV[5], "updated", ARGV[3], "request", "")
redis.call("XADD", events, ARGV[6] .. "-0", "type", ARGV[7], "data", ARGV[8])
redis.call("PUBLISH", ARGV[9], ARGV[6] .. " " .. ARGV[7] .. " " .. ARGV[8])
for _, key in ipairs({ gen, events }) do
  if redis.call("PTTL", key) < events_ttl * 0.9 then
    redis.call("PEXPIRE", key, events_ttl)
  end
end
return "OK"
