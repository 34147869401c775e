#!lua flags=allow-oom
-- Put deliveries that a worker has not begun before everybody again. Those that are no longer its own are left alone.
-- KEYS: queue [stream queued]...
-- ARGV: group worker [id gid]...
for i = 3, #ARGV, 2 do
  local k = i - 1
  local pending = redis.pcall("XPENDING", KEYS[k], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] and pending[1][2] == ARGV[2] then
    local entry = redis.call("XRANGE", KEYS[k], ARGV[i], ARGV[i])[1]
    redis.call("XACK", KEYS[k], ARGV[1], ARGV[i])
    redis.call("XDEL", KEYS[k], ARGV[i])
    local id = redis.call("XADD", KEYS[1], "*", unpack(entry and entry[2] or { "generation", ARGV[i + 1] }))
    redis.call("SET", KEYS[k + 1], id .. " ", "XX", "KEEPTTL")
  end
end
return "OK"
