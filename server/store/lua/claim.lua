#!lua flags=allow-oom
-- Deliver up to `count` waiting turns to a worker: the oldest of those that wait for it or for anybody. Where there are
-- none, those of others: `steal_ms` old, since who has room reads its own at once; or any, of a worker that is dead.
-- Makes what is missing: the streams, the group, and the worker's name among the readers.
-- Returns {names of all readers}, {whose stream, id, generation}...
-- KEYS: queue own [stream alive]...
-- ARGV: group worker count steal_ms [peer]...
local queue, own, group, worker, left = KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3])
if type(redis.pcall("XGROUP", "CREATECONSUMER", queue, group, worker)) ~= "number" then
  redis.call("XGROUP", "CREATE", queue, group, "0", "MKSTREAM")
  redis.call("XGROUP", "CREATECONSUMER", queue, group, worker)
end
if redis.call("EXISTS", own) == 0 then
  redis.call("XGROUP", "CREATE", own, group, "0", "MKSTREAM")
end

local function fields(flat)
  local named = {}
  for i = 1, #flat, 2 do
    named[flat[i]] = flat[i + 1]
  end
  return named
end

local names = {}
for _, flat in ipairs(redis.call("XINFO", "CONSUMERS", queue, group)) do
  names[#names + 1] = fields(flat).name
end
local found = { names }

-- When the oldest entry that nobody has got was added: ms and a number within the ms; nothing where there is none.
local function oldest(stream)
  for _, flat in ipairs(redis.pcall("XINFO", "GROUPS", stream)) do
    local info = fields(flat)
    if info.name == group then
      local entry = redis.call("XRANGE", stream, "(" .. info["last-delivered-id"], "+", "COUNT", 1)[1]
      if entry then
        local ms, number = string.match(entry[1], "^(%d+)-(%d+)$")
        return tonumber(ms), tonumber(number)
      end
    end
  end
end

local function deliver(stream, owner)
  local read = redis.call("XREADGROUP", "GROUP", group, worker, "COUNT", 1, "STREAMS", stream, ">")
  local entry = read[1][2][1]
  found[#found + 1] = { owner, entry[1], entry[2][2] }
  left = left - 1
end

while left > 0 do
  local ms, number = oldest(own)
  local shared_ms, shared_number = oldest(queue)
  if shared_ms and (not ms or shared_ms < ms or (shared_ms == ms and shared_number < number)) then
    deliver(queue, "")
  elseif ms then
    deliver(own, worker)
  else
    break
  end
end
if #found == 1 then
  local now = redis.call("TIME")
  local before = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[4]
  for i = 5, #ARGV do
    local k = 2 * i - 7
    local ms = oldest(KEYS[k])
    while left > 0 and ms and (ms <= before or redis.call("EXISTS", KEYS[k + 1]) == 0) do
      deliver(KEYS[k], ARGV[i])
      ms = oldest(KEYS[k])
    end
  end
end
return found
