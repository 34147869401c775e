#!lua flags=allow-oom
-- Delete a session and what its generations left, the records of its responses among it; with the last branch of a
-- lineage also all that the lineage stored. Of a record (server/store/responses.py) this knows that it begins with its
-- session.
-- Returns {"OK"}, {"SHARED"} (other branches are listed: what only this one needed is the caller's to prune) or
-- {"BUSY", running generation}. A repeat answers the same.
-- KEYS: session blocker lineage turns snaps blocks responses response_order [trace]...
-- ARGV: session_id blocker_id branch
local lineage, responses = KEYS[3], KEYS[7]
local running = redis.call("HGET", KEYS[1], "running")
if running and running ~= "" and (running ~= ARGV[2] or redis.call("EXISTS", KEYS[2]) == 1) then
  return { "BUSY", running }
end
redis.call("DEL", KEYS[1])
for i = 9, #KEYS do
  redis.call("DEL", KEYS[i])
end
redis.call("HDEL", lineage, "b:" .. ARGV[3])
for _, field in ipairs(redis.call("HKEYS", lineage)) do
  if string.sub(field, 1, 2) == "b:" then
    redis.call("HINCRBY", lineage, "version", 1)
    for _, own in ipairs(redis.call("ZRANGE", KEYS[8], 0, -1)) do
      local record = redis.call("HGET", responses, own) or ""
      if string.match(record, '^{"session":"([^"]+)"') == ARGV[1] then
        local ending = redis.call("HSTRLEN", responses, own .. ":end")
        redis.call("HDEL", responses, own, own .. ":end")
        redis.call("ZREM", KEYS[8], own)
        redis.call("HINCRBY", responses, "bytes", -(#record + ending))
      end
    end
    return { "SHARED" }
  end
end
redis.call("DEL", lineage, KEYS[4], KEYS[5], KEYS[6], responses, KEYS[8])
return { "OK" }
