#!lua flags=allow-oom
-- Say that a worker lives. A full store must not make its workers look dead: nobody would empty it.
-- KEYS: alive workers
-- ARGV: worker info now alive_ms listed_ms
redis.call("SET", KEYS[1], ARGV[2], "PX", ARGV[4])
redis.call("ZADD", KEYS[2], ARGV[3], ARGV[1])
redis.call("PEXPIRE", KEYS[2], ARGV[5])
return "OK"
