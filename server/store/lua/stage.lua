#!lua
-- Put a part of what is being imported where the session will look for it, with a life so short that an import which
-- never ends leaves nothing: import.lua makes it last. A repeat writes the same again.
-- KEYS: hash
-- ARGV: stage_ms [field value]...
for i = 2, #ARGV, 2 do
  redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return "OK"
