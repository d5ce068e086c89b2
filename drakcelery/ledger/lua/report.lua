-- A host is alive, and has these places.
--
-- KEY host     what its slots do
-- KEY fleet    place -> when it was last seen
-- ARG status   as JSON
-- ARG lasts    milliseconds after which the host counts as gone
-- ARG memory   seconds for which a place is known that nobody has any more
-- ARG places*
local at = now()
redis.call('SET', KEY.host, ARG.status, 'PX', ARG.lasts)
for _, place in ipairs(ARG.places) do
  redis.call('ZADD', KEY.fleet, at, place)
end
redis.call('ZREMRANGEBYSCORE', KEY.fleet, '-inf', tonumber(at) - tonumber(ARG.memory))
redis.call('EXPIRE', KEY.fleet, ARG.memory)
