#!lua flags=no-writes
-- Of every stored turn its id, the beginning of its bytes up to the tokens, and how many bytes it has.
-- Of a turn's bytes (server/store/codec.py) this knows where the header is.
-- KEYS: turns
-- ARGV:
local found = {}
local all = redis.call("HGETALL", KEYS[1])
for i = 1, #all, 2 do
  local data = all[i + 1]
  local a, b, c, d = string.byte(data, 6, 9)
  local header = d and a + 256 * (b + 256 * (c + 256 * d)) or 0
  found[#found + 1] = all[i]
  found[#found + 1] = string.sub(data, 1, 9 + header)
  found[#found + 1] = #data
end
return found
