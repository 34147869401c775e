#!lua
-- Append events under the fence and publish them. Events already there are skipped, so a repeat is harmless.
-- Returns OK, CANCEL (appended; the end was asked for), FENCED, or HOLE when an event before these is missing.
-- KEYS: gen events
-- ARGV: fence events_ttl_ms channel [sequence type data]...
local gen, events = KEYS[1], KEYS[2]
local held = redis.call("HMGET", gen, "fence", "status", "cancel")
if held[1] ~= ARGV[1] then
  return "FENCED"
end
local last = 0
local top = redis.call("XREVRANGE", events, "+", "-", "COUNT", 1)
if top[1] then
  last = tonumber(string.match(top[1][1], "^%d+"))
end
for i = 4, #ARGV, 3 do
  local sequence = tonumber(ARGV[i])
  if sequence > last then
    if held[2] ~= "running" then
      return "FENCED"
    end
    if sequence > last + 1 then
      return "HOLE"
    end
    redis.call("XADD", events, ARGV[i] .. "-0", "type", ARGV[i + 1], "data", ARGV[i + 2])
    redis.call("PUBLISH", ARGV[3], ARGV[i] .. " " .. ARGV[i + 1] .. " " .. ARGV[i + 2])
    last = sequence
  end
end
-- Renewed at half-life: an append then costs one write, not three.
local ttl = tonumber(ARGV[2])
if redis.call("PTTL", events) < ttl / 2 or redis.call("PTTL", gen) < ttl / 2 then
  redis.call("PEXPIRE", events, ttl)
  redis.call("PEXPIRE", gen, ttl)
end
if held[3] then
  return "CANCEL"
end
return "OK"
