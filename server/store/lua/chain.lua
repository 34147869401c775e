#!lua flags=no-writes
-- Walk the turns back from one to the root, to one of the stops, or for `count` of them. Returns id, bytes, id, bytes
-- and so on, newest first, and ends where a turn is missing or can't be read: the caller names what is wrong with it.
-- Of a turn's bytes (server/store/codec.py) this knows where the header is and its field "parent".
-- KEYS: turns
-- ARGV: turn_id count [stop]...
local stops = {}
for i = 3, #ARGV do
  stops[ARGV[i]] = true
end
local found, id = {}, ARGV[1]
for _ = 1, tonumber(ARGV[2]) do
  local data = not stops[id] and redis.call("HGET", KEYS[1], id)
  if not data then
    break
  end
  found[#found + 1] = id
  found[#found + 1] = data
  local a, b, c, d = string.byte(data, 6, 9)
  local readable, header = pcall(function()
    return cjson.decode(string.sub(data, 10, 9 + a + 256 * (b + 256 * (c + 256 * d))))
  end)
  if not readable or type(header) ~= "table" or type(header.parent) ~= "string" then
    break
  end
  id = string.match(id, "^turn_[^_]*_") .. header.parent
end
return found
