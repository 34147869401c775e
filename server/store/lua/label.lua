#!lua
-- Write fields of a session's record that nothing but its caller knows the meaning of, and in "label_bytes" how many
-- bytes those take that are written here: each caller writes the same fields or a part of them. Returns OK or GONE.
-- KEYS: session
-- ARGV: [field value]...
local session, grown = KEYS[1], 0
if redis.call("EXISTS", session) == 0 then
  return "GONE"
end
for i = 1, #ARGV, 2 do
  grown = grown + #ARGV[i + 1] - redis.call("HSTRLEN", session, ARGV[i])
  redis.call("HSET", session, ARGV[i], ARGV[i + 1])
end
redis.call("HINCRBY", session, "label_bytes", grown)
return "OK"
