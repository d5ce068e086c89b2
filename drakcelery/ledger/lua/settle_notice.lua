-- A notice was sent, or is tried again later, or is given up. Once only, however many believe to have it.
--
-- KEYS[1] drak:notices         zset; the notice leaves it, and comes back changed where it is tried again
-- KEYS[2] drak:notices:counts  hash; owner: ingress; sent, failed tries, given up
-- KEYS[3] drak:notices:dead    list, newest first: what was given up; owner: ingress; expires a week after the last
-- ARGV    notice, what became of it (sent, retried, given_up), what it is from now on (JSON), delay in s
-- returns 1, or 0 where somebody else has settled it
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.pcall('HINCRBY', KEYS[2], ARGV[2], 1)
if ARGV[2] == 'retried' then
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[1], string.format('%.6f', tonumber(time[1]) + tonumber(ARGV[4])), ARGV[3])
  redis.call('EXPIRE', KEYS[1], 7 * 24 * 3600)
elseif ARGV[2] == 'given_up' then
  redis.pcall('LPUSH', KEYS[3], ARGV[3])
  redis.pcall('LTRIM', KEYS[3], 0, 99)
  redis.call('EXPIRE', KEYS[3], 7 * 24 * 3600)
end
return 1
