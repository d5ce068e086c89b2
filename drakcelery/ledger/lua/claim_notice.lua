-- Take the notice that is due first, for a while: whoever dies with it leaves it to the next (at least once).
--
-- KEYS[1] drak:notices  zset, notice (JSON) -> time at which to send; owner: ingress
-- ARGV    seconds after which it is due again
-- returns the notice, or nil where none is due
local time = redis.call('TIME')
local now = tonumber(string.format('%d.%06d', time[1], time[2]))
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if not first[1] or tonumber(first[2]) > now then
  return nil
end
redis.call('ZADD', KEYS[1], string.format('%.6f', now + tonumber(ARGV[1])), first[1])
return first[1]
