#!lua flags=allow-oom
-- Give a worker up to `count` deliveries that nobody renews: for `idle_ms`, or for `dead_ms` where the worker that has
-- them has no heartbeat; but none of those that the worker itself has and is at work on, lest they count as delivered
-- again. What a dead worker leaves empty goes: its stream, and its name among the readers.
-- Returns {names of all readers}, {whose stream, id, generation, times delivered}...
-- KEYS: queue [stream alive]...
-- held: "whose stream, id" with a space between, in lines.
-- ARGV: group worker idle_ms dead_ms count held [peer]...
local group, worker, left = ARGV[1], ARGV[2], tonumber(ARGV[5])
local idle_ms, dead_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
local streams, dead = { { KEYS[1], "" } }, {}
for i = 7, #ARGV do
  local k = 2 * i - 12
  streams[#streams + 1] = { KEYS[k], ARGV[i] }
  if ARGV[i] ~= worker and redis.call("EXISTS", KEYS[k + 1]) == 0 then
    dead[ARGV[i]] = KEYS[k]
  end
end

local mine = {}
for line in string.gmatch(ARGV[6], "[^\n]+") do
  mine[line] = true
end

-- Of a stream or group that does not exist nothing is pending.
local function pending(stream, ...)
  local answer = redis.pcall("XPENDING", stream, group, ...)
  return answer.err and {} or answer
end

local found = { {} }
for _, stream in ipairs(streams) do
  for _, held in ipairs(pending(stream[1], "IDLE", math.min(idle_ms, dead_ms), "-", "+", 1000)) do
    local at_work = held[2] == worker and mine[stream[2] .. " " .. held[1]]
    if left > 0 and not at_work and held[3] >= (dead[held[2]] and dead_ms or idle_ms) then
      -- Nothing, where the entry was taken out of the stream.
      local entry = redis.call("XCLAIM", stream[1], group, worker, 0, held[1])[1]
      if entry then
        found[#found + 1] = { stream[2], held[1], entry[2][2], held[4] + 1 }
        left = left - 1
      end
    end
  end
end

local readers = redis.pcall("XINFO", "CONSUMERS", KEYS[1], group)
for _, flat in ipairs(readers) do
  local info = {}
  for i = 1, #flat, 2 do
    info[flat[i]] = flat[i + 1]
  end
  local stream = dead[info.name]
  if stream and info.idle >= dead_ms and info.pending == 0 and redis.call("XLEN", stream) == 0 then
    redis.call("DEL", stream)
    for _, other in ipairs(streams) do
      if redis.call("EXISTS", other[1]) == 1 and #pending(other[1], "-", "+", 1, info.name) == 0 then
        redis.call("XGROUP", "DELCONSUMER", other[1], group, info.name)
      end
    end
  else
    found[1][#found[1] + 1] = info.name
  end
end
return found
