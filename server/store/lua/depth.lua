#!lua flags=no-writes
-- How many turns wait for a worker, in these streams or to enter one. Returns it, and the names of all readers.
-- KEYS: queue waiting [stream]...
-- ARGV: group
local waiting, names = redis.call("ZCARD", KEYS[2]), {}
for i = 1, #KEYS do
  if i ~= 2 then
    local pending = redis.pcall("XPENDING", KEYS[i], ARGV[1])
    waiting = waiting + redis.call("XLEN", KEYS[i]) - (pending.err and 0 or pending[1])
  end
end
for _, flat in ipairs(redis.pcall("XINFO", "CONSUMERS", KEYS[1], ARGV[1])) do
  for i = 1, #flat, 2 do
    if flat[i] == "name" then
      names[#names + 1] = flat[i + 1]
    end
  end
end
return { math.max(0, waiting), names }
