#!lua
-- Write fields of a session's record that nothing but its caller knows the meaning of. Returns OK or GONE.
-- KEYS: session
-- ARGV: [field value]...
if redis.call("EXISTS", KEYS[1]) == 0 then
  return "GONE"
end
for i = 1, #ARGV, 2 do
  redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1])
end
return "OK"
