#!lua flags=allow-oom
-- Deliver up to `count` waiting turns to a worker: the oldest of those that wait for it or for anybody. Where there are
-- none, those of others: `steal_ms` old, since who has room reads its own at once; or any, of a worker that is dead.
-- For each that is delivered, its tenant's next before the same worker enters the stream, at its end (enqueue.lua): so
-- tenants take turns. `queued` is the beginning of the keys that say where a generation is, of the queue's hash tag.
-- Makes what is missing: the streams, the group, and the worker's name among the readers.
-- Returns {names of all readers}, {whose stream, id, generation}...
-- KEYS: queue own waiting [stream alive]...
-- ARGV: group worker count steal_ms queued maxlen [peer]...
local queue, own, waiting, group, worker, left = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], tonumber(ARGV[3])
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

local names, readers = {}, {}
for _, flat in ipairs(redis.call("XINFO", "CONSUMERS", queue, group)) do
  names[#names + 1] = fields(flat).name
  readers[names[#names]] = true
end
local found = { names }
local streams = { [""] = queue, [worker] = own }
for i = 7, #ARGV do
  streams[ARGV[i]] = KEYS[2 * i - 10]
end

-- What nobody has got of a stream, up to `count`, oldest first.
local function undelivered(stream, count)
  for _, flat in ipairs(redis.pcall("XINFO", "GROUPS", stream)) do
    local info = fields(flat)
    if info.name == group then
      return redis.call("XRANGE", stream, "(" .. info["last-delivered-id"], "+", "COUNT", count)
    end
  end
  return {}
end

-- The oldest of them: when it was added, ms and a number within the ms; when it was enqueued, µs; and whose it is.
local function oldest(stream)
  local entry = undelivered(stream, 1)[1]
  if entry then
    local ms, number = string.match(entry[1], "^(%d+)-(%d+)$")
    local since = tonumber(entry[2][6] or ms * 1000)
    return { ms = tonumber(ms), number = tonumber(number), since = since, tenant = entry[2][4] or "" }
  end
end

-- Whether one goes before another: a tenant's own as they were enqueued, different tenants' as they entered.
local function first(one, other)
  if not other or not one then
    return one ~= nil
  elseif one.tenant == other.tenant then
    return one.since < other.since
  end
  return one.ms < other.ms or (one.ms == other.ms and one.number < other.number)
end

-- Let one that waits enter its stream, or everybody's where that stream is no more.
local function enter(member)
  local owner, tenant, since, gid = string.match(member, "^([^\n]*)\n([^\n]*)\n(%d+)\n(.*)$")
  local stream = streams[owner]
  if not (stream and (owner == "" or readers[owner]) and redis.call("EXISTS", stream) == 1) then
    stream, owner = queue, ""
  end
  redis.call("ZREM", waiting, member)
  local id = redis.call(
    "XADD", stream, "MAXLEN", "~", ARGV[6], "*", "generation", gid, "tenant", tenant, "since", since
  )
  redis.call("SET", ARGV[5] .. gid, id .. " " .. owner, "XX", "KEEPTTL")
end

-- The first that waits of each tenant before each worker, where none of that tenant's is in the stream: who was
-- delivered by a read that waits, or withdrawn, or was before a worker that is gone, has let nobody in.
local function enter_all()
  local present, from = {}, "-"
  while true do
    local member = redis.call("ZRANGEBYLEX", waiting, from, "+", "LIMIT", 0, 1)[1]
    if not member then
      return
    end
    local pair, owner, tenant = string.match(member, "^(([^\n]*)\n([^\n]*)\n)")
    from = "(" .. pair .. "\255"
    -- One that is unknown here alone: the caller looks again, and knows it then.
    if streams[owner] or not readers[owner] then
      local stream = streams[owner] or queue
      if not present[stream] then
        present[stream] = {}
        for _, entry in ipairs(undelivered(stream, 1000)) do
          present[stream][entry[2][4] or ""] = true
        end
      end
      if not present[stream][tenant] then
        present[stream][tenant] = true
        enter(member)
      end
    end
  end
end

local function deliver(stream, owner)
  local read = redis.call("XREADGROUP", "GROUP", group, worker, "COUNT", 1, "STREAMS", stream, ">")
  local entry = read[1][2][1]
  found[#found + 1] = { owner, entry[1], entry[2][2] }
  left = left - 1
  local pair = owner .. "\n" .. (entry[2][4] or "") .. "\n"
  local member = redis.call("ZRANGEBYLEX", waiting, "[" .. pair, "(" .. pair .. "\255", "LIMIT", 0, 1)[1]
  if member then
    enter(member)
  end
end

enter_all()
while left > 0 do
  local mine, shared = oldest(own), oldest(queue)
  if first(shared, mine) then
    deliver(queue, "")
  elseif mine then
    deliver(own, worker)
  else
    break
  end
end
if #found == 1 then
  local now = redis.call("TIME")
  local before = now[1] * 1e6 + now[2] - ARGV[4] * 1000
  for i = 7, #ARGV do
    local k = 2 * i - 10
    local theirs = oldest(KEYS[k])
    while left > 0 and theirs and (theirs.since <= before or redis.call("EXISTS", KEYS[k + 1]) == 0) do
      deliver(KEYS[k], ARGV[i])
      theirs = oldest(KEYS[k])
    end
  end
end
return found
