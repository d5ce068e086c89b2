-- Take the notice that is due first, for a while: whoever dies with it leaves it to the next (at least once).
--
-- KEY notices  notice (JSON) -> time at which to send
-- ARG seconds  after which it is due again
-- returns the notice, or nil if none is due
local at = now()
local first = redis.call('ZRANGE', KEY.notices, 0, 0, 'WITHSCORES')
if not first[1] or tonumber(first[2]) > tonumber(at) then
  return nil
end
redis.call('ZADD', KEY.notices, later(at, ARG.seconds), first[1])
return first[1]
