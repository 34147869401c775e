#!lua
-- Note a generation that is about to be accepted and then queued, the newest `most` of them.
-- KEYS: intended
-- ARGV: gid now ttl_ms most
redis.call("ZADD", KEYS[1], ARGV[2], ARGV[1])
redis.call("ZREMRANGEBYRANK", KEYS[1], 0, -1 - ARGV[4])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return "OK"
