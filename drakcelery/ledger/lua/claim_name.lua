-- Claim a host name for a machine, or renew the claim: a name belongs to one machine at a time. It does not run out by
-- itself, for nobody can renew it while Redis is away: who wants it says which renewal he has heard nothing after.
--
-- KEY lease     the machine that has the name; expires long after the last renewal
-- ARG machine   key of the machine
-- ARG role      of the worker
-- ARG ttl       in s
-- ARG lasts     for how many ms the claim holds
-- ARG given_up  the renewal of another machine that was followed by silence ('' for none)
-- ARG told*     field, value, … of what is told of the machine
-- returns nil, or the fields of the other machine that has the name
local key, renewed = unpack(redis.call('HMGET', KEY.lease, 'key', 'renewed'))
if key and key ~= ARG.machine then
  if renewed ~= ARG.given_up then
    return redis.call('HGETALL', KEY.lease)
  end
  redis.call('DEL', KEY.lease)
end
redis.call('HSET', KEY.lease, 'key', ARG.machine, 'renewed', now(), 'lasts', ARG.lasts, 'role:' .. ARG.role, 1,
  unpack(ARG.told))
redis.call('EXPIRE', KEY.lease, ARG.ttl)
return nil
